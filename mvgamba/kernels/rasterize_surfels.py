"""The rasterizer of 2D Gaussian surfels: what it computes, what it takes and gives, and who can run it.

After Huang et al. 2024, "2D Gaussian Splatting for Geometrically Accurate Radiance Fields". For a surfel with centre p,
unit tangents a and b, normal n and standard deviations s_u and s_v, all in the OpenCV frame of a camera, the ray
D = ((x - cx) / fx, (y - cy) / fy, 1) of a pixel meets the plane of the disc at depth z = (n.p) / (n.D), at
u = (zD - p).a / s_u and v = (zD - p).b / s_v. With

    rho3 = u^2 + v^2                 (only where z >= near)
    rho2 = 2 |pixel - projected centre|^2        (a low-pass filter of sqrt(1/2) pixels)
    rho  = min(rho3, rho2)
    alpha = min(0.99, opacity exp(-rho / 2)), nothing below 1/255

the surfels are blended in order of the depth of their centres, w_i = alpha_i T_i, until T would fall below 1e-4. Where
the low-pass filter wins, the depth is that of the centre, so that a disc seen edge-on cannot throw depths far off.
Distortion is the sum over pairs of w_i w_j (m_i - m_j)^2 with m(z) from 0 at `DISTORTION_NEAR` to 1 at `DISTORTION_FAR`.
"""

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.errors import InvalidCameras, InvalidInput, Unavailable
from mvgamba.kernels.kernel import Kernel, Variant, always
from mvgamba.kernels.warp_runtime import why_not_on_cpu, why_not_on_cuda

ALPHA_MAX = 0.99
ALPHA_MIN = 1.0 / 255.0
TRANSMITTANCE_MIN = 1e-4
COSINE_MIN = 1e-3
"""A surfel whose plane is closer than this to the ray to its centre is seen edge-on and is not drawn."""
HORIZON = 1e-6
"""A ray that meets the plane of a surfel farther away than 1 / HORIZON of the surfel's depth does not meet it."""
DISTORTION_NEAR = 0.5
DISTORTION_FAR = 4.0
"""Objects in the unit ball seen from 1.5 to 2.5 away lie between them."""
DISTORTION_SLOPE = DISTORTION_NEAR * DISTORTION_FAR / (DISTORTION_FAR - DISTORTION_NEAR)
"""m(z) = constant - slope / z; the constant has no say in differences."""
NEAR = 0.2
FAR = 100.0


MAX_SURFELS = 1 << 24
"""In one scene: so that no index of what a camera keeps of a surfel needs more than 31 bits."""


@dataclass(frozen=True, eq=False)
class SurfelPlanes:
    """What each camera sees, as sums over surfels; every plane is differentiable. `*s` are the axes of scenes, if any."""

    rgb: Float[Tensor, "*s V 3 H W"]
    """Sum of w c: premultiplied, over black."""
    alpha: Float[Tensor, "*s V 1 H W"]
    depth: Float[Tensor, "*s V 1 H W"]
    """Sum of w z, not divided by alpha."""
    normals: Float[Tensor, "*s V 3 H W"]
    """Sum of w n in world axes, each n turned towards the camera; not unit length."""
    median_depth: Float[Tensor, "*s V 1 H W"]
    """Depth of the last surfel that is met while the transmittance is above one half, 0 where none is."""
    distortion: Float[Tensor, "*s V 1 H W"]


@dataclass(frozen=True, eq=False)
class Scenes:
    """The checked input of a call: one axis of scenes, in the type that is computed in."""

    surfels: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
    """means (S, N, 3), quats (S, N, 4), scales (S, N, 2), opacities (S, N), colors (S, N, 3)."""
    w2c: Float[Tensor, "S V 4 4"]
    intrinsics: Float[Tensor, "S V 3 3"]
    batch: tuple[int, ...]
    """The axes of scenes as they came; none for one scene."""

    def planes(self, values: Sequence[Tensor]) -> SurfelPlanes:
        """From planes (S * V, C, H, W) in the order of the fields, with the axes of the call."""
        views = self.w2c.shape[1]
        return SurfelPlanes(*(v.reshape(*self.batch, views, *v.shape[1:]) for v in values))


