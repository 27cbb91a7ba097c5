"""What a result was made from, back in the panel."""

from pathlib import Path

import bpy

from ..core.errors import AddonError
from ..core.request import ImageInput, JobRequest, TextInput, VariationInput, memory_word
from ..scene.pictures import load_picture

SIDES = ("FRONT", "RIGHT", "BACK", "LEFT")


def load_request(settings: bpy.types.PropertyGroup, request: JobRequest, *, seed: int) -> list[Path]:
    """Set the panel to a request, its seed fixed so that Generate makes the same again.

    What this version does not offer, such as a number of views, stays as it is. Gives the pictures that are gone.
    """
    gone: list[Path] = []
    source = request.source
    settings.source = {"text": "TEXT", "image": "IMAGE", "variation": "TEXT"}.get(request.kind, "CAPTURE")
    if isinstance(source, TextInput | VariationInput):
        settings.prompt, settings.negative_prompt = source.prompt, source.negative_prompt
    elif isinstance(source, ImageInput):
        settings.prompt = source.prompt
        gone = load_images(
            settings, [(source.image_path, "FRONT"), *((o.image_path, o.side.upper()) for o in source.others)]
        )
        _choose(settings, "background", source.background.upper())
        settings.use_elevation = source.elevation is not None
        settings.elevation = source.elevation or 0.0
    options = request.options
    _choose(settings, "quality", options.quality.upper())
    _choose(settings, "texture_size", str(options.texture_size))
    _choose(settings, "generator", options.generator or "AUTO")
    settings.seed, settings.seed_mode = seed, "FIXED"
    settings.target_faces, settings.use_refine = options.target_faces, options.refine
    settings.steps, settings.guidance, settings.candidates = (
        options.steps or 0,
        options.guidance or 0.0,
        options.candidates,
    )
    settings.use_recall, settings.use_distil = options.recall, options.distil_steps > 0
    settings.review_views = options.review_views
    settings.memory = memory_word(options.memory_mib)
    settings.device = "" if options.device == "auto" else options.device
    for name, key in (("capture_views", "views"), ("capture_size", "image_size")):
        _choose(settings, name, str(request.capture.get(key, "")))
    for name, key in (("capture_azimuth", "azimuth"), ("capture_margin", "margin"), ("capture_depth", "depth")):
        if key in request.capture:
            setattr(settings, name, request.capture[key])
    target = request.target
    _choose(settings, "capture_placement" if request.kind == "capture" else "placement", target.mode)
    _choose(settings, "size_axis", target.size_axis)
    _choose(settings, "source_after", target.source_after)
    settings.use_ground, settings.shade_smooth = target.use_ground, target.shade_smooth
    if target.size > 0.0:
        settings.target_size = target.size
    settings.collection = bpy.data.collections.get(target.collection_name) if target.collection_name else None
    return gone


def load_images(settings: bpy.types.PropertyGroup, pictures: list[tuple[Path, str]]) -> list[Path]:
    """Make (file, side) the pictures of the panel, packed into the file; gives those that cannot be read."""
    found, gone = [], []
    for path, side in pictures:
        try:
            image = load_picture(path)
        except AddonError:
            gone.append(path)
            continue
        image.pack()
        found.append((image, side))
    if found:
        settings.images.clear()
        for image, side in found:
            item = settings.images.add()
            item.image, item.side = image, side
        settings.active_image = 0
    return gone


def _choose(settings: bpy.types.PropertyGroup, name: str, value: str) -> None:
    if value in settings.bl_rna.properties[name].enum_items:
        setattr(settings, name, value)
