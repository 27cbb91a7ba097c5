"""GLBs as the backend writes them, and as it does not, without any library but numpy and Pillow."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(size: int = 16, *, mode: str = "RGB", kind: str = "PNG", **options: Any) -> bytes:
    """A picture file of colors that all differ."""
    y, x = np.mgrid[0:size, 0:size] * 255 // max(size - 1, 1)
    pixels = np.stack([x, y, (x + y) // 2, 255 - x], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def ball(rings: int = 6, segments: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A closed surface that its texture has cut open along a meridian and at the poles: vertices, faces, uvs."""
    v, u = np.mgrid[0 : rings + 1, 0 : segments + 1]
    turn, rise = 2 * np.pi * (u % segments) / segments, np.pi * v / rings
    ring = np.where((v == 0) | (v == rings), 0.0, np.sin(rise))
    points = np.stack([ring * np.sin(turn), np.cos(rise), ring * np.cos(turn)], axis=-1).reshape(-1, 3)
    first = (v * (segments + 1) + u)[:-1, :-1].reshape(-1, 1)
    quads = first + np.array([0, segments + 1, segments + 2, 1])
    upper, lower = quads[segments:][:, [0, 2, 3]], quads[:-segments][:, [0, 1, 2]]
    uvs = np.stack([u / segments, v / rings], axis=-1).reshape(-1, 2)
    return points.astype(np.float32), np.concatenate([lower, upper]), uvs.astype(np.float32)


def write(
    path: Path,
    points: np.ndarray,
    faces: np.ndarray,
    uvs: np.ndarray | None = None,
    *,
    image: bytes | None = None,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """The form of `mvgamba.io.glb`, with normals when there are UVs.

    Args:
        image: A picture file; without it the mesh has no material.
        change: Is given the JSON before it is written.
    """
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "MVGamba"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "thing"}],
        "meshes": [{"name": "surface", "primitives": [{"attributes": {}, "indices": 0, "mode": 4}]}],
        "accessors": [],
        "bufferViews": [],
    }
    binary = bytearray()

    def add(data: bytes, **accessor: Any) -> int:
        document["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        if accessor:
            document["accessors"].append({"bufferView": len(document["bufferViews"]) - 1, **accessor})
        binary.extend(data + bytes(-len(data) % 4))
        return len(document["accessors"]) - 1 if accessor else len(document["bufferViews"]) - 1

    points = np.ascontiguousarray(points, "<f4")
    indices = np.ascontiguousarray(faces, "<u4" if len(points) > 65535 else "<u2")
    primitive = document["meshes"][0]["primitives"][0]
    add(indices.tobytes(), componentType=5125 if indices.itemsize == 4 else 5123, count=indices.size, type="SCALAR")
    bounds = {"min": points.min(axis=0).tolist(), "max": points.max(axis=0).tolist()}
    attributes = {"POSITION": add(points.tobytes(), componentType=5126, count=len(points), type="VEC3", **bounds)}
    if uvs is not None:
        normals = np.tile(np.array([0, 1, 0], "<f4"), (len(points), 1))
        attributes["NORMAL"] = add(normals.tobytes(), componentType=5126, count=len(points), type="VEC3")
        data = np.ascontiguousarray(uvs, "<f4").tobytes()
        attributes["TEXCOORD_0"] = add(data, componentType=5126, count=len(points), type="VEC2")
    primitive["attributes"] = attributes
    if image is not None:
        primitive["material"] = 0
        shader = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.125, "roughnessFactor": 0.75}
        document["materials"] = [{"name": "coat", "pbrMetallicRoughness": shader}]
        document["textures"] = [{"sampler": 0, "source": 0}]
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}]
        document["images"] = [{"bufferView": add(image), "mimeType": "image/png", "name": "albedo"}]
    document["buffers"] = [{"byteLength": len(binary)}]
    if change is not None:
        change(document)
    return pack(path, document, bytes(binary))


def pack(path: Path, document: dict[str, Any], binary: bytes) -> Path:
    """JSON and binary part as a GLB."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    parts = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(parts)) + parts)
    return path
