"""Just enough of glTF to know where a file's vertices are, without importing it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .errors import AddonError

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942


def read_positions(path: Path) -> np.ndarray:
    """(N, 3) float64 positions of all vertices of a GLB, in its own +Y-up world, in the order of the file.

    Only what our own files hold is read: floats that are not compressed.

    Raises:
        AddonError: PLACE_FAILED, when it is no such file.
    """
    try:
        document, blob = _chunks(path.read_bytes())
        nodes = document["nodes"]
        parts: list[np.ndarray] = []
        scene = document["scenes"][document.get("scene", 0)]
        waiting = [(index, np.eye(4)) for index in scene["nodes"]]
        while waiting:
            index, above = waiting.pop(0)
            world = above @ _matrix(nodes[index])
            if "mesh" in nodes[index]:
                for primitive in document["meshes"][nodes[index]["mesh"]]["primitives"]:
                    points = _floats(document, blob, primitive["attributes"]["POSITION"])
                    parts.append(points @ world[:3, :3].T + world[:3, 3])
            waiting += [(child, world) for child in nodes[index].get("children", ())]
        if not parts:
            raise KeyError("mesh")
        return np.concatenate(parts)
    except (OSError, KeyError, IndexError, TypeError, ValueError, struct.error) as error:
        raise AddonError("PLACE_FAILED", f"{path.name} holds no mesh: {error}") from error


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, _version, _length = struct.unpack_from("<III", data)
    length, kind = struct.unpack_from("<II", data, 12)
    if magic != _MAGIC or kind != _JSON:
        raise ValueError("not a GLB")
    document, at = json.loads(data[20 : 20 + length]), 20 + length
    size, kind = struct.unpack_from("<II", data, at)
    if kind != _BIN:
        raise ValueError("no binary part")
    return document, data[at + 8 : at + 8 + size]


def _floats(document: dict[str, Any], blob: bytes, index: int) -> np.ndarray:
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    if accessor["componentType"] != 5126 or accessor["type"] != "VEC3" or view.get("byteStride", 12) != 12:
        raise ValueError("positions are not plain floats")
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    return np.frombuffer(blob, "<f4", 3 * accessor["count"], start).reshape(-1, 3).astype(np.float64)


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
