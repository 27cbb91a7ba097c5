"""What can be photographed: triangles with base colours, read from a GLB or made from our own meshes."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mvgamba.errors import InvalidInput
from mvgamba.types import Similarity, TexturedMesh


def srgb_to_linear(srgb: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """IEC 61966-2-1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """IEC 61966-2-1."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


@dataclass(frozen=True, eq=False)
class Material:
    """Base colour of some faces: a factor and maybe a texture that multiplies it."""

    factor: Float[np.ndarray, "3"]
    """Linear."""
    texture: UInt8[np.ndarray, "Ht Wt 3"] | None = None
    """sRGB, as files have it."""


@dataclass(frozen=True, eq=False)
class Drawable:
    """Triangles with base colours. Light, roughness and emission play no part; every face counts as opaque."""

    vertices: Float[np.ndarray, "P 3"]
    faces: Int[np.ndarray, "F 3"]
    uvs: Float[np.ndarray, "P 2"]
    """(0, 0) is the upper left corner of the texture."""
    colors: Float[np.ndarray, "P 3"]
    """Linear, multiplied with the material; one where a file has none."""
    face_materials: Int[np.ndarray, "F"]
    materials: list[Material]

    @property
    def bounds(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """Box around the vertices that faces use."""
        used = self.vertices[np.unique(self.faces)]
        return used.min(0), used.max(0)

    @property
    def center(self) -> Float[np.ndarray, "3"]:
        low, high = self.bounds
        return (low + high) / 2

    @property
    def radius(self) -> float:
        """Of the sphere around the middle of the box that holds every vertex."""
        return float(np.linalg.norm(self.vertices[np.unique(self.faces)] - self.center, axis=1).max())

    def placed(self, similarity: Similarity) -> "Drawable":
        """The same thing somewhere else."""
        moved = similarity.apply(torch.from_numpy(self.vertices)).numpy()
        return Drawable(moved, self.faces, self.uvs, self.colors, self.face_materials, self.materials)


def drawable_of(mesh: TexturedMesh) -> Drawable:
    """One of our own meshes, as a GLB of it would be read."""
    count = len(mesh.vertices)
    return Drawable(
        mesh.vertices.astype(np.float64),
        mesh.faces.astype(np.int64),
        mesh.uvs.astype(np.float64),
        np.ones((count, 3)),
        np.zeros(len(mesh.faces), np.int64),
        [Material(np.ones(3), mesh.albedo)],
    )


def read_drawable(path: Path) -> Drawable:
    """All triangles of a GLB in its world axes (+Y up), with factor, texture and vertex colours as glTF multiplies them.

    Raises: InvalidInput if the file cannot be read or has no triangles.
    """
    try:
        scene = trimesh.load_scene(path, file_type="glb", process=False)
        factors = _exact_factors(path)
    except (ValueError, KeyError, IndexError, TypeError, OSError, struct.error) as error:
        raise InvalidInput(f"{path.name} cannot be read as a GLB: {error}") from error
    parts: list[Drawable] = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        mesh = scene.geometry[name]
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
            parts.append(_part(mesh, np.asarray(transform), factors))
    if not parts:
        raise InvalidInput(f"{path.name} holds no triangles.")
    return joined(parts)


def joined(parts: list[Drawable]) -> Drawable:
    """Parts of one material each as one thing."""
    starts = np.cumsum([0, *(len(p.vertices) for p in parts[:-1])])
    return Drawable(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.faces + start for p, start in zip(parts, starts, strict=True)]),
        np.concatenate([p.uvs for p in parts]),
        np.concatenate([p.colors for p in parts]),
        np.concatenate([np.full(len(p.faces), i) for i, p in enumerate(parts)]),
        [p.materials[0] for p in parts],
    )


def _part(mesh: trimesh.Trimesh, transform: np.ndarray, factors: dict[str, np.ndarray]) -> Drawable:
    count = len(mesh.vertices)
    uvs, colors, factor, texture = np.zeros((count, 2)), np.ones((count, 3)), np.ones(3), None
    visual = mesh.visual
    if isinstance(visual, trimesh.visual.TextureVisuals):
        material = visual.material
        if visual.uv is not None and len(visual.uv) == count:
            uvs = np.asarray(visual.uv, np.float64) * (1.0, -1.0) + (0.0, 1.0)  # trimesh turns v upwards
        if getattr(material, "baseColorFactor", None) is not None:
            # trimesh rounds factors to bytes, which is coarse for dark linear colours
            factor = factors.get(material.name or "", np.asarray(material.baseColorFactor[:3], np.float64) / 255)
        image = getattr(material, "baseColorTexture", None)
        if image is not None:
            texture = np.asarray(image.convert("RGB"))
        painted = visual.vertex_attributes.get("color") if visual.vertex_attributes else None
        if painted is not None and len(painted) == count:
            colors = _unit(np.asarray(painted))[:, :3]
    elif visual is not None and visual.kind == "vertex":
        colors = _unit(np.asarray(visual.vertex_colors))[:, :3]
    vertices = trimesh.transform_points(np.asarray(mesh.vertices, np.float64), transform)
    faces = np.asarray(mesh.faces, np.int64)
    if np.linalg.det(transform[:3, :3]) < 0:
        faces = faces[:, ::-1]
    return Drawable(vertices, faces, uvs, colors, np.zeros(len(faces), np.int64), [Material(factor, texture)])


def _unit(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return values.astype(np.float64) / np.iinfo(values.dtype).max


def _exact_factors(path: Path) -> dict[str, np.ndarray]:
    """Base colour factors by material name, of the names that occur once."""
    data = path.read_bytes()
    length, kind = struct.unpack_from("<II", data, 12)
    if data[:4] != b"glTF" or kind != 0x4E4F534A:
        raise ValueError("it has no glTF header")
    materials = json.loads(data[20 : 20 + length]).get("materials", [])
    names = [m.get("name", "") for m in materials]
    return {
        name: np.asarray(m.get("pbrMetallicRoughness", {}).get("baseColorFactor", [1, 1, 1])[:3], np.float64)
        for name, m in zip(names, materials, strict=True)
        if name and names.count(name) == 1
    }
