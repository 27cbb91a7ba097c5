"""A GLB of ours as the arrays of a Blender mesh, and the same arrays beside the file, made while nobody waits for them.

Blender's own importer reads everything that glTF knows, on the main thread. What the backend writes is one mesh with one
material and one picture: that can be read, welded and checked in any thread, and then only has to be copied. Whatever is
of another form is left to Blender's importer.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .axes import Y_UP_TO_Z_UP
from .glb import DAMAGED, accessor, chunks, mesh_nodes, view_bounds
from .png import is_whole

log = logging.getLogger(__name__)

WELD = 1e-7
"""Vertices that are closer than this, as a fraction of the longest side, are one: a GLB splits them at the seams of its texture."""
LARGEST = 1e18
"""Scene units; the square of what is larger has no place in 32 bits."""
_FORM = 1
"""Of the file beside the GLB."""
_MOST_NEIGHBORS = 64
_MOST_VERTICES = 2_000_000
"""So that three of them make one 64-bit number."""
_GENERIC = np.array([0.5377, 0.6219, 0.5693])
"""A direction that edges and planes of objects are not along."""
_TOP = {
    *("asset", "scene", "scenes", "nodes", "meshes", "materials", "textures", "samplers", "images", "accessors"),
    *("bufferViews", "buffers"),
}
_NODE = {"name", "mesh", "children", "matrix", "translation", "rotation", "scale"}
_WRAPS = {10497: "REPEAT", 33071: "EXTEND", 33648: "MIRROR"}
_NEAREST, _LINEAR = (9728, 9984, 9986), (9729, 9985, 9987)


class UnusualFile(Exception):
    """A GLB is not of the form that is read here; the text says in what. It may be a fine one, or damaged."""


@dataclass(frozen=True)
class MaterialFacts:
    """What the material of a file says, in Blender's words."""

    name: str
    metallic: float
    roughness: float
    is_double_sided: bool
    image_name: str
    image_begin: int
    """Of the PNG, in the file."""
    image_end: int
    extension: str
    """REPEAT, EXTEND or MIRROR."""
    interpolation: str
    """Linear or Closest."""


@dataclass(frozen=True, eq=False)
class MeshArrays:
    """One surface as Blender holds it: +Z up, welded, without faces that have collapsed or are there twice."""

    vertices: np.ndarray
    """(N, 3) float32, scene units."""
    corners: np.ndarray
    """(F, 3) int32, which vertex."""
    uvs: np.ndarray | None
    """(F, 3, 2) float32 of the corners, (0, 0) at the lower left of the picture."""
    name: str
    material: MaterialFacts | None


def prepare(paths: Iterable[Path]) -> None:
    """Read GLBs and leave what `mesh_arrays` wants beside them, so that importing them is quick.

    Never raises: what cannot be prepared is read, or refused with a sentence, when it is imported.
    """
    for path in paths:
        try:
            key = _key(path)
            _write(prepared_path(path), read_mesh(path), key)
        except (UnusualFile, OSError, MemoryError) as error:
            log.debug("%s is not prepared: %s", path.name, error)


def mesh_arrays(path: Path) -> MeshArrays:
    """The mesh of a GLB, as it was prepared if it still is that file, else read now.

    Raises:
        UnusualFile: Blender's importer has to look at it.
    """
    try:
        return _read_prepared(prepared_path(path), _key(path))
    except FileNotFoundError:
        log.debug("%s is not prepared", path.name)
    except Exception as error:  # noqa: BLE001 - a damaged archive raises anything; the GLB itself is still there
        log.debug("%s is prepared no more: %s", path.name, error)
    return read_mesh(path)


def is_prepared(path: Path) -> bool:
    """Whether what was prepared is still of that file. Quick: only its head is read."""
    try:
        with prepared_path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            table = json.loads(archive["table"].tobytes())
        return bool(table["form"] == _FORM and table["key"] == _key(path))
    except Exception:  # noqa: BLE001 - a damaged archive raises anything, and is as good as none
        return False


def prepared_path(path: Path) -> Path:
    """Where the arrays of a GLB lie."""
    return path.with_name(f"{path.name}.npz")


def read_picture(path: Path, material: MaterialFacts) -> bytes:
    """The PNG of a file's material. Raises: UnusualFile, when the file has changed since."""
    try:
        with path.open("rb") as file:
            file.seek(material.image_begin)
            data = file.read(material.image_end - material.image_begin)
    except OSError as error:
        raise UnusualFile(str(error)) from error
    if len(data) != material.image_end - material.image_begin:
        raise UnusualFile("it is cut")
    return data


