"""Every import contract holds, and each is seen to fail on a planted fault."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("mvgamba", "blender_addon", "backend/mvgamba_backend", "protos/mvgamba_rpc")

FAULTS = [
    ("Inside mvgamba, imports go down", "mvgamba/render/planted.py", "import mvgamba.pipeline"),
    ("Inside mvgamba, imports go down", "mvgamba/meshing/planted.py", "import mvgamba.texturing"),
    ("Inside mvgamba, imports go down", "mvgamba/utils.py", ""),
    ("mvgamba knows no service and no Blender", "mvgamba/io/planted.py", "import grpc"),
    ("mvgamba knows no service and no Blender", "mvgamba/io/planted.py", "import bpy"),
    ("The contract depends on nothing of ours", "protos/mvgamba_rpc/v1/planted.py", "import mvgamba.types"),
    ("The service is thin", "backend/mvgamba_backend/errors.py", "import mvgamba_backend.jobs"),
    ("The service is thin", "backend/mvgamba_backend/helpers.py", ""),
    ("Jobs, store and engine run without gRPC", "backend/mvgamba_backend/jobs.py", "import grpc"),
    ("The add-on holds no model and no server", "blender_addon/core/planted.py", "import torch"),
    ("The service knows no Blender", "backend/mvgamba_backend/config.py", "import bpy"),
    ("Inside the add-on, ui -> scene -> core", "blender_addon/core/planted.py", "import blender_addon.ui"),
    ("core and client of the add-on run without Blender", "blender_addon/core/planted.py", "import bpy"),
    ("Blender's process has nothing of gRPC", "blender_addon/scene/planted.py", "import grpc"),
    ("Messages are touched only where they are translated", "backend/mvgamba_backend/jobs.py", "import mvgamba_rpc.v1"),
    ("The add-on's copy of the messages likewise", "blender_addon/scene/planted.py", "import blender_addon.client.rpc"),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the Python files, so that faults can be planted."""
    copy = tmp_path_factory.mktemp("house")
    for tree in TREES:
        for path in (ROOT / tree).rglob("*.py"):
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(str(folder / p) for p in (".", "protos", "backend"))}
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )


def test_all_contracts_hold(house):
    done = lint(house)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("contract", "path", "line"), FAULTS, ids=[f"{p}: {i or 'new module'}" for _, p, i in FAULTS])
def test_a_planted_fault_breaks_its_contract(house, contract, path, line):
    planted = house / path
    before = planted.read_text() if planted.exists() else None
    try:
        planted.write_text((before or "") + f"\n{line}\n")
        done = lint(house)
    finally:
        if before is None:
            planted.unlink()
        else:
            planted.write_text(before)
    assert done.returncode != 0
    assert f"{contract} BROKEN" in done.stdout or f"{contract}\n" in done.stdout, done.stdout + done.stderr
