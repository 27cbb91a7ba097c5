"""Cut-outs as the generators expect pictures: square, the subject in the middle and of a known size."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from mvgamba.errors import InvalidImage, InvalidInput
from mvgamba.io.images import PICTURE_EDGE, read_picture
from mvgamba.multiview.background import CutOut, cut_out
from mvgamba.types import SidedImage, SourceImage

FILL = 0.8
"""Share of the frame that the longer edge of the subject's box takes."""
FEWEST_PIXELS = 64
"""A subject with fewer along the longer edge of its box is enlarged with a warning."""

SIDES: dict[str, tuple[float, float]] = {
    "front": (0.0, 0.0),
    "right": (90.0, 0.0),
    "back": (180.0, 0.0),
    "left": (270.0, 0.0),
    "top": (0.0, 90.0),
    "bottom": (0.0, -90.0),
}
"""Azimuth and elevation in degrees. Right is what lies to the right in the picture of the front."""
LEVEL = 10.0
"""Sides of less elevation, in degrees, see the whole height of the object."""


@dataclass(frozen=True, eq=False)
class FramedImage:
    """A picture that is ready, and what a person should know about it."""

    image: SourceImage
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SidedImages:
    """Pictures of one object from several sides, at one scale."""

    sides: tuple[SidedImage, ...]
    warnings: tuple[str, ...] = ()


def prepared_image(
    source: Path | bytes,
    *,
    name: str | None = None,
    size: int = 256,
    fill: float = FILL,
    remover: str = "auto",
    background: str = "auto",
) -> FramedImage:
    """From a file to a picture of the object alone, upright and framed.

    Raises:
        InvalidImage: It cannot be read, or there is nothing to be seen in it.
        Unavailable: `remover` names what is not here.
    """
    picture = read_picture(
        source, name=name, max_edge=min(PICTURE_EDGE, 4 * size)
    )  # a quarter of it may be the subject
    return framed(cut_out(picture, remover=remover, background=background), size=size, fill=fill)


def prepared_sides(
    sources: Sequence[tuple[str, Path | bytes]],
    *,
    names: Sequence[str] | None = None,
    background: str = "auto",
    size: int = 256,
) -> FramedImage:
    """From files of one object to its front with the other sides beside it (`SourceImage.others`), all at one scale.

    Args:
        sources: Names of sides, see `several`, each with its picture.
        names: What the pictures are called in messages; as their files unless given.
    Raises:
        InvalidInput: A side is unknown or given twice, or none is the front.
        InvalidImage: As `prepared_image`.
    """
    called: Sequence[str | None] = names or [None] * len(sources)
    largest = min(PICTURE_EDGE, 4 * size)
    found = several(
        [
            (side, cut_out(read_picture(source, name=name, max_edge=largest), background=background))
            for (side, source), name in zip(sources, called, strict=True)
        ],
        size=size,
    )
    front = next((one for one in found.sides if one.azimuth == 0 and one.elevation == 0), None)
    if front is None:
        raise InvalidInput("None of the pictures is of the front; one must be.")
    others = tuple(one for one in found.sides if one is not front)
    return FramedImage(dataclasses.replace(front.image, others=others), found.warnings)


def framed(picture: CutOut, *, size: int = 256, fill: float = FILL) -> FramedImage:
    """The box of alpha > 0.5 in the middle of a square, its longer edge `fill` of the frame.

    Args:
        size: Edge of the result in pixels.
        fill: More than 0, at most 1.
    Raises:
        InvalidImage: Nothing is opaque.
    """
    _check_frame(size, fill)
    box = _box_of(picture)
    edge = max(box[2] - box[0], box[3] - box[1])
    return FramedImage(_resampled(picture, box, edge / fill, size), (*picture.warnings, *_too_few(picture.name, edge)))


def several(pictures: Sequence[tuple[str, CutOut]], *, size: int = 256, fill: float = FILL) -> SidedImages:
    """Pictures of one object with the names of their sides, or their azimuth and elevation in degrees ("45" or "45,20").

    Level sides get the same height, since they see the same; top and bottom are as wide as front and back. Others fill
    their frame.

    Raises:
        InvalidInput: A side is unknown or given twice, or there is no picture.
        InvalidImage: Nothing is opaque in one.
    """
    _check_frame(size, fill)
    if not pictures:
        raise InvalidInput("No picture is given; at least one is needed.")
    angles = [_angles_of(side) for side, _ in pictures]
    for i, (azimuth, elevation) in enumerate(angles):
        for j in range(i):
            same_way = abs(elevation) == 90 or azimuth == angles[j][0]
            if elevation == angles[j][1] and same_way:
                raise InvalidInput(
                    f"The sides {pictures[j][0]!r} and {pictures[i][0]!r} are one and the same; give each side once."
                )
    boxes = [_box_of(cut) for _, cut in pictures]
    heights, widths = [b[2] - b[0] for b in boxes], [b[3] - b[1] for b in boxes]
    level = [i for i, (_, elevation) in enumerate(angles) if abs(elevation) < LEVEL]
    wideness = {i: widths[i] / heights[i] for i in level}
    height = fill / max([1.0, *wideness.values()])  # of the object in the frame, so that the widest side fits
    notes = [note for _, cut in pictures for note in cut.warnings]
    sides = []
    for i, (_, cut) in enumerate(pictures):
        edge = max(heights[i], widths[i])
        frame = edge / fill
        if i in wideness:
            frame = heights[i] / height
        elif abs(angles[i][1]) == 90:
            alike = [w for j, w in wideness.items() if angles[j][0] in (0, 180)]
            if alike:
                frame = max(frame, widths[i] / (alike[0] * height))
        notes += _too_few(cut.name, edge)
        azimuth, elevation = (math.radians(angle) for angle in angles[i])
        sides.append(SidedImage(azimuth, elevation, _resampled(cut, boxes[i], frame, size)))
    return SidedImages(tuple(sides), (*notes, *_disagreements(pictures, angles, wideness)))


