"""A baked texture made to fit its views better: least squares over all pixels at once, held by total variation.

Blending gives a texel the mean of what views show at its place, and a pixel is itself a mean over texels. Both blur. A
rendered pixel is linear in the texture when the mesh is fixed, in linear light as cameras and renderers add it up. So with
A that matrix, b the views and x the texture

    sum_p w_p rho(A x - b)  +  lambda sum_edges phi(x_i - x_j)  +  mu |x - x_baked|^2

is minimised by iterated reweighting (rho and phi grow like absolute values, so pixels that contradict the others and edges of
the texture cost little), each round by conjugate gradients with a diagonal preconditioner. Errors are weighted by the slope
of sRGB, so that they count as they are seen. Views may differ in exposure by a factor, which is found along with it. Texels
that no pixel shows stay as they were baked.
"""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, vstack

from mvgamba.errors import InvalidInput
from mvgamba.texturing.fill import fill_between_charts
from mvgamba.texturing.gains import CLEAR, MOST
from mvgamba.texturing.light import srgb_slope, to_linear, to_srgb
from mvgamba.texturing.sharpening import pixel_rows
from mvgamba.texturing.texels import sight_of
from mvgamba.texturing.unwrap import rasterize_uvs
from mvgamba.types import PosedViews, TexturedMesh

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextureOptions:
    """How much the views are believed; the defaults won the comparison in the README."""

    rounds: int = 4
    """Of reweighting."""
    steps: int = 8
    """Of conjugate gradients in each round."""
    power: float = 1.0
    """Of the cosine between surface and view, in the weight of a pixel."""
    contradiction: float = 0.06
    """Pixels off by more than this (sRGB, root of the sum of squares) count as a linear, not a square error."""
    variation: float = 0.001
    """Weight of total variation, as a share of the mean weight of a texel that is seen."""
    edge: float = 0.02
    """Neighbouring texels that differ by less than this (sRGB) are pulled together by squares."""
    pull: float = 0.1
    """Weight of the pull towards the baked texture, as the same share."""


