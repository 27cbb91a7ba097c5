"""Which triangle each pixel sees, and where in the triangle: a z-buffer for any number of cameras.

    from mvgamba.kernels.rasterize_mesh import rasterize_mesh

    planes = rasterize_mesh(vertices, faces, w2c, intrinsics, height=256, width=256)

- `vertices` (P, 3), `faces` (F, 3) of any integer type: world space; both sides of a face are drawn.
- `w2c` (V, 4, 4) in the OpenCV frame, `intrinsics` (V, 3, 3) in pixels; (0.5, 0.5) is the centre of the upper left pixel.
- `near`: what lies nearer along the view axis is cut away pixel by pixel, so a face may reach behind the camera.

Triangles are set up in homogeneous coordinates after Olano and Greer 1997: with q the corners times the pinhole matrix and
D = (x, y, 1) a pixel, e_i = D . (q_j x q_k), the barycentrics are e_i / (e_0 + e_1 + e_2) and the depth is
(q_0 . q_1 x q_2) / (e_0 + e_1 + e_2). They are perspective-correct and nothing needs to be clipped. It is done in float64:
a pixel on an edge belongs to at least one of its two faces. Of faces at the same depth (in float32) the first one wins.
A face that is seen edge-on or has no area is not drawn.
"""

import importlib.util
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.kernel import Kernel, Variant, always
from mvgamba.kernels.warp_runtime import why_not_on_cpu, why_not_on_cuda

EDGE_TOLERANCE = 1e-9
"""A barycentric coordinate this far below 0 still counts as inside: rounding must not open a crack between two faces."""
FLAT = 1e-14
"""A face with less volume than this (with the eye, relative to its corners) is seen edge-on."""
MOST_FACES = 1 << 30
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class MeshPlanes:
    """What each camera sees of a mesh."""

    face_ids: Int[Tensor, "V H W"]
    """int32; -1 where there is no face."""
    barycentrics: Float[Tensor, "V H W 3"]
    """Weights of the three corners of the face, perspective-correct; they add up to 1, or are 0 without a face."""
    depth: Float[Tensor, "V H W"]
    """Along the view axis; 0 where there is no face."""


def check_inputs(
    vertices: Tensor, faces: Tensor, w2c: Tensor, intrinsics: Tensor, *, height: int, width: int, near: float
) -> None:
    """Shapes and ranges, for every variant.

    Raises:
        InvalidInput: Vertices, faces or sizes cannot be used, or tensors are on different devices.
        InvalidCameras: There is no camera, or matrices have the wrong shape or are not finite.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not vertices.is_floating_point():
        raise InvalidInput(f"vertices must be floats of shape (P, 3), got {vertices.dtype} of {tuple(vertices.shape)}.")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype not in _INTEGERS:
        raise InvalidInput(f"faces must be integers of shape (F, 3), got {faces.dtype} of {tuple(faces.shape)}.")
    if len(faces) > MOST_FACES:
        raise InvalidInput(f"{len(faces)} faces are too many: numbers of faces go up to {MOST_FACES}.")
    devices = {str(t.device) for t in (vertices, faces, w2c, intrinsics)}
    if len(devices) > 1:
        raise InvalidInput(
            f"vertices, faces, w2c and intrinsics must be on one device, got {', '.join(sorted(devices))}."
        )
    if not bool(torch.isfinite(vertices).all()):
        bad = int((~torch.isfinite(vertices)).any(dim=1).sum())
        raise InvalidInput(f"{bad} of {len(vertices)} vertices are not finite numbers. Clean the mesh first.")
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= len(vertices)):
        raise InvalidInput(
            f"faces name vertices {int(faces.min())} to {int(faces.max())}, but there are {len(vertices)} vertices."
        )
    views = w2c.shape[0] if w2c.ndim else 0
    if views == 0:
        raise InvalidCameras("At least one view is needed, got none.")
    for name, matrix, size in (("w2c", w2c, 4), ("intrinsics", intrinsics, 3)):
        if matrix.shape != (views, size, size):
            raise InvalidCameras(f"{name} must have shape ({views}, {size}, {size}), got {tuple(matrix.shape)}.")
        if not bool(torch.isfinite(matrix).all()):
            raise InvalidCameras(f"{name} holds numbers that are not finite.")
    if not (0 < height <= 32767 and 0 < width <= 32767):
        raise InvalidInput(f"height and width must be 1 to 32767 pixels, got {height} x {width}.")
    if not (near > 0 and math.isfinite(near)):
        raise InvalidInput(f"near must be positive and finite, got {near}.")


def homogeneous_corners(
    vertices: Float[Tensor, "P 3"], w2c: Float[Tensor, "V 4 4"], intrinsics: Float[Tensor, "V 3 3"]
) -> Float[Tensor, "V P 3"]:
    """Vertices as (x z, y z, z) with x and y in pixels and z the depth, in float64."""
    transform = intrinsics.double() @ w2c.double()[:, :3]
    corners = torch.einsum("vij,pj->vpi", transform[:, :, :3], vertices.detach().double())
    return (corners + transform[:, None, :, 3]).contiguous()


def why_not_nvdiffrast(device: torch.device) -> str | None:
    """Availability of nvdiffrast."""
    if device.type != "cuda":
        return "it is written for CUDA"
    if importlib.util.find_spec("nvdiffrast") is None:
        return "nvdiffrast is not installed"
    return None


rasterize_mesh = Kernel(
    "rasterize_mesh",
    [
        Variant("warp-cpu", "mvgamba.kernels.rasterize_mesh_warp:rasterize_mesh_warp", why_not_on_cpu),
        Variant("warp-cuda", "mvgamba.kernels.rasterize_mesh_cuda:rasterize_mesh_cuda", why_not_on_cuda),
        Variant(
            "nvdiffrast", "mvgamba.kernels.rasterize_mesh_nvdiffrast:rasterize_mesh_nvdiffrast", why_not_nvdiffrast
        ),
        Variant("reference", "mvgamba.kernels.rasterize_mesh_reference:rasterize_mesh_reference", always),
    ],
)
