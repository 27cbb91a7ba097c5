"""The files of a starter generator's memory: one picture with all views of all objects, and a table of what is known of them.

The picture is lossless WebP: objects in rows of ten, six views of each beside each other. The table is JSON and lies beside it.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor

from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.weights.user import writing_to

FRONT, RIGHT, BACK, LEFT, ABOVE, OTHER_ABOVE = range(6)
"""Views of an object. The last is from above as well, to the left of the front instead of the right: the mirror image needs it."""
NUM_VIEWS, NUM_STORED = 5, 6
MIRRORED = [FRONT, LEFT, BACK, RIGHT, OTHER_ABOVE]
"""Which views, turned over, are those of the mirror image."""
SMALL = 16
"""Pixels of the views that are compared."""
MOST_OBJECTS = 2500
"""That fit into a picture of WebP, at 64 pixels a view."""
ATLAS, TABLE = "starter-memory.webp", "starter-memory.json"
_ACROSS = 10


@dataclass(frozen=True, eq=False)
class RememberedObject:
    """What is known of a training object beside its pictures."""

    name: str
    captions: tuple[str, ...]
    """The plain name first."""
    category: str
    family: str
    color_names: np.ndarray
    """Text, the largest share first, see `Colored`."""
    color_rgb: Float32[np.ndarray, "c 3"]
    color_shares: Float32[np.ndarray, "c"]


@dataclass(frozen=True, eq=False)
class MemoryContent:
    """Both files, the picture not unpacked yet."""

    objects: tuple[RememberedObject, ...]
    size: int
    """Pixels of a view."""
    usual: tuple[float, float]
    """Median distance of an object to the nearest other one: by colours and shape, by shape alone."""
    atlas: bytes

    def picture(self) -> Image.Image:
        """RGBA; 0.2 s for 719 objects. Raises: WeightsCorrupt."""
        try:
            with Image.open(io.BytesIO(self.atlas)) as picture:
                found = picture.convert("RGBA")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise WeightsCorrupt(f"The picture of the starter generator's memory cannot be read: {error}.") from error
        height, width = -(-len(self.objects) // _ACROSS) * self.size, _ACROSS * NUM_STORED * self.size
        if found.size != (width, height):
            raise WeightsCorrupt(
                f"The picture of the starter generator's memory has {found.size[0]} x {found.size[1]} pixels, expected "
                f"{width} x {height}: picture and table do not belong together."
            )
        return found


def stored_views(picture: Image.Image, index: int, size: int) -> Float[Tensor, "6 4 S S"]:
    """Of one object; straight colours and alpha in [0, 1]."""
    top, left = index // _ACROSS * size, index % _ACROSS * NUM_STORED * size
    tiles = torch.from_numpy(np.array(picture.crop((left, top, left + NUM_STORED * size, top + size))))
    return tiles.unflatten(1, (NUM_STORED, size)).permute(1, 3, 0, 2).float() / 255


def small_signals(picture: Image.Image, count: int, size: int) -> Float[Tensor, "N 6 4 s s"]:
    """The views as signals (see `to_signal`) of 16 x 16 pixels."""
    # premultiplied before it is made smaller: signals are linear in that
    small = torch.from_numpy(np.array(picture.convert("RGBa").reduce(size // SMALL))).float() / 255
    rows = small.unflatten(1, (_ACROSS, NUM_STORED, SMALL)).unflatten(0, (-1, SMALL))
    rgba = rows.permute(0, 2, 3, 5, 1, 4).flatten(0, 1)[:count]
    return torch.cat([2 * rgba[:, :, :3] - rgba[:, :, 3:], 2 * rgba[:, :, 3:] - 1], 2)


def distances_to(views: Float[Tensor, "5 c s s"], known: Float[Tensor, "N 6 c s s"]) -> Float[Tensor, "N"]:
    """Mean squared difference to each object or to its mirror image, whichever is less."""
    as_it_is = (known[:, :NUM_VIEWS] - views).square().mean((1, 2, 3, 4))
    in_mirror = (known[:, MIRRORED] - views.flip(-1)).square().mean((1, 2, 3, 4))
    return torch.minimum(as_it_is, in_mirror)


def read_memory(atlas: Path) -> MemoryContent:
    """By the path of the picture. Raises: WeightsMissing, WeightsCorrupt."""
    table = atlas.with_suffix(".json")
    for path in (atlas, table):
        if not path.is_file():
            raise WeightsMissing(f"{path} is not there; a memory is a picture and a table. Write it again.")
    try:
        content = json.loads(table.read_text(encoding="utf-8"))
        if content["kind"] != "memory" or content["model"] != "starter":
            raise ValueError(f"it is a {content['kind']} of {content['model']}")
        size, usual = int(content["size"]), (float(content["usual"]), float(content["usual_shape"]))
        objects = tuple(_object_of(row) for row in content["objects"])
        if not objects or size < SMALL or size % SMALL or min(usual) <= 0:
            raise ValueError(f"{len(objects)} objects of {size} pixels at usual distances of {usual}")
        return MemoryContent(objects, size, usual, atlas.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorrupt(f"{table} is not the table of a starter generator's memory: {error!r}.") from error


def write_memory(
    objects: Sequence[RememberedObject], views: Sequence[UInt8[np.ndarray, "6 S S 4"]], folder: Path
) -> tuple[Path, Path]:
    """Both files, in the order that `read_memory` expects. Half a minute for 719 objects.

    Raises: InvalidInput, OutputFailed, DiskFull.
    """
    if not 2 <= len(objects) <= MOST_OBJECTS:
        raise InvalidInput(f"A memory holds 2 to {MOST_OBJECTS} objects, got {len(objects)}.")
    size = views[0].shape[1]
    if size < SMALL or size % SMALL or size > 64:
        raise InvalidInput(f"views are of {size} pixels; a memory takes multiples of {SMALL} up to 64.")
    rows = np.zeros((-(-len(objects) // _ACROSS), _ACROSS, NUM_STORED, size, size, 4), np.uint8)
    for i, one in enumerate(views):
        rows[i // _ACROSS, i % _ACROSS] = one * (one[..., 3:] > 0)  # colours of nothing only cost bytes
    picture = Image.fromarray(rows.transpose(0, 3, 1, 2, 4, 5).reshape(len(rows) * size, -1, 4))
    small = small_signals(picture, len(objects), size)
    table = {
        "kind": "memory",
        "model": "starter",
        "size": size,
        "usual": round(usual_distance(small), 6),
        "usual_shape": round(usual_distance(small[:, :, 3:]), 6),
    }
    lines = ",\n".join("  " + json.dumps(_row_of(o), ensure_ascii=False) for o in objects)
    text = json.dumps(table, indent=1)[:-2] + ',\n "objects": [\n' + lines + "\n ]\n}\n"
    paths = folder / ATLAS, folder / TABLE
    with writing_to(folder):
        picture.save(paths[0], lossless=True, exact=True, quality=100, method=6)
        paths[1].write_text(text, encoding="utf-8")
    return paths


def usual_distance(small: Float[Tensor, "N 6 c s s"]) -> float:
    """Median over objects of the distance to the nearest other one."""
    nearest = []
    for i in range(len(small)):
        distances = distances_to(small[i, :NUM_VIEWS], small)
        distances[i] = torch.inf
        nearest.append(distances.min())
    return float(torch.stack(nearest).median())


def _row_of(thing: RememberedObject) -> dict[str, Any]:
    rgb = (255 * thing.color_rgb).round().astype(int).tolist()
    shares = [round(float(share), 3) for share in thing.color_shares]
    return {
        "name": thing.name,
        "captions": list(thing.captions),
        "category": thing.category,
        "family": thing.family,
        "colors": [list(row) for row in zip(thing.color_names.tolist(), shares, rgb, strict=True)],
    }


def _object_of(row: dict[str, Any]) -> RememberedObject:
    captions = tuple(row["captions"])
    if not captions or not all(isinstance(c, str) for c in captions):
        raise ValueError(f"{row['name']!r} has no captions")
    colors = row["colors"]
    return RememberedObject(
        str(row["name"]),
        captions,
        str(row["category"]),
        str(row["family"]),
        np.array([name for name, _, _ in colors], np.str_),
        np.array([rgb for _, _, rgb in colors], np.float32).reshape(-1, 3) / 255,
        np.array([share for _, share, _ in colors], np.float32),
    )