def prepare(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    w2c: Tensor,
    intrinsics: Tensor,
    *,
    height: int,
    width: int,
    near: float,
    far: float,
) -> Scenes:
    """Shapes, types and devices checked, for every variant; half precision becomes float32, as planes are then.

    Raises:
        InvalidInput: Surfels, sizes or depths cannot be used.
        InvalidCameras: There is no camera, or matrices have the wrong shape.
    """
    batch = tuple(means.shape[:-2])
    n = means.shape[-2] if means.ndim >= 2 else -1
    given = {"means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors}
    for (name, tensor), last in zip(given.items(), ((3,), (4,), (2,), (), (3,)), strict=True):
        if tensor.shape != (*batch, n, *last):
            words = ", ".join([*map(str, batch), "N", *map(str, last)]) + ("" if batch or last else ",")
            raise InvalidInput(f"{name} must have shape ({words}) with N = {n}, got {tuple(tensor.shape)}.")
    if n > MAX_SURFELS:
        raise InvalidInput(f"A scene may have {MAX_SURFELS} surfels at most, got {n}; draw parts of it.")
    if 0 in batch:
        raise InvalidInput(f"At least one scene is needed, got the axes {batch}.")
    views = w2c.shape[-3] if w2c.ndim >= 3 else 0
    if views == 0:
        raise InvalidCameras("At least one view is needed, got none.")
    for name, matrix, size in (("w2c", w2c, 4), ("intrinsics", intrinsics, 3)):
        if matrix.shape != (*batch, views, size, size):
            words = ", ".join(map(str, (*batch, views, size, size)))
            raise InvalidCameras(f"{name} must have shape ({words}), got {tuple(matrix.shape)}.")
    half = means.dtype in (torch.float16, torch.bfloat16)
    for name, tensor in {**given, "w2c": w2c, "intrinsics": intrinsics}.items():
        fits = tensor.dtype == means.dtype or (half and name not in given and tensor.dtype == torch.float32)
        if not fits or tensor.device != means.device or not tensor.is_floating_point():
            raise InvalidInput(
                f"{name} must be floating point with the type and device of means ({means.dtype} on {means.device}), "
                f"got {tensor.dtype} on {tensor.device}."
            )
    if not (0 < height <= 32767 and 0 < width <= 32767):
        raise InvalidInput(f"height and width must be 1 to 32767 pixels, got {height} x {width}.")
    if not (0 < near < far and math.isfinite(near)):
        raise InvalidInput(f"near and far must be 0 < near < far, got {near} and {far}.")
    kind = torch.float32 if half else means.dtype
    flat = [t.to(kind).reshape(math.prod(batch), *t.shape[len(batch) :]) for t in (*given.values(), w2c, intrinsics)]
    return Scenes((flat[0], flat[1], flat[2], flat[3], flat[4]), flat[5].detach(), flat[6].detach(), batch)


def rho_threshold(opacities: Tensor) -> Tensor:
    """The rho at which a surfel falls below `ALPHA_MIN`; negative or NaN for one that is never seen."""
    return 2.0 * torch.log(opacities.detach() / ALPHA_MIN)


def _why_not_copied(device: torch.device) -> str | None:
    """A device without a kernel of its own lets the CPU do it: copying costs a millisecond, the reference seconds."""
    return why_not_on_cpu(torch.device("cpu")) if device.type != "cpu" else "nothing has to be copied"


def _why_not_package(package: str) -> Callable[[torch.device], str | None]:
    def why_not(device: torch.device) -> str | None:
        if device.type != "cuda":
            return "it is written for CUDA"
        return None if importlib.util.find_spec(package) else f"{package} is not installed"

    return why_not


_INSTALLED = "mvgamba.kernels.rasterize_surfels_installed"
rasterize_surfels = Kernel(
    "rasterize_surfels",
    [
        Variant("warp-cpu", "mvgamba.kernels.rasterize_surfels_warp:rasterize_surfels_warp", why_not_on_cpu),
        Variant("warp-cuda", "mvgamba.kernels.rasterize_surfels_cuda:rasterize_surfels_cuda", why_not_on_cuda),
        Variant("warp-cpu-copied", "mvgamba.kernels.rasterize_surfels_warp:rasterize_surfels_copied", _why_not_copied),
        Variant("reference", "mvgamba.kernels.rasterize_surfels_reference:rasterize_surfels_reference", always),
        # Others' planes mean other things, so these come last: `reference` always can run, and they are only used when asked for.
        Variant(
            "diff-surfel-rasterization",
            f"{_INSTALLED}:rasterize_surfels_diff_surfel",
            _why_not_package("diff_surfel_rasterization"),
        ),
        Variant("gsplat", f"{_INSTALLED}:rasterize_surfels_gsplat", _why_not_package("gsplat")),
    ],
)
"""rasterize_surfels(means, quats, scales, opacities, colors, w2c, intrinsics, *, height, width, near, far) -> SurfelPlanes

One scene seen by V cameras: means (N, 3), quats (N, 4) wxyz of any length, scales (N, 2), opacities (N), colors (N, 3), w2c
(V, 4, 4) in the OpenCV frame, intrinsics (V, 3, 3) without skew. Or many scenes of as many surfels and views: all seven with the
same leading axes, the planes too. Half precision is computed in, and gives planes of, float32; cameras may be float32 then. Gradients flow to the five tensors of the surfels, not to the
cameras. Surfels with a parameter that is not finite, with a scale that is not positive, with the centre outside [near, far], or
seen edge-on are not drawn and get gradient zero. Raises InvalidInput and InvalidCameras (see `prepare`), and OutOfMemory where a
view has more pairs of surfel and tile than can be indexed.
"""

DEPTH_MEANS = {name: "centre" if name == "gsplat" else "plane" for name in rasterize_surfels.variants}
"""What the depth planes of a variant hold: where the ray meets the plane of each disc, or the depth of each disc's centre."""


def check_depth_for_fusion(device: torch.device | str) -> None:
    """To be called before depth that was rendered on `device` goes into a distance field.

    Raises:
        Unavailable: The variant in use gives the depth of centres, which turns slanted surfaces into steps.
    """
    name = rasterize_surfels.choose(device)
    if DEPTH_MEANS[name] != "plane":
        good = ", ".join(n for n, meaning in DEPTH_MEANS.items() if meaning == "plane")
        raise Unavailable(
            f"Depth of the rasterizer {name!r} is that of the centre of each surfel and cannot be fused into a surface; use one of: {good}."
        )
