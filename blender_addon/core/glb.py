"""Just enough of glTF to find what a GLB holds, without importing it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import AddonError

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_KINDS = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}
DAMAGED = (
    *(OSError, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError),
    struct.error,
)
"""What reading a damaged file may raise."""


def read_positions(path: Path) -> np.ndarray:
    """(N, 3) float64 positions of all vertices of a GLB, in its own +Y-up world, in the order of the file.

    Only what our own files hold is read: floats that are not compressed.

    Raises:
        AddonError: PLACE_FAILED, when it is no such file.
    """
    try:
        document, blob, _begin = chunks(path.read_bytes())
        parts: list[np.ndarray] = []
        for node, world in mesh_nodes(document):
            for primitive in document["meshes"][node["mesh"]]["primitives"]:
                points = accessor(document, blob, primitive["attributes"]["POSITION"], kind="<f4", width=3)
                parts.append(points.astype(np.float64) @ world[:3, :3].T + world[:3, 3])
        if not parts:
            raise KeyError("mesh")
        return np.concatenate(parts)
    except DAMAGED as error:
        raise AddonError("PLACE_FAILED", f"{path.name} holds no mesh: {error}") from error


def count_triangles(path: Path) -> int:
    """How many triangles a GLB holds; 0 when that cannot be told. Reads its head only."""
    try:
        with path.open("rb") as file:
            length, kind = struct.unpack("<12xII", file.read(20))
            document = json.loads(file.read(length)) if kind == _JSON else {}
        primitives = [primitive for mesh in document["meshes"] for primitive in mesh["primitives"]]
        return sum(int(document["accessors"][primitive["indices"]]["count"]) // 3 for primitive in primitives)
    except DAMAGED:
        return 0


def chunks(data: bytes) -> tuple[dict[str, Any], bytes, int]:
    """The JSON of a GLB, its binary part, and where that begins. Raises: one of DAMAGED."""
    magic, _version, _length = struct.unpack_from("<III", data)
    length, kind = struct.unpack_from("<II", data, 12)
    if magic != _MAGIC or kind != _JSON:
        raise ValueError("not a GLB")
    document, at = json.loads(data[20 : 20 + length]), 20 + length
    size, kind = struct.unpack_from("<II", data, at)
    if kind != _BIN:
        raise ValueError("no binary part")
    return document, data[at + 8 : at + 8 + size], at + 8


def mesh_nodes(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """The nodes of the scene that show a mesh, each with its (4, 4) to the world. Raises: one of DAMAGED."""
    nodes = document["nodes"]
    waiting = [(index, np.eye(4)) for index in document["scenes"][document.get("scene", 0)]["nodes"]]
    for _ in range(len(nodes) + 1):  # a node has one place in a tree: more would be a circle
        if not waiting:
            return
        index, above = waiting.pop(0)
        world = above @ _matrix(nodes[index])
        if "mesh" in nodes[index]:
            yield nodes[index], world
        waiting += [(child, world) for child in nodes[index].get("children", ())]
    raise ValueError("its nodes are no tree")


def accessor(document: dict[str, Any], blob: bytes, index: int, *, kind: str, width: int) -> np.ndarray:
    """(N, width) of an accessor, or (N,) for a width of 1; a view into `blob`. Raises: one of DAMAGED.

    Args:
        kind: `<f4`, or `u` for any unsigned integer.
    """
    table = document["accessors"][index]
    view = document["bufferViews"][table["bufferView"]]
    found = np.dtype(_KINDS[table["componentType"]])
    stride = found.itemsize * width
    if "sparse" in table or table.get("normalized") or view.get("byteStride", stride) != stride:
        raise ValueError("its numbers are stored in an unusual way")
    if _WIDTHS.get(table["type"]) != width or (found.kind != "u" if kind == "u" else found != np.dtype(kind)):
        raise ValueError("its numbers are of an unusual kind")
    start = view.get("byteOffset", 0) + table.get("byteOffset", 0)
    values = np.frombuffer(blob, found, width * table["count"], start)
    return values.reshape(-1, width) if width > 1 else values


def view_bounds(document: dict[str, Any], index: int) -> tuple[int, int]:
    """Where a buffer view begins and ends in the binary part. Raises: one of DAMAGED."""
    view = document["bufferViews"][index]
    begin = view.get("byteOffset", 0)
    return begin, begin + view["byteLength"]


def _matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(node.get("scale", (1.0, 1.0, 1.0)))
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix
