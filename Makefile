# Verbs for people and for CI. Windows users: the README shows the same two lines without make.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# bpy 4.2 to 5.0 need Python 3.11, bpy 5.2 needs 3.13; a version that is not installed is skipped, and said so.
PYTHON311 ?= $(shell for p in python3.11 $(HOME)/.pyenv/versions/3.11*/bin/python; do $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)
PYTHON313 ?= $(shell for p in python3.13 $(HOME)/.pyenv/versions/3.13*/bin/python; do $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := -m pip install --quiet --disable-pip-version-check
BACKEND := $(CURDIR)/$(BIN)/mvgamba-backend

.PHONY: demo test window check bench protos addon gpu clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) --constraint constraints.txt --editable ".[dev]"
	touch $@

# Blender as a Python module: one environment and one run of the extension's tests for each version.
BLENDERS := bpy42 bpy45 bpy50 bpy52
bpy42_VERSION := 4.2.23
bpy45_VERSION := 4.5.15
bpy50_VERSION := 5.0.1
bpy52_VERSION := 5.2.3
bpy42_PYTHON = $(PYTHON311)
bpy45_PYTHON = $(PYTHON311)
bpy50_PYTHON = $(PYTHON311)
bpy52_PYTHON = $(PYTHON313)
# Tests without Blender in them run in the usual environment, and in these two: they differ in Python and numpy from each other.
bpy45_ONLY := -m blender
bpy50_ONLY := -m blender

define blender
.venv-$(1)/ready: tests/blender_addon/requirements.txt
	@test -n "$$($(1)_PYTHON)" || { echo "No Python for bpy $$($(1)_VERSION) here; set PYTHON311 or PYTHON313"; exit 1; }
	$$($(1)_PYTHON) -m venv .venv-$(1)
	.venv-$(1)/bin/python $$(PIP) bpy==$$($(1)_VERSION) --requirement tests/blender_addon/requirements.txt
	touch $$@

test-$(1): .venv/ready $$(if $$($(1)_PYTHON),.venv-$(1)/ready)
	$$(if $$($(1)_PYTHON),MVGAMBA_BACKEND=$$(BACKEND) .venv-$(1)/bin/python -m pytest -c tests/blender_addon/pytest.ini $$($(1)_ONLY) tests/blender_addon,@echo "Skipped: the extension in Blender $$($(1)_VERSION), because there is no Python for it here (set PYTHON311 or PYTHON313).")
endef
$(foreach one,$(BLENDERS),$(eval $(call blender,$(one))))

demo: .venv/ready .venv-bpy45/ready
	MVGAMBA_BACKEND=$(BACKEND) .venv-bpy45/bin/python tests/demo/run_demo.py --out out/demo

# The library and the service, then the extension in each Blender that can be had here, two at a time.
test: .venv/ready
	$(BIN)/python -m pytest tests --numprocesses=2 --dist=loadfile --durations=10
	$(MAKE) --jobs=2 --output-sync=target $(addprefix test-,$(BLENDERS))

# The extension in Blender's own window: Debian's Blenders, built on demand under .window (needs root on Debian, else it skips).
# MVGAMBA_WINDOW_LONG=1 makes the long measurements too.
window: .venv/ready
	MVGAMBA_WINDOW_ROOT=$(or $(MVGAMBA_WINDOW_ROOT),$(CURDIR)/.window) $(BIN)/python -m pytest tests/window -rs

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check

# Peers that are only measured against: matplotlib draws, numba is a twin, Open3D (1.1 GB) has an environment of its own.
.venv/bench-ready: .venv/ready
	$(BIN)/python $(PIP) --constraint constraints.txt --editable ".[bench]"
	touch $@

.venv-open3d/ready:
	$(PYTHON) -m venv .venv-open3d
	.venv-open3d/bin/python $(PIP) "open3d>=0.19" || echo "Open3D cannot be had here; its row will be missing."
	touch $@

bench: .venv/bench-ready .venv-open3d/ready
	MVGAMBA_OPEN3D_PYTHON=$(CURDIR)/.venv-open3d/bin/python $(BIN)/python tests/benchmarks/run_bench.py

protos: .venv/ready
	$(BIN)/python protos/generate.py

addon: .venv/ready .venv-bpy45/ready
	.venv-bpy45/bin/python blender_addon/build_addon.py --out dist

# On a machine with a CUDA device: correctness, training, timings, the whole job. Uses an interpreter that has torch with CUDA:
# make gpu GPU_PYTHON=python3 (the packages of pyproject.toml installed beside it). With OBJECTS=folder of GLBs it also trains the
# starter weights, in steps that are taken up again by the next call.
GPU_PYTHON ?= $(BIN)/python
gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),.venv/ready)
	$(GPU_PYTHON) tests/gpu/run.py $(if $(OBJECTS),--objects $(OBJECTS))

clean:
	rm -rf .venv $(addprefix .venv-,$(BLENDERS)) .venv-open3d .window build dist out