def _disagreements(
    pictures: Sequence[tuple[str, CutOut]], angles: list[tuple[float, float]], wideness: dict[int, float]
) -> list[str]:
    """Opposite sides of one object have one outline."""
    said = []
    for i, first in wideness.items():
        for j, second in wideness.items():
            if j > i and (angles[j][0] - angles[i][0]) % 360 == 180 and abs(math.log(first / second)) > math.log(1.2):
                said.append(
                    f"{pictures[i][0]} and {pictures[j][0]} differ in their width for the same height ({first:.2f} and "
                    f"{second:.2f}). Are they one object, upright, from opposite sides and from afar?"
                )
    return said


def _angles_of(side: str) -> tuple[float, float]:
    """Azimuth in [0, 360) and elevation, in degrees."""
    word = side.strip().lower()
    if word in SIDES:
        return SIDES[word]
    try:
        numbers = [float(part) for part in word.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers.append(0.0)
    if len(numbers) != 2 or not all(math.isfinite(n) for n in numbers) or abs(numbers[1]) > 90:
        raise InvalidInput(
            f"There is no side {side!r}; give one of {', '.join(SIDES)}, or degrees as AZIMUTH or AZIMUTH,ELEVATION "
            "(0 is the front, 90 the right; elevation from -90 to 90)."
        )
    return numbers[0] % 360, numbers[1]


def _check_frame(size: int, fill: float) -> None:
    if size < 16 or not 0 < fill <= 1:
        raise InvalidInput(f"A frame of {size} pixels filled to {fill:g} is not possible; at least 16, and 0 to 1.")


def _box_of(picture: CutOut) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    mask = picture.alpha > 0.5
    if not mask.any():
        raise InvalidImage(f"{picture.name} shows nothing: no pixel has an alpha of more than 0.5.")
    (rows,), (columns,) = np.nonzero(mask.any(1)), np.nonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _too_few(name: str, edge: int) -> list[str]:
    if edge >= FEWEST_PIXELS:
        return []
    return [f"{name}: the subject is only {edge} pixels large, so details are missing. Use a larger picture."]


def _resampled(picture: CutOut, box: tuple[int, int, int, int], frame: float, size: int) -> SourceImage:
    """A square of `frame` pixels around the middle of the box, as `size` pixels; colours count by their alpha."""
    top, left, bottom, right = box
    y, x = (top + bottom) / 2, (left + right) / 2
    alpha = picture.alpha[..., None]
    planes = np.concatenate([picture.rgb * alpha, alpha], 2)
    margin = math.ceil(frame / 2) + 1
    padded = _window(planes, math.floor(y) - margin, math.floor(x) - margin, 2 * margin + 2)
    start_x, start_y = x - math.floor(x) + margin - frame / 2, y - math.floor(y) + margin - frame / 2
    # to reduce, a kernel that averages areas and has no rings, which would be specks around the subject
    kernel = Image.Resampling.HAMMING if frame >= size else Image.Resampling.BICUBIC
    window = (start_x, start_y, start_x + frame, start_y + frame)
    small = np.stack(
        [np.asarray(Image.fromarray(padded[..., i]).resize((size, size), kernel, box=window)) for i in range(4)]
    )
    seen = small[3:] > 1 / 255
    # colours and alpha overshoot alike, so they are divided before they are clipped
    rgb = np.where(seen, small[:3] / np.where(seen, small[3:], 1), 0).clip(0, 1)
    cover = np.where(seen, small[3:], 0).clip(0, 1)
    return SourceImage(torch.from_numpy(rgb.astype(np.float32)), torch.from_numpy(cover.astype(np.float32)))


def _window(planes: Float32[np.ndarray, "H W 4"], top: int, left: int, edge: int) -> Float32[np.ndarray, "E E 4"]:
    """A square of the picture, which may reach beyond it; nothing is there."""
    height, width = planes.shape[:2]
    out = np.zeros((edge, edge, 4), np.float32)
    rows, columns = slice(max(0, top), min(height, top + edge)), slice(max(0, left), min(width, left + edge))
    out[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = planes[rows, columns]
    return out
