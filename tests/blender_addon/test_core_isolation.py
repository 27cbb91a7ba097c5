"""`core` and the package itself load without Blender."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "blender_addon" / "core").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", MODULES)
def test_core_module_loads_without_blender(module):
    program = f"""
import sys
sys.modules["bpy"] = sys.modules["mathutils"] = None  # importing either now raises
import blender_addon.core.{module}
assert not [name for name in sys.modules if name.split(".")[0] in ("torch", "mvgamba", "mvgamba_backend")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)


def test_the_package_itself_loads_without_blender():
    program = 'import sys; sys.modules["bpy"] = None; import blender_addon; blender_addon.register'
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)
