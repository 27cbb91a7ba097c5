"""A result as files for other programs: GLBs, textures, and a note of where it came from."""

import hashlib
import json
import shutil
from pathlib import Path

import bpy

from ..core.errors import AddonError
from ..core.file_names import file_stem
from ..core.i18n import tr
from .pictures import write_picture
from .result import parts_of, request_record
from .stand_in import stand_in


def export_result(context: bpy.types.Context, obj: bpy.types.Object, folder: Path) -> list[Path]:
    """Write a result into a folder of its own in `folder` and give what was written.

    <name>.glb, <name>_LOD1.glb, ..., UCX_<name>.glb: one object each, at the origin, modifiers applied. One file for each,
    because a program that knows nothing of LODs would show all of one file at once. textures/: the pictures of the
    materials. <name>.json: request, facts, faces and SHA-256 of each file.

    Raises:
        AddonError: OUTPUT_FAILED.
    """
    name = file_stem(obj.name)
    home = folder / name
    try:
        home.mkdir(parents=True, exist_ok=True)
        written, faces = [], {}
        for part in (obj, *parts_of(obj)):
            path = home / f"{file_stem(part.name)}.glb"
            _export(context, part, path)
            written.append(path)
            faces[path.name] = len(part.data.polygons)
        written += _export_textures(obj, home / "textures")
        note = home / f"{name}.json"
        note.write_text(
            json.dumps(_provenance(obj, home, written, faces), indent=1, ensure_ascii=False), encoding="utf-8"
        )
    except (OSError, RuntimeError) as error:
        raise AddonError("OUTPUT_FAILED", str(error).strip()) from error
    return [*written, note]


def _export(context: bpy.types.Context, obj: bpy.types.Object, path: Path) -> None:
    layer = context.view_layer
    selected, active = list(context.selected_objects), layer.objects.active
    with stand_in(obj) as copy:
        context.scene.collection.objects.link(copy)
        try:
            for other in selected:
                other.select_set(False)
            copy.select_set(True)
            layer.objects.active = copy
            bpy.ops.export_scene.gltf(
                filepath=str(path), export_format="GLB", use_selection=True, export_apply=True, export_animations=False
            )
        finally:
            context.scene.collection.objects.unlink(copy)
            for other in selected:
                other.select_set(True)
            layer.objects.active = active
    if not path.is_file():
        raise AddonError("OUTPUT_FAILED", tr("{name} was not written").format(name=path.name))


def _export_textures(obj: bpy.types.Object, folder: Path) -> list[Path]:
    images = {
        node.image: None
        for slot in obj.material_slots
        if slot.material is not None and slot.material.node_tree is not None
        for node in slot.material.node_tree.nodes
        if node.type == "TEX_IMAGE" and node.image is not None and node.image.size[0]
    }
    written = []
    for image in images:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{file_stem(Path(image.name).stem)}{_SUFFIXES.get(image.file_format, '.png')}"
        written.append(_write_image(image, path))
    return written


def _write_image(image: bpy.types.Image, path: Path) -> Path:
    """The file as it was packed or lies on the disk; what was painted since, or never had a file, as PNG. The datablock stays as it is."""
    source = Path(bpy.path.abspath(image.filepath)) if image.filepath else None
    if not image.is_dirty and image.packed_file is not None:
        path.write_bytes(image.packed_file.data)
    elif not image.is_dirty and source is not None and source.is_file():
        shutil.copyfile(source, path)
    else:
        path = write_picture(image, path.with_suffix(".png"), max_edge=max(image.size))
    return path


_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "OPEN_EXR": ".exr", "TARGA": ".tga", "TIFF": ".tif"}


def _provenance(obj: bpy.types.Object, home: Path, written: list[Path], faces: dict[str, int]) -> dict:
    own = obj.mvgamba
    return {
        "name": obj.name,
        "kind": own.kind.lower(),
        "prompt": own.prompt,
        "created": own.created,
        "seed": own.seed,
        "generator": own.generator,
        "reconstructor": own.reconstructor,
        "weights": own.weights,
        "backend": own.backend_version,
        "blender": bpy.app.version_string,
        "request": request_record(obj),
        "files": {
            path.relative_to(home).as_posix(): {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                **({"faces": faces[path.name]} if path.name in faces else {}),
            }
            for path in written
        },
    }
