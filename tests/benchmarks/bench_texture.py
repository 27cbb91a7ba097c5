"""Unwrapping beside xatlas, the mesh rasterizer beside its plain torch form, baking and fitting a texture."""

import math
from collections.abc import Iterator

import numpy as np
import torch
import trimesh

from mvgamba.cameras import c2w_to_w2c_opencv, fibonacci_cameras
from mvgamba.evaluation.drawable import Drawable, Material
from mvgamba.evaluation.photograph import photograph
from mvgamba.kernels.rasterize_mesh import rasterize_mesh
from mvgamba.texturing.bake import bake_texture
from mvgamba.texturing.optimise import optimise_texture
from mvgamba.texturing.unwrap import unwrap
from mvgamba.types import Mesh, PosedViews
from tests.benchmarks.rows import Row, fastest

TEXTURE = 1024


def noisy_torus(faces: int) -> Mesh:
    """About so many faces, bumpy as reconstructed surfaces are: noise of 0.4 % of the radius at 20,000 faces.

    It shrinks with the faces, so that they are tilted alike at every count: with more tilt a surface falls into more charts.
    """
    minor = max(3, round(math.sqrt(faces / 4)))
    torus = trimesh.creation.torus(0.7, 0.28, major_sections=2 * minor, minor_sections=minor)
    vertices = np.asarray(torus.vertices, np.float64)
    noise = np.random.default_rng(0).normal(0, 0.004 * 0.7 * math.sqrt(20_000 / faces), vertices.shape)
    return Mesh(vertices + noise, np.asarray(torus.faces, np.int64))


def pictures_of(mesh: Mesh, views: int, size: int) -> PosedViews:
    """Colours from waves in space, from cameras all around."""
    colors = 0.5 + 0.4 * np.sin(mesh.vertices * [9.0, 7.0, 11.0] + 1.0)
    count = len(mesh.vertices)
    drawable = Drawable(
        mesh.vertices,
        mesh.faces,
        np.zeros((count, 2)),
        colors,
        np.zeros(len(mesh.faces), np.int64),
        [Material(np.ones(3))],
    )
    return photograph(drawable, fibonacci_cameras(views, radius=2.6, fovy=0.85, height=size, width=size))


def _by_xatlas(mesh: Mesh) -> None:
    import xatlas

    options = xatlas.PackOptions()
    options.resolution = TEXTURE
    options.padding = 4
    atlas = xatlas.Atlas()
    atlas.add_mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32))
    atlas.generate(pack_options=options)


def _why_no_xatlas() -> str | None:
    try:
        import xatlas  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this file; `quick` takes small sizes."""
    yield from _unwrap_rows(quick)
    yield from _rasterizer_rows(quick)
    yield from _bake_rows(quick)


def _unwrap_rows(quick: bool) -> Iterator[Row]:
    reason = _why_no_xatlas()
    if reason:
        print(f"no row for xatlas: {reason}")
    for thousands in (2,) if quick else (20, 50):
        mesh = noisy_torus(1000 * thousands)
        calls = {"ours": lambda mesh=mesh: unwrap(mesh, texture_size=TEXTURE)}
        beside = not reason and thousands <= 20  # at 50,000 faces xatlas takes a minute and more on a busy machine
        if beside:
            calls["xatlas"] = lambda mesh=mesh: _by_xatlas(mesh)
        unwrap(mesh, texture_size=TEXTURE)
        best = fastest(calls, rounds=1, warm_ups=0)  # xatlas takes seconds, and has nothing to warm up
        size = f"{len(mesh.faces)} faces, {TEXTURE} x {TEXTURE}"
        if beside:
            yield Row(f"unwrap {thousands}k faces", size, best["ours"], "xatlas", best["xatlas"], "ratio <= 1")
        yield Row(f"unwrap {thousands}k faces, waiting", size, best["ours"], "five seconds", None, "seconds <= 5")
    for thousands in (1, 2) if quick else (2, 5, 10, 20, 50, 100):
        mesh = noisy_torus(1000 * thousands)
        best = fastest({"ours": lambda mesh=mesh: unwrap(mesh, texture_size=TEXTURE)}, rounds=2)
        faces = len(mesh.faces)
        yield Row("unwrap, growth", f"{faces} faces", best["ours"], "itself", curve=("faces", faces))


def _rasterizer_rows(quick: bool) -> Iterator[Row]:
    faces, views, size = (1000, 2, 64) if quick else (20_000, 8, 512)
    mesh = noisy_torus(faces)
    cameras = fibonacci_cameras(views, radius=2.6, fovy=0.85, height=size, width=size)
    args = (
        torch.from_numpy(mesh.vertices).float(),
        torch.from_numpy(mesh.faces),
        c2w_to_w2c_opencv(cameras.c2w).float(),
        cameras.intrinsics.float(),
    )

    def run(name: str) -> None:
        rasterize_mesh.function(name)(*args, height=size, width=size)

    best = fastest({name: lambda name=name: run(name) for name in ("warp-cpu", "reference")}, rounds=3)
    yield Row(
        "mesh rasterizer",
        f"{len(mesh.faces)} faces, {views} views of {size} x {size}",
        best["warp-cpu"],
        "plain torch (our reference)",
        best["reference"],
    )


def _bake_rows(quick: bool) -> Iterator[Row]:
    texture, faces, views, size = (128, 1000, 3, 48) if quick else (TEXTURE, 20_000, 8, 256)
    mesh = noisy_torus(faces)
    flat = unwrap(mesh, texture_size=texture)
    pictures = pictures_of(mesh, views, size)
    what = f"{texture} x {texture}, {views} views of {size} x {size}"

    def bake_with(variant: str) -> None:
        with rasterize_mesh.use(variant):
            bake_texture(flat, pictures, texture_size=texture)

    best = fastest({name: lambda name=name: bake_with(name) for name in ("warp-cpu", "reference")}, rounds=2)
    yield Row("bake", what, best["warp-cpu"], "with the plain torch rasterizer", best["reference"])
    baked = bake_texture(flat, pictures, texture_size=texture)
    best = fastest({"ours": lambda: optimise_texture(baked, pictures)}, rounds=2)
    yield Row("fit the texture", what, best["ours"], "itself")