def read_mesh(path: Path) -> MeshArrays:
    """Read, weld and check a GLB. Raises: UnusualFile."""
    try:
        document, blob, begin = chunks(path.read_bytes())
        _require(document["asset"]["version"] == "2.0", "version")
        _require(_TOP.issuperset(document), "extensions, animations, skins or cameras")
        _require(len(document["scenes"]) == 1 and len(document["buffers"]) == 1, "scenes or buffers")
        _require(set(document["scenes"][0]) <= {"nodes", "name"}, "what its scene tells")
        _require(all(_NODE.issuperset(node) for node in document["nodes"]), "what its nodes tell")
        (node, world), *others = mesh_nodes(document)
        _require(not others and len(document["meshes"]) == 1, "several meshes")
        mesh = document["meshes"][node["mesh"]]
        _require(set(mesh) <= {"name", "primitives"} and len(mesh["primitives"]) == 1, "several parts")
        primitive = mesh["primitives"][0]
        _require(set(primitive) <= {"attributes", "indices", "material", "mode"}, "what its part tells")
        _require(primitive.get("mode", 4) == 4, "no triangles")
        attributes = primitive["attributes"]
        _require(set(attributes) <= {"POSITION", "NORMAL", "TEXCOORD_0"}, "more attributes")
        indices = accessor(document, blob, primitive["indices"], kind="u", width=1)
        points = accessor(document, blob, attributes["POSITION"], kind="<f4", width=3)
        uvs = None
        if "TEXCOORD_0" in attributes:
            uvs = accessor(document, blob, attributes["TEXCOORD_0"], kind="<f4", width=2)
            _require(len(uvs) == len(points) and bool(np.isfinite(uvs).all()), "its texture coordinates")
        material = None
        if "material" in primitive:
            material = _material(document, blob, begin, primitive["material"])
        vertices, corners, coordinates = _surface(_to_blender(points, world), indices, uvs)
        return MeshArrays(vertices, corners, coordinates, str(mesh.get("name", "Mesh_0")), material)
    except UnusualFile:
        raise
    except DAMAGED as error:
        raise UnusualFile(f"{type(error).__name__}: {error}") from error


def weld(points: np.ndarray, distance: float) -> np.ndarray:
    """(N,) for each of (N, 3) points the one that stands for it: the first of those within `distance`, often itself.

    Raises:
        UnusualFile: So many points are so close to one another that they cannot be told apart in time.
    """
    order = np.lexsort(points.T)
    begins = np.ones(len(points), dtype=bool)
    begins[1:] = (points[order[1:]] != points[order[:-1]]).any(axis=1)
    group = np.cumsum(begins) - 1
    first = np.minimum.reduceat(order, np.flatnonzero(begins))  # of each group of equal points
    stands_for = np.empty(len(points), dtype=np.int64)
    stands_for[order] = first[group]
    for index, other in _close_pairs(points, np.sort(first), distance):
        if stands_for[index] == index and stands_for[other] == other:
            stands_for[other] = index
    return stands_for[stands_for]


def _close_pairs(points: np.ndarray, which: np.ndarray, distance: float) -> list[tuple[int, int]]:
    """Pairs of different points within `distance`, in order. In a generic direction few others are as near."""
    along = points[which] @ _GENERIC / np.linalg.norm(_GENERIC)
    order = np.argsort(along, kind="stable")
    sorted_along, sorted_which = along[order], which[order]
    slack = distance + 4.0 * float(np.finfo(np.float64).eps * np.abs(along).max(initial=0.0))
    pairs: list[tuple[int, int]] = []
    near = np.arange(len(which))
    for step in range(1, _MOST_NEIGHBORS + 1):
        near = near[near + step < len(which)]
        near = near[sorted_along[near + step] - sorted_along[near] <= slack]
        if not len(near):
            return sorted(pairs)
        one, other = sorted_which[near], sorted_which[near + step]
        close = ((points[one] - points[other]) ** 2).sum(axis=1) <= distance**2
        pairs += zip(np.minimum(one, other)[close].tolist(), np.maximum(one, other)[close].tolist(), strict=True)
    raise UnusualFile("very many vertices lie close together")


