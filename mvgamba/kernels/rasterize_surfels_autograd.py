"""What the compiled bodies of the surfel rasterizer share: images in groups, the autograd function, names and orders.

An image is one view of one scene; image i shows scene i // views. A group of images goes through one chain of launches, and
is cut in halves where it has more entries (pairs of surfel and tile) than one chain may hold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mvgamba.errors import InvalidInput, OutOfMemory
from mvgamba.kernels.rasterize_surfels import Scenes, SurfelPlanes, rho_threshold

PLANES = ("rgb", "alpha_plane", "depth_plane", "normals", "median_depth", "distortion_plane")
CHANNELS = (3, 1, 1, 3, 1, 1)
GRADIENTS = ("g_rgb", "g_alpha", "g_depth", "g_normals", "g_median", "g_distortion")
PARAMETERS = ("means", "quats", "scales", "opacities", "colors")

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Frame:
    """What is the same for all images of a call."""

    height: int
    width: int
    near: float
    far: float
    num_surfels: int
    """Of one scene."""
    views_per_scene: int

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles of 16 x 16 pixels across and down."""
        return -(-self.width // 16), -(-self.height // 16)

    def scenes(self, first: int, count: int) -> tuple[int, int]:
        """The first scene that `count` images from `first` show, and how many."""
        begin = first // self.views_per_scene
        return begin, (first + count - 1) // self.views_per_scene - begin + 1


@dataclass(frozen=True)
class Body:
    """The launches of one implementation."""

    name: str
    images_per_group: Callable[[Frame], int]
    max_entries: int
    """Of one group."""
    forward: Callable[[Frame, int, Tensors, Tensor, Tensors], Tensors | int]
    """(frame, first image, surfels, views, planes to fill) -> what backward needs, or how many entries are too many."""
    backward: Callable[[Frame, int, Tensors, Tensors, Tensors, Tensors, Tensors], None]
    """(frame, first image, surfels, kept, planes, incoming, outgoing to add to)."""


def surfels_of(parameters: Sequence[Tensor]) -> Tensors:
    """The five tensors by name, and the rho at which each surfel ends; -1 for one that cannot be drawn."""
    surfels = dict(zip(PARAMETERS, (t.contiguous() for t in parameters), strict=True))
    # The colours do not take part in the projection, which finds everything else that is not finite.
    has_color = surfels["colors"].isfinite().all(-1)
    surfels["thresholds"] = torch.where(has_color, rho_threshold(surfels["opacities"]), -1)
    return surfels


def images(scenes: Scenes, *, height: int, width: int, near: float, far: float) -> tuple[Frame, Tensor]:
    """What is the same for all images, and the sixteen numbers of each camera, (S * V, 16)."""
    s, v = scenes.w2c.shape[:2]
    w2c, k = scenes.w2c.reshape(s * v, 4, 4), scenes.intrinsics.reshape(s * v, 3, 3)
    lens = torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], -1)
    views = torch.cat([w2c[:, :3, :3].reshape(-1, 9), w2c[:, :3, 3], lens], -1)
    return Frame(int(height), int(width), float(near), float(far), scenes.surfels[0].shape[1], v), views


class _RasterizeSurfels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, body: Body, frame: Frame, views: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        surfels = surfels_of(parameters)
        count = views.shape[0]
        make = views.new_zeros if frame.num_surfels == 0 else views.new_empty
        planes = tuple(make(count, c, frame.height, frame.width) for c in CHANNELS)
        ctx.set_materialize_grads(False)
        ctx.body, ctx.frame, ctx.groups = body, frame, []
        keep = any(ctx.needs_input_grad)
        size = body.images_per_group(frame)
        todo = [(i, min(i + size, count)) for i in range(0, count, size)] if frame.num_surfels else []
        while todo:
            begin, end = todo.pop(0)
            part = {k: p[begin:end] for k, p in zip(PLANES, planes, strict=True)}
            kept = body.forward(frame, begin, surfels, views[begin:end], part)
            if isinstance(kept, int):
                if end - begin == 1:
                    raise OutOfMemory(
                        f"{frame.num_surfels} surfels meet {kept} tiles in a view of {frame.height} x {frame.width}; at most "
                        f"{body.max_entries} can be indexed. Draw a smaller picture, or fewer or smaller surfels."
                    )
                middle = (begin + end) // 2
                todo[:0] = [(begin, middle), (middle, end)]
            elif keep:
                ctx.groups.append((begin, end, kept))
        ctx.save_for_backward(*surfels.values(), *planes)
        return planes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        surfels = dict(zip((*PARAMETERS, "thresholds"), saved[:6], strict=True))
        outgoing = {f"d_{name}": torch.zeros_like(surfels[name]) for name in PARAMETERS}
        incoming = {k: g.contiguous() for k, g in zip(GRADIENTS, gradients, strict=True) if g is not None}
        for begin, end, kept in ctx.groups:
            planes = {k: p[begin:end] for k, p in zip(PLANES, saved[6:], strict=True)}
            part = {k: g[begin:end] for k, g in incoming.items()}
            ctx.body.backward(ctx.frame, begin, surfels, kept, planes, part, outgoing)
        return (None, None, None, *outgoing.values())


def rasterize(body: Body, scenes: Scenes, *, height: int, width: int, near: float, far: float) -> SurfelPlanes:
    """All images of all scenes, float32 on one device. Second derivatives are not available. Raises: InvalidInput for float64."""
    kind = scenes.w2c.dtype
    if kind != torch.float32:
        raise InvalidInput(
            f"The variant {body.name} computes in float32 and takes float32, float16 and bfloat16, got {kind}; use the variant "
            "'reference'."
        )
    frame, views = images(scenes, height=height, width=width, near=near, far=far)
    return scenes.planes(_RasterizeSurfels.apply(body, frame, views, *(t.contiguous() for t in scenes.surfels)))
