# Verbs for people and for CI. Windows users: the README shows the same two lines without make.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# bpy 4.5 needs Python 3.11, bpy 5.2 needs 3.13; a version that is not installed is skipped, and said so.
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

.venv-bpy45/ready: tests/blender_addon/requirements.txt
	@test -n "$(PYTHON311)" || { echo "Python 3.11 is needed for bpy 4.5; set PYTHON311"; exit 1; }
	$(PYTHON311) -m venv .venv-bpy45
	.venv-bpy45/bin/python $(PIP) bpy==4.5.15 --requirement tests/blender_addon/requirements.txt
	touch $@

.venv-bpy52/ready: tests/blender_addon/requirements.txt
	$(PYTHON313) -m venv .venv-bpy52
	.venv-bpy52/bin/python $(PIP) bpy==5.2.3 --requirement tests/blender_addon/requirements.txt
	touch $@

demo: .venv/ready .venv-bpy45/ready
	MVGAMBA_BACKEND=$(BACKEND) .venv-bpy45/bin/python tests/demo/run_demo.py --out out/demo

# The library and the service, then the extension in each Blender that can be had here.
test: .venv/ready .venv-bpy45/ready $(if $(PYTHON313),.venv-bpy52/ready)
	$(BIN)/python -m pytest tests --durations=10
	MVGAMBA_BACKEND=$(BACKEND) .venv-bpy45/bin/python -m pytest -c tests/blender_addon/pytest.ini tests/blender_addon
ifeq ($(PYTHON313),)
	@echo "Skipped: the extension in Blender 5.2, because there is no Python 3.13 here (set PYTHON313)."
else
	MVGAMBA_BACKEND=$(BACKEND) .venv-bpy52/bin/python -m pytest -c tests/blender_addon/pytest.ini tests/blender_addon
endif

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
	rm -rf .venv .venv-bpy45 .venv-bpy52 .venv-open3d .window build dist out