def _surface(
    points: np.ndarray, indices: np.ndarray, uvs: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    _require(len(indices) > 0 and len(indices) % 3 == 0, "no whole triangles")
    _require(int(indices.max()) < len(points) < _MOST_VERTICES, "the number of its vertices")
    points, corners = _used(points, indices.reshape(-1, 3))
    _require(bool(np.isfinite(points).all()), "numbers that are none")
    extent = _extent(points)
    _require(0.0 < extent < LARGEST, "no extent")
    corners = weld(points.astype(np.float64), WELD * extent)[corners]
    kept = _sound_faces(corners, len(points))
    _require(len(kept) > 0, "no faces")
    points, corners = _used(points, corners[kept])
    _require(_extent(points) > 0.0, "no extent")
    coordinates = None
    if uvs is not None:
        coordinates = uvs[indices].reshape(-1, 3, 2)[kept]
        coordinates[..., 1] = 1.0 - coordinates[..., 1]
    return points, corners.astype(np.int32), coordinates


def _used(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points that corners name, in their order, and the corners with the numbers that these have then."""
    is_used = np.zeros(len(points), dtype=bool)
    is_used[corners] = True
    return points[is_used], (np.cumsum(is_used) - 1)[corners]


def _sound_faces(corners: np.ndarray, num_vertices: int) -> np.ndarray:
    """Which faces have three different corners, and are the first that has these."""
    a, b, c = np.sort(corners, axis=1).astype(np.int64).T
    sound = np.flatnonzero((a != b) & (b != c))
    key = (a[sound] * num_vertices + b[sound]) * num_vertices + c[sound]
    return sound[np.sort(np.unique(key, return_index=True)[1])]


def _extent(points: np.ndarray) -> float:
    return float((points.max(axis=0).astype(np.float64) - points.min(axis=0)).max())


def _to_blender(points: np.ndarray, world: np.ndarray) -> np.ndarray:
    """(N, 3) float32, +Z up; exact when the node has no transform."""
    if np.array_equal(world, np.eye(4)):
        return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1) + np.float32(0.0)  # no negative zeros
    _require(bool(np.isfinite(world).all()) and np.linalg.det(world[:3, :3]) > 0.0, "a mirrored or flat node")
    matrix = Y_UP_TO_Z_UP @ world
    return (points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)


def _material(document: dict[str, Any], blob: bytes, blob_at: int, index: int) -> MaterialFacts:
    table = document["materials"][index]
    _require(len(document["materials"]) == 1, "several materials")
    _require(set(table) <= {"name", "pbrMetallicRoughness", "doubleSided"}, "what its material tells")
    shader = table["pbrMetallicRoughness"]
    known = {"baseColorTexture", "baseColorFactor", "metallicFactor", "roughnessFactor"}
    _require(set(shader) <= known and shader.get("baseColorFactor", [1, 1, 1, 1]) == [1, 1, 1, 1], "a tinted material")
    use = shader["baseColorTexture"]
    _require(set(use) <= {"index", "texCoord"} and use.get("texCoord", 0) == 0, "how it uses its texture")
    texture = document["textures"][use["index"]]
    _require(set(texture) <= {"source", "sampler", "name"}, "what its texture tells")
    sampler = document["samplers"][texture["sampler"]] if "sampler" in texture else {}
    wraps = {_WRAPS[sampler.get(side, 10497)] for side in ("wrapS", "wrapT")}
    _require(len(wraps) == 1, "how its texture goes on beyond its border")
    filters = {sampler[name] for name in ("minFilter", "magFilter") if name in sampler}
    _require(filters <= {*_NEAREST, *_LINEAR}, "the filter of its texture")
    image = document["images"][texture["source"]]
    _require(set(image) <= {"bufferView", "mimeType", "name"} and image["mimeType"] == "image/png", "its picture")
    begin, end = view_bounds(document, image["bufferView"])
    _require(0 <= begin < end <= len(blob) and is_whole(blob[begin:end]), "its picture")
    return MaterialFacts(
        name=str(table.get("name", f"Material_{index}")),
        metallic=_fraction(shader.get("metallicFactor", 1.0)),
        roughness=_fraction(shader.get("roughnessFactor", 1.0)),
        is_double_sided=table.get("doubleSided", False) is True,
        image_name=str(image.get("name") or f"Image_{texture['source']}"),
        image_begin=blob_at + begin,
        image_end=blob_at + end,
        extension=wraps.pop(),
        interpolation="Closest" if filters and filters <= set(_NEAREST) else "Linear",
    )


def _fraction(value: float) -> float:
    _require(0.0 <= value <= 1.0, "factors of its material")
    return float(value)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise UnusualFile(what)


def _key(path: Path) -> list[int]:
    """What tells a file from one that has taken its place."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _write(path: Path, arrays: MeshArrays, key: list[int]) -> None:
    """Whole or not at all. Raises: OSError."""
    table = {
        "form": _FORM,
        "key": key,
        "name": arrays.name,
        "material": None if arrays.material is None else asdict(arrays.material),
    }
    text = np.frombuffer(json.dumps(table).encode(), np.uint8)
    uvs = np.empty((0, 3, 2), np.float32) if arrays.uvs is None else arrays.uvs
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, table=text, vertices=arrays.vertices, corners=arrays.corners, uvs=uvs)
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # it has moved to its place if all went well
            part.unlink()


def _read_prepared(path: Path, key: list[int]) -> MeshArrays:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        table = json.loads(archive["table"].tobytes())
        vertices, corners, uvs = archive["vertices"], archive["corners"], archive["uvs"]
    if table["form"] != _FORM or table["key"] != key:
        raise ValueError("it is of another file")
    fits = vertices.shape == (len(vertices), 3) and corners.shape == (len(corners), 3) and len(corners) > 0
    fits = fits and vertices.dtype == np.float32 and corners.dtype == np.int32 and uvs.dtype == np.float32
    fits = fits and uvs.shape in ((0, 3, 2), (len(corners), 3, 2)) and bool(np.isfinite(vertices).all())
    if not fits or int(corners.min()) < 0 or int(corners.max()) >= len(vertices):
        raise ValueError("it is damaged")
    material = None if table["material"] is None else MaterialFacts(**table["material"])
    return MeshArrays(vertices, corners, uvs if len(uvs) else None, table["name"], material)
