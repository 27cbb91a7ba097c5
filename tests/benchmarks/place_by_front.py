"""Puts a result of one image where the true object stands, by what the image shows and nothing else.

One picture says neither size nor distance, so a result lives in a frame of its own. It is scaled and moved, never turned and never
stretched, until the box around its outline in the input camera has the middle and the size (the geometric mean of its edges) of the
box around the true outline. Distance and size look the same in one picture; the middle of the result's own box is put as far away as the
middle of the truth's. A result that was made in the world of the camera keeps its distance.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import project
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import Drawable
from mvgamba.types import Cameras, Similarity

ROUNDS = 30
CLOSE = 1e-6
"""Of the box's size: nearer than this nothing is gained."""


def placed_by_front(result: Drawable, truth: Drawable, camera: Cameras, *, is_posed: bool = False) -> Drawable:
    """The result in the truth's place as one camera sees it.

    Args:
        is_posed: It was made in the world of this camera: it starts from where it is, and its distance stays.
    Raises: InvalidInput: the result has no extent that the camera could see.
    """
    if not result.radius > 0:
        raise InvalidInput("The result is a single point and cannot be scaled to anything.")
    wanted_middle, wanted_size = _box(truth, camera)
    c2w = camera.c2w[0].double()
    eye, back = c2w[:3, 3], c2w[:3, 2]
    middle = torch.from_numpy(result.center if is_posed else truth.center)
    scale = 1.0 if is_posed else truth.radius / result.radius
    distance = float(back @ (eye - middle))
    towards = float((torch.from_numpy(result.vertices - result.center) @ back).max())
    for _ in range(ROUNDS):
        placed = result.placed(_similarity(result, scale, middle))
        now_middle, now_size = _box(placed, camera)
        # along the picture the middle moves as far as the box has to; across the axis one pixel is depth over focal length
        step = (
            (wanted_middle - now_middle)
            * distance
            / torch.stack([camera.intrinsics[0, 0, 0], camera.intrinsics[0, 1, 1]])
        )
        middle = middle + c2w[:3, 0] * step[0] - c2w[:3, 1] * step[1]
        ratio = wanted_size / now_size
        # a deep thing must not swallow the camera
        scale = min(scale * ratio, 0.9 * distance / max(towards, 1e-9))
        if abs(ratio - 1) < CLOSE and float((wanted_middle - now_middle).abs().max()) < CLOSE * wanted_size:
            break
    return result.placed(_similarity(result, scale, middle))


def _similarity(result: Drawable, scale: float, middle: Float[Tensor, "3"]) -> Similarity:
    return Similarity(scale, torch.eye(3, dtype=torch.float64), middle - scale * torch.from_numpy(result.center))


def _box(thing: Drawable, camera: Cameras) -> tuple[Float[Tensor, "2"], float]:
    """Middle of the box around the outline in pixels, and the geometric mean of its edges (of at least a hundredth of the other)."""
    used = torch.from_numpy(thing.vertices[sorted(set(thing.faces.reshape(-1).tolist()))])
    pixels, depth = project(used, camera)
    if not bool((depth > 0).all()):
        raise InvalidInput("The result reaches behind the camera of the input image.")
    low, high = pixels[0].amin(0), pixels[0].amax(0)
    edges = (high - low).tolist()
    longest = max(edges)
    if not longest > 0:
        raise InvalidInput("The result has no extent in the picture.")
    return (low + high) / 2, math.sqrt(max(edges[0], 0.01 * longest) * max(edges[1], 0.01 * longest))
