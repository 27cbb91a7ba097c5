"""Makes results ready to be placed, as the script of another Blender that was started for it (`core.ready`).

    blender -b --factory-startup --python make_ready.py -- ORDER.json

That other Blender has the extension not enabled, so the modules that are needed come in under a package of another name.
"""

import importlib
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import bpy

PACKAGE = "mvgamba_apart"


def make_ready(order: dict[str, Any], importing: types.ModuleType, lods: types.ModuleType) -> dict[str, Any]:
    """Import files, make what belongs to the first, write all of it to a .blend, and give the names that it has there.

    Raises:
        RuntimeError: It could not be written.
    """
    made: list[bpy.types.Mesh | None] = []
    for path in order["paths"]:
        try:
            made.append(importing.import_mesh(bpy.context, Path(path), shade_smooth=order["shade_smooth"]))
        except Exception as error:  # noqa: BLE001 - who places it meets it again, and tells the person in their language
            sys.stderr.write(f"{Path(path).name}: {error}\n")
            made.append(None)
    first = made[0]
    coarser = lods.coarser(first, order["lods"]) if first is not None else []
    hull = None
    if first is not None and order["collision"] != "NONE":
        hull = lods.collision_mesh(first, order["collision"])
    everything = [mesh for mesh in (*made, *coarser, hull) if mesh is not None]
    if everything:
        bpy.data.libraries.write(order["blend"], set(everything), fake_user=True)
    return {
        "meshes": [mesh.name if mesh is not None else "" for mesh in made],
        "lods": [mesh.name for mesh in coarser],
        "collision": hull.name if hull is not None else "",
    }


def main(path: str) -> None:
    if hasattr(os, "nice"):
        os.nice(5)  # the user's Blender goes first
    home = Path(__file__).resolve().parents[1]
    for name, folder in ((PACKAGE, home), (f"{PACKAGE}.scene", home / "scene")):
        package = types.ModuleType(name)  # a stand-in: the real one registers classes, or imports all that does
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    importing, lods = (importlib.import_module(f"{PACKAGE}.scene.{name}") for name in ("importing", "lods"))
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    made = make_ready(order, importing, lods)
    Path(order["made"]).write_text(json.dumps(made), encoding="utf-8")  # last: with it all is there


if __name__ == "__main__":
    main(sys.argv[-1])
