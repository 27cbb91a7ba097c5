"""Takes the shots of a stage: in this Blender, or as the script of another that was started for it.

    blender -b --factory-startup --python take_shots.py -- STAGE.blend SHOTS.json

So it imports nothing of the extension: that other Blender has it not enabled.
"""

import json
import os
import sys
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix


def take_shot(shot: dict) -> None:
    """Render one `core.shots.Shot`, given as a dict, from a scene of this file.

    Raises:
        OSError: The picture could not be written.
    """
    scene = bpy.data.scenes[shot["scene"]]
    camera = scene.camera
    camera.matrix_world = Matrix(shot["c2w"])
    camera.data.type, camera.data.sensor_fit, camera.data.angle = "PERSP", "AUTO", shot["angle"]
    camera.data.shift_x, camera.data.shift_y = shot["shift"]
    camera.data.clip_start, camera.data.clip_end = shot["clip"]
    scene.render.resolution_x = scene.render.resolution_y = shot["size"]
    path = Path(shot["path"])
    if path.suffix == ".npy":
        exr = path.with_suffix(".exr")
        _render(scene, exr)
        np.save(path, _read_depth(exr, shot["size"]) * np.float32(shot["depth_factor"]))
        exr.unlink()
    else:
        _render(scene, path)


def _render(scene: bpy.types.Scene, path: Path) -> None:
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True, scene=scene.name)
    if not path.is_file():
        raise OSError(f"no picture was written to {path}")


def _read_depth(path: Path, size: int) -> np.ndarray:
    """(size, size) float32 with the upper row first."""
    image = bpy.data.images.load(str(path))
    try:
        image.colorspace_settings.name = "Non-Color"
        pixels = np.empty(4 * size * size, dtype=np.float32)
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    depth, alpha = pixels.reshape(size, size, 4)[::-1, :, 0], pixels.reshape(size, size, 4)[::-1, :, 3]
    # Blender stores colours premultiplied; a surface that is half transparent still has one depth.
    solid = alpha > 0.5
    return np.where(solid & np.isfinite(depth), depth / np.maximum(alpha, 0.5), 0.0).astype(np.float32)


def main(stage: str, shots: str) -> None:
    """Take all shots of a file, and say on the standard output when one is there."""
    if hasattr(os, "nice"):
        os.nice(5)  # the user's Blender goes first
    with bpy.data.libraries.load(stage) as (source, target):
        target.scenes = source.scenes
    # Whatever scene is rendered, Blender renders it at the frame of the one that is open.
    bpy.context.scene.frame_current = target.scenes[0].frame_current
    for number, shot in enumerate(json.loads(Path(shots).read_text(encoding="utf-8")), start=1):
        take_shot(shot)
        sys.stdout.write(f"\nMVGAMBA SHOT {number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[-2:])
