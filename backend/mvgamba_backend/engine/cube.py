"""A small valid GLB without any library: a cube with a checkered texture; and pictures of it."""

import json
import struct
import zlib

import numpy as np

_CORNERS = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float32)
"""The front face, counter-clockwise from outside."""
_UVS = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
_TURNS = (
    np.eye(3),
    np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
    np.array([[-1, 0, 0], [0, 1, 0], [0, 0, -1]]),
    np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]]),
    np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
)
"""From the front face to each of the six."""


def cube_glb(center: np.ndarray, half: float, *, texture: bytes) -> bytes:
    """A cube with edges along the axes.

    Args:
        half: Half the length of an edge.
        texture: PNG, on each side.
    """
    turns = np.array(_TURNS, np.float32)
    corners = np.einsum("sij,cj->sci", turns, _CORNERS).reshape(-1, 3)
    positions = (corners * half + center).astype("<f4")
    normals = np.repeat(turns[:, :, 2], 4, axis=0).astype("<f4")
    uvs = np.tile(_UVS, (6, 1)).astype("<f4")
    indices = (np.arange(6)[:, None] * 4 + np.array([0, 1, 2, 0, 2, 3])).ravel().astype("<u2")
    parts = [positions.tobytes(), normals.tobytes(), uvs.tobytes(), indices.tobytes(), texture]
    views, blob = [], b""
    for part in parts:
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(part)})
        blob += part + b"\0" * (-len(part) % 4)

    def accessor(view: int, count: int, kind: str, component: int, **more: object) -> dict[str, object]:
        return {"bufferView": view, "componentType": component, "count": count, "type": kind, **more}

    bounds = {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
    document = {
        "asset": {"version": "2.0", "generator": "MVGamba, playing"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "Cube"}],
        "meshes": [
            {
                "primitives": [
                    {
                        "attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2},
                        "indices": 3,
                        "material": 0,
                    }
                ]
            }
        ],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 0.8}}
        ],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 4, "mimeType": "image/png"}],
        "accessors": [
            accessor(0, 24, "VEC3", 5126, **bounds),
            accessor(1, 24, "VEC3", 5126),
            accessor(2, 24, "VEC2", 5126),
            accessor(3, 36, "SCALAR", 5123),
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(blob)
    head = struct.pack("<4sII", b"glTF", 2, total)
    return head + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob


def checker_png(size: int, color: tuple[int, int, int]) -> bytes:
    """An RGB picture of eight by eight fields, in `color` and a darker one."""
    row, column = np.indices((size, size)) * 8 // size
    light = ((row + column) % 2 == 0)[..., None]
    return png_bytes(np.where(light, np.array(color), np.array(color) // 2).astype(np.uint8))


def cube_views(color: tuple[int, int, int], *, size: int) -> tuple[list[bytes], np.ndarray, float]:
    """What four cameras see of a cube of half edge 0.5 about the origin: from the front, the right, the back and the left.

    Returns:
        RGBA PNGs; (4, 4, 4) camera to world, +Y up; focal length in pixels.
    """
    distance, focal = 2.5, 1.1 * size
    at = (np.arange(size) + 0.5 - size / 2) / focal
    x, y = np.meshgrid(at, -at)
    rays = np.stack([x, y, -np.ones_like(x)], -1)
    pictures, matrices = [], []
    for angle in np.radians([0, 90, 180, 270]):
        c, s = np.cos(angle), np.sin(angle)
        rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        origin, directions = rotation[:, 2] * distance, rays @ rotation.T
        with np.errstate(divide="ignore", invalid="ignore"):
            slabs = np.stack([(side - origin) / directions for side in (-0.5, 0.5)])
        enter, leave = np.nan_to_num(slabs.min(0), nan=-np.inf), np.nan_to_num(slabs.max(0), nan=np.inf)
        axis = enter.argmax(-1)
        seen = enter.max(-1) < leave.min(-1)
        shade = np.array([0.8, 1.0, 0.9])[axis, None] * np.array(color)
        pictures.append(
            png_bytes(np.concatenate([shade * seen[..., None], 255 * seen[..., None]], -1).astype(np.uint8))
        )
        c2w = np.eye(4)
        c2w[:3, :3], c2w[:3, 3] = rotation, origin
        matrices.append(c2w)
    return pictures, np.stack(matrices), focal


def png_bytes(pixels: np.ndarray) -> bytes:
    """(H, W, 3 or 4) uint8."""
    height, width, channels = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