def optimise_texture(
    textured: TexturedMesh,
    views: PosedViews,
    *,
    options: TextureOptions | None = None,
    report: Callable[[float], None] | None = None,
) -> TexturedMesh:
    """The mesh with the texture whose renders are nearest to the views, starting from the texture it has.

    Only pixels count that are opaque, wholly on the mesh and away from its depth edges, so outlines do not bleed.

    Args:
        views: No batch axes, in the frame of the mesh.
        report: Called with the fraction that is done.
    Raises:
        InvalidInput: The views have batch axes, or the texture is not square.
    """
    options = options or TextureOptions()
    tell = report or (lambda fraction: None)
    size = textured.albedo.shape[0]
    if textured.albedo.shape[1] != size:
        raise InvalidInput(f"The texture must be square, got {textured.albedo.shape[1]} x {size} pixels.")
    if views.rgb.ndim != 4:
        raise InvalidInput(f"views must have no batch axes: rgb of shape (V, 3, H, W), got {tuple(views.rgb.shape)}.")
    sight = sight_of(textured, views.to("cpu"))
    parts = [pixel_rows(textured, sight, v, size, options.power) for v in range(views.num_views)]
    seen = [p for p in parts if p is not None]
    if not seen:
        log.warning("No pixel of the views lies wholly on the mesh: the texture stays as it was baked.")
        return textured
    tell(0.3)
    system = _System.of(seen, size)
    texture = _TO_LINEAR[textured.albedo.reshape(-1, 3)]
    covered = (rasterize_uvs(textured.uvs, textured.faces, size).face_ids[0] >= 0).numpy()
    edges = _edges(covered, system.used, size)
    baked = texture[system.used]
    x = baked
    for turn in range(options.rounds):
        x = _round(system, x, baked, edges, options)
        tell(0.3 + 0.65 * (turn + 1) / options.rounds)
    texture[system.used] = x
    known = covered.reshape(-1).copy()
    known[system.used] = True
    square = (size, size)
    picture = to_srgb(texture).reshape(*square, 3)
    filled = fill_between_charts(picture, known.reshape(square), reach=max(8, size // 64))
    tell(1.0)
    return dataclasses.replace(textured, albedo=(filled * 255.0 + 0.5).clip(0, 255).astype(np.uint8))


_TO_LINEAR = to_linear(np.arange(256) / 255.0)


@dataclass(frozen=True, eq=False)
class _System:
    """All pixels as rows, with the texels that they show as columns."""

    matrix: csr_matrix
    transposed: csr_matrix
    colors: Float[np.ndarray, "R 3"]
    weights: Float[np.ndarray, "R"]
    view: Int[np.ndarray, "R"]
    used: Int[np.ndarray, "M"]
    """Texels (row times size plus column) behind the columns."""

    @staticmethod
    def of(parts: list[tuple[csr_matrix, np.ndarray, np.ndarray]], size: int) -> "_System":
        every = vstack([p[0] for p in parts], format="csr")
        touched = np.zeros(size * size, bool)
        touched[every.indices] = True
        used = np.flatnonzero(touched)
        renamed = np.zeros(size * size, np.int32)
        renamed[used] = np.arange(len(used), dtype=np.int32)
        matrix = csr_matrix((every.data, renamed[every.indices], every.indptr), shape=(every.shape[0], len(used)))
        matrix.sum_duplicates()
        counts = [p[0].shape[0] for p in parts]
        return _System(
            matrix,
            matrix.T.tocsr(),
            to_linear(np.concatenate([p[1] for p in parts])),
            np.concatenate([p[2] for p in parts]).astype(np.float32),
            np.repeat(np.arange(len(parts)), counts),
            used,
        )


def _edges(
    covered: Bool[np.ndarray, "T T"], used: Int[np.ndarray, "M"], size: int
) -> tuple[Int[np.ndarray, "E"], Int[np.ndarray, "E"]]:
    """Pairs of neighbouring texels of one chart, by their column: charts are more than one texel apart."""
    column = np.full(size * size, -1, np.int32)
    column[used] = np.arange(len(used), dtype=np.int32)
    grid = column.reshape(size, size)
    pairs = []
    for a, b, c, d in (
        (grid[:, :-1], grid[:, 1:], covered[:, :-1], covered[:, 1:]),
        (grid[:-1], grid[1:], covered[:-1], covered[1:]),
    ):
        both = (a >= 0) & (b >= 0) & (c | d)
        pairs.append((a[both], b[both]))
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _exposures(system: _System, rendered: np.ndarray) -> Float[np.ndarray, "R 1"]:
    """The factor for the colours of each pixel's view, by medians; 1 for all unless views clearly differ."""
    bright, shown = system.colors.mean(1), rendered.mean(1)
    usable = (bright > 0.08) & (shown > 0.08) & (system.colors.max(1) < 0.98)
    logarithm = np.zeros(int(system.view.max()) + 1)
    for view in range(len(logarithm)):
        mine = usable & (system.view == view)
        if mine.sum() >= 100:
            logarithm[view] = np.median(np.log(shown[mine] / bright[mine]))
    logarithm -= logarithm.mean()
    if np.sqrt((logarithm**2).mean()) < CLEAR:
        logarithm[:] = 0
    return np.exp(np.clip(logarithm, -MOST, MOST)).astype(np.float32)[system.view][:, None]


def _laplacian(first: np.ndarray, second: np.ndarray, weights: np.ndarray, count: int) -> csr_matrix:
    """Of a graph with these edges."""
    rows = np.concatenate([first, second, first, second])
    columns = np.concatenate([second, first, first, second])
    values = np.concatenate([-weights, -weights, weights, weights])
    return csr_matrix((values, (rows, columns)), shape=(count, count))


def _round(
    system: _System,
    x: Float[np.ndarray, "M 3"],
    baked: Float[np.ndarray, "M 3"],
    edges: tuple[np.ndarray, np.ndarray],
    options: TextureOptions,
) -> Float[np.ndarray, "M 3"]:
    """Weights from the present texture, then a few steps of conjugate gradients on the normal equations."""
    rendered = system.matrix @ x
    target = np.clip(system.colors * _exposures(system, rendered), 0, 1)
    off = np.linalg.norm(to_srgb(np.clip(rendered, 0, 1)) - to_srgb(target), axis=1)
    believed = system.weights / np.sqrt(1 + (off / options.contradiction) ** 2)
    w = (believed[:, None] * srgb_slope(target) ** 2).astype(np.float32)
    unit = float((system.transposed @ believed).mean())
    first, second = edges
    shown = to_srgb(np.clip(x, 0, 1))
    steepness = np.linalg.norm(shown[first] - shown[second], axis=1)
    slope = srgb_slope(baked) ** 2
    tv = options.variation * unit / np.sqrt(steepness**2 + options.edge**2)
    tv = (tv * np.sqrt(slope[first] * slope[second]).mean(1)).astype(np.float32)
    laplacian = _laplacian(first, second, tv, len(x))
    pull = options.pull * unit * slope

    def normal(v: np.ndarray) -> np.ndarray:
        return system.transposed @ (w * (system.matrix @ v)) + pull * v + laplacian @ v

    squared = system.transposed.copy()
    squared.data = squared.data**2
    diagonal = squared @ w + pull + laplacian.diagonal()[:, None]
    residual = system.transposed @ (w * target) + pull * baked - normal(x)
    ready = residual / diagonal
    direction, size = ready, (residual * ready).sum(0)
    for _ in range(options.steps):
        along = normal(direction)
        length = size / np.maximum((direction * along).sum(0), 1e-20)
        x = x + length * direction
        residual = residual - length * along
        ready = residual / diagonal
        new = (residual * ready).sum(0)
        direction = ready + new / np.maximum(size, 1e-20) * direction
        size = new
    return np.clip(x, 0.0, 1.0).astype(np.float32)
