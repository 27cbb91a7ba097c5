"""Textured meshes as GLB files (glTF 2.0, binary): one mesh, one material, one PNG.

Our world is glTF's, so nothing is turned: vertices are written as they are, the node has no transform, (0, 0) of the
texture is its upper left corner on both sides. Positions are float32 in the file: they are exact to about 1e-7 of their
distance from the origin, so a small object very far away loses detail.
"""

import contextlib
import errno
import io
import json
import logging
import os
import secrets
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mvgamba.errors import DiskFull, InvalidInput, OutputFailed
from mvgamba.types import TexturedMesh

log = logging.getLogger(__name__)

GENERATOR = "MVGamba"
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP = 9729, 9987, 33071


def write_glb(mesh: TexturedMesh, path: Path, *, extras: dict[str, Any] | None = None) -> None:
    """Write a mesh with its texture; the file is there whole or not at all.

    Args:
        extras: Facts to carry along in `asset.extras`, of types that JSON knows.
    Raises:
        InvalidInput: The mesh is empty or broken, or `extras` cannot be written as JSON.
        DiskFull: No room is left.
        OutputFailed: The file cannot be written for another reason.
    """
    content = glb_bytes(mesh, extras=extras)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise DiskFull(
                f"{path} was not written: no room is left for its {len(content) / 2**20:.1f} MiB. Free some space or "
                "choose another folder."
            ) from error
        raise OutputFailed(
            f"{path} was not written: {reason}. Give a file name in a folder that exists and may be written to."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it has moved to its place if all went well
            os.unlink(temporary)
    log.debug("wrote %d faces, %d bytes", len(mesh.faces), len(content))


def glb_bytes(mesh: TexturedMesh, *, extras: dict[str, Any] | None = None) -> bytes:
    """What `write_glb` writes. Raises: InvalidInput."""
    positions, faces, normals, uvs = _checked(mesh)
    wide = len(positions) > 65535  # the index 65535 itself would mean "restart" in uint16
    indices = faces.astype(np.uint32 if wide else np.uint16)
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mesh.albedo)).save(png, "PNG", compress_level=6)

    parts = [indices.tobytes(), positions.tobytes(), normals.tobytes(), uvs.tobytes(), png.getvalue()]
    views: list[dict[str, int]] = []
    binary = bytearray()
    for data, target in zip(parts, [_ELEMENT_BUFFER, _ARRAY_BUFFER, _ARRAY_BUFFER, _ARRAY_BUFFER, None], strict=True):
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        if target is not None:
            views[-1]["target"] = target
        binary += data + bytes(-len(data) % 4)

    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": GENERATOR},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "mvgamba"}],
        "meshes": [
            {
                "name": "mvgamba",
                "primitives": [
                    {
                        "attributes": {"POSITION": 1, "NORMAL": 2, "TEXCOORD_0": 3},
                        "indices": 0,
                        "material": 0,
                        "mode": 4,
                    }
                ],
            }
        ],
        "materials": [
            {
                "name": "mvgamba",
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": float(mesh.metallic),
                    "roughnessFactor": float(mesh.roughness),
                },
            }
        ],
        "textures": [{"sampler": 0, "source": 0}],
        "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": _CLAMP, "wrapT": _CLAMP}],
        "images": [{"bufferView": 4, "mimeType": "image/png", "name": "albedo"}],
        "accessors": [
            {"bufferView": 0, "componentType": _UINT32 if wide else _UINT16, "count": indices.size, "type": "SCALAR"},
            {
                "bufferView": 1,
                "componentType": _FLOAT,
                "count": len(positions),
                "type": "VEC3",
                "min": [float(v) for v in positions.min(axis=0)],
                "max": [float(v) for v in positions.max(axis=0)],
            },
            {"bufferView": 2, "componentType": _FLOAT, "count": len(normals), "type": "VEC3"},
            {"bufferView": 3, "componentType": _FLOAT, "count": len(uvs), "type": "VEC2"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    if extras:
        document["asset"]["extras"] = extras
    try:
        text = json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"extras cannot be written as JSON: {error}.") from error
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    header = struct.pack("<III", _MAGIC, 2, total)
    return b"".join(
        [header, struct.pack("<II", len(text), _JSON), text, struct.pack("<II", len(binary), _BIN), bytes(binary)]
    )


def _checked(mesh: TexturedMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    count = len(mesh.vertices)
    if count == 0 or len(mesh.faces) == 0:
        raise InvalidInput(f"The mesh has {count} vertices and {len(mesh.faces)} faces; a GLB needs at least one face.")
    if mesh.normals.shape != (count, 3) or mesh.uvs.shape != (count, 2):
        raise InvalidInput(
            f"normals and uvs must have shape ({count}, 3) and ({count}, 2), one for each vertex; got "
            f"{mesh.normals.shape} and {mesh.uvs.shape}."
        )
    if mesh.albedo.ndim != 3 or mesh.albedo.shape[2] != 3 or mesh.albedo.size == 0 or mesh.albedo.dtype != np.uint8:
        raise InvalidInput(
            f"albedo must be uint8 of shape (Ht, Wt, 3), got {mesh.albedo.dtype} of {mesh.albedo.shape}."
        )
    if not (0 <= mesh.roughness <= 1 and 0 <= mesh.metallic <= 1):
        raise InvalidInput(
            f"roughness and metallic must lie between 0 and 1, got {mesh.roughness} and {mesh.metallic}."
        )
    if mesh.faces.min() < 0 or mesh.faces.max() >= count:
        raise InvalidInput(
            f"faces name vertices {mesh.faces.min()} to {mesh.faces.max()}, but there are {count} vertices."
        )
    limit = float(np.finfo(np.float32).max)
    for name, values in (("vertices", mesh.vertices), ("normals", mesh.normals), ("uvs", mesh.uvs)):
        if not (np.abs(values) <= limit).all():  # also false for NaN
            raise InvalidInput(f"{name} hold numbers that are not finite in float32. Clean the mesh first.")
    normals = mesh.normals.astype(np.float64)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-12, normals / np.maximum(length, 1e-12), [0.0, 1.0, 0.0])
    return mesh.vertices.astype("<f4"), mesh.faces.reshape(-1), normals.astype("<f4"), mesh.uvs.astype("<f4")


def read_glb(path: Path) -> TexturedMesh:
    """Read a file that `write_glb` wrote. Raises: InvalidInput if it is another kind of file, or broken."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        document, binary = _chunks(data)
        primitive = document["meshes"][0]["primitives"][0]
        attributes = primitive["attributes"]
        material = document["materials"][primitive["material"]]["pbrMetallicRoughness"]
        image = document["images"][document["textures"][material["baseColorTexture"]["index"]]["source"]]
        view = document["bufferViews"][image["bufferView"]]
        begin = view.get("byteOffset", 0)
        with Image.open(io.BytesIO(binary[begin : begin + view["byteLength"]])) as picture:
            albedo = np.asarray(picture.convert("RGB"), np.uint8)
        return TexturedMesh(
            vertices=_accessor(document, binary, attributes["POSITION"]).astype(np.float64),
            faces=_accessor(document, binary, primitive["indices"]).reshape(-1, 3).astype(np.int64),
            normals=_accessor(document, binary, attributes["NORMAL"]).astype(np.float64),
            uvs=_accessor(document, binary, attributes["TEXCOORD_0"]).astype(np.float64),
            albedo=albedo,
            roughness=float(material.get("roughnessFactor", 1.0)),
            metallic=float(material.get("metallicFactor", 1.0)),
        )
    except (KeyError, IndexError, TypeError, ValueError, OSError, struct.error) as error:
        raise InvalidInput(
            f"{path} is not a GLB with one textured mesh as this library writes it ({type(error).__name__}: {error})."
        ) from error


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, total = struct.unpack_from("<III", data)
    if magic != _MAGIC or version != 2 or total != len(data):
        raise ValueError("its header is not that of a whole binary glTF 2.0 file")
    length, kind = struct.unpack_from("<II", data, 12)
    if kind != _JSON:
        raise ValueError("its first chunk is not JSON")
    document = json.loads(data[20 : 20 + length])
    size, kind = struct.unpack_from("<II", data, 20 + length)
    if kind != _BIN or 28 + length + size > total:
        raise ValueError("its second chunk is not binary data of the length it says")
    return document, data[28 + length : 28 + length + size]


def _accessor(document: dict[str, Any], binary: bytes, index: int) -> np.ndarray:
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    kind = {_FLOAT: "<f4", _UINT16: "<u2", _UINT32: "<u4"}[accessor["componentType"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor["type"]]
    begin = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    values = np.frombuffer(binary, kind, accessor["count"] * width, begin)
    return values.reshape(-1, width) if width > 1 else values
