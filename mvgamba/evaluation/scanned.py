"""Scanned objects as their publishers pack them: OBJ, MTL and a texture, in a folder or a zip.

Two layouts are known, both in metres with +Z up:

- Google Scanned Objects: `meshes/model.obj`, `meshes/model.mtl`, `materials/textures/texture.png`. The MTL names the
  texture as if it lay beside it, which it does not.
- YCB: `google_16k/textured.obj`, `google_16k/textured.mtl` and the texture beside them.
"""

import io
import posixpath
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from trimesh.resolvers import Resolver

from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import Drawable, Material, joined
from mvgamba.io.captures import Z_UP_TO_Y_UP

MESHES = ("meshes/model.obj", "google_16k/textured.obj")
TEXTURES = "materials/textures"


def scanned_mesh(path: Path) -> str | None:
    """Where in a folder or zip the OBJ of a scanned object lies; None if it holds none."""
    try:
        names = _files(path)[0]
    except (OSError, zipfile.BadZipFile):
        return None
    return next((name for name in MESHES if name in names), None)


def read_scanned(path: Path) -> Drawable:
    """A scanned object in our axes (+Y up). A texture stands for the colour alone: `Kd` counts only where there is none.

    Raises: InvalidInput if it has neither layout, or its mesh, material or texture is missing or broken, naming the file.
    """
    try:
        names, read = _files(path)
        mesh = next((name for name in MESHES if name in names), None)
        if mesh is None:
            raise InvalidInput(f"{path} holds no scanned object; {' or '.join(MESHES)} is needed in it.")
        files = _Files(names, read, posixpath.dirname(mesh))
        scene = trimesh.load_scene(io.BytesIO(read(mesh)), file_type="obj", resolver=files, process=False)
    except zipfile.BadZipFile as error:
        raise InvalidInput(f"{path} is not a zip that can be read ({error}); download it again.") from error
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise InvalidInput(f"{path} cannot be read as a scanned object: {error}") from error
    if files.unusable:
        raise InvalidInput(f"{path}: {'; '.join(files.unusable)}. Its {mesh} needs that; download it again.")
    parts = [_part(m, path) for m in scene.geometry.values() if isinstance(m, trimesh.Trimesh) and len(m.faces)]
    found = [part for part in parts if part is not None]
    if not parts:
        raise InvalidInput(f"{path} holds no triangles in {mesh}.")
    if len(found) < len(parts):
        raise InvalidInput(f"{path} has faces with neither texture nor colour in {mesh}; its MTL must give one.")
    return joined(found)


def z_up_to_y_up(points: np.ndarray) -> np.ndarray:
    """(x, y, z) -> (x, z, -y), for points (P, 3)."""
    return points @ Z_UP_TO_Y_UP[:3, :3].T


def _part(mesh: trimesh.Trimesh, path: Path) -> Drawable | None:
    """None where a material gives no colour."""
    count, visual = len(mesh.vertices), mesh.visual
    uvs, factor, texture = np.zeros((count, 2)), np.ones(3), None
    if not isinstance(visual, trimesh.visual.TextureVisuals):
        return None
    image, diffuse = visual.material.image, visual.material.kwargs.get("kd")
    if image is not None:
        if visual.uv is None or len(visual.uv) != count:
            raise InvalidInput(f"{path} has a texture but no coordinates in it.")
        uvs = np.asarray(visual.uv, np.float64) * (1.0, -1.0) + (0.0, 1.0)  # OBJ counts v upwards
        try:
            texture = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise InvalidInput(f"{path} has a texture that is damaged ({error}); download it again.") from error
    elif diffuse is not None:
        factor = np.asarray(diffuse, np.float64)
    else:
        return None
    vertices = z_up_to_y_up(np.asarray(mesh.vertices, np.float64))
    faces = np.asarray(mesh.faces, np.int64)
    return Drawable(
        vertices, faces, uvs, np.ones((count, 3)), np.zeros(len(faces), np.int64), [Material(factor, texture)]
    )


def _files(path: Path) -> tuple[set[str], Callable[[str], bytes]]:
    """Names of what a folder or zip holds, and how to read one."""
    if path.is_dir():
        names = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
        return names, lambda name: (path / name).read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())

    def read(name: str) -> bytes:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)

    return names, read


class _Files(Resolver):
    """What an OBJ and its MTL name, wherever it lies. trimesh goes on without what it cannot use, so that is remembered."""

    def __init__(self, names: set[str], read: Callable[[str], bytes], folder: str) -> None:
        self._names, self._read, self._folder = names, read, folder
        self.unusable: list[str] = []

    def get(self, name: str) -> bytes:
        name = name.strip().replace("\\", "/")
        for folder in (self._folder, TEXTURES):
            found = posixpath.normpath(posixpath.join(folder, name))
            if found in self._names:
                data = self._read(found)
                if not found.endswith(".mtl"):
                    self._check_image(data, found)
                return data
        self.unusable.append(f"{name} is missing")
        raise FileNotFoundError(name)

    def _check_image(self, data: bytes, name: str) -> None:
        try:
            with Image.open(io.BytesIO(data)):
                pass
        except OSError as error:
            self.unusable.append(f"{name} is not an image that can be read ({error})")

    def write(self, name: str, data: bytes) -> None:
        raise InvalidInput(f"{name} is not written: scanned objects are only read.")

    def keys(self) -> list[str]:
        return sorted(self._names)

    def namespaced(self, namespace: str) -> "_Files":
        return _Files(self._names, self._read, posixpath.join(self._folder, namespace))
