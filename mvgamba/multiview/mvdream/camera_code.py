"""The camera as MVDream reads it: sixteen numbers of a matrix in Blender's axes.

Facts, of the released code: a camera to world matrix with OpenGL axes is turned from a world with +Y up to one with +Z up, its position is
scaled to the unit sphere, and it is flattened by rows. Neither the distance nor the field of view is told.

Which way an object faces is learned, not defined: the published scripts begin at their azimuth 90 for the front, which is +X in Blender's
axes, and so do those who reconstruct from the views (LGM and MVGamba take view 1 of 4 as the first). Here the front is +Z at azimuth 0.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import turn_about_vertical
from mvgamba.errors import InvalidCameras
from mvgamba.types import Cameras

CODE_SIZE = 16
FRONT = math.pi / 2
"""Their azimuth of what is azimuth 0 here."""

_Y_UP_TO_Z_UP = torch.tensor(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64
)
_TOLERANCE = 1e-3


def c2w_to_camera_code(c2w: Float[Tensor, "*b V 4 4"]) -> Float[Tensor, "*b V 16"]:
    """House cameras (world +Y up, front +Z) -> what the network is told, in float32.

    Raises: InvalidCameras, unless each matrix is a rigid motion of a right-handed camera that does not stand at the origin.
    """
    given = c2w.double()
    _check_rigid(given)
    turn = torch.eye(4, dtype=torch.float64, device=given.device)
    turn[:3, :3] = turn_about_vertical(FRONT).to(given.device)
    theirs = _Y_UP_TO_Z_UP.to(given.device) @ turn @ given
    theirs[..., :3, 3] = theirs[..., :3, 3] / theirs[..., :3, 3].norm(dim=-1, keepdim=True)
    return theirs.flatten(-2).float()


def camera_code_to_c2w(code: Float[Tensor, "*b V 16"], *, radius: float) -> Float[Tensor, "*b V 4 4"]:
    """The way back, with the camera at `radius` from the origin, in float64."""
    theirs = code.double().unflatten(-1, (4, 4)).clone()
    theirs[..., :3, 3] *= radius
    turn = torch.eye(4, dtype=torch.float64, device=code.device)
    turn[:3, :3] = turn_about_vertical(-FRONT).to(code.device)
    return turn @ _Y_UP_TO_Z_UP.T.to(code.device) @ theirs


def check_looks_at_origin(cameras: Cameras) -> None:
    """Raises: InvalidCameras, unless every camera stands upright, outside the unit ball, and looks at its middle.

    Those are all the cameras that the networks have been trained with.
    """
    c2w = cameras.c2w.double()
    distance = c2w[..., :3, 3].norm(dim=-1)
    off = (c2w[..., :3, 2] * c2w[..., :3, 3]).sum(-1) / distance.clamp_min(1e-9)
    roll = c2w[..., 1, 0].abs()
    for view in range(cameras.num_views):
        if float(distance[view]) <= 1.0 or float(off[view]) < math.cos(math.radians(2)) or float(roll[view]) > 0.035:
            raise InvalidCameras(
                f"Camera {view} stands {float(distance[view]):.2f} from the origin, looks "
                f"{math.degrees(math.acos(min(max(float(off[view]), -1.0), 1.0))):.0f} degrees past it and is rolled by "
                f"{math.degrees(math.asin(min(float(roll[view]), 1.0))):.0f}. Expected are upright cameras outside the unit ball that "
                "look at the origin."
            )


def _check_rigid(c2w: Float[Tensor, "*b V 4 4"]) -> None:
    if not bool(torch.isfinite(c2w).all()):
        raise InvalidCameras("c2w holds numbers that are not finite; expected rigid camera to world matrices.")
    rotation = c2w[..., :3, :3]
    unit = torch.eye(3, dtype=c2w.dtype, device=c2w.device)
    if float((rotation @ rotation.mT - unit).abs().max()) > _TOLERANCE:
        raise InvalidCameras("c2w is not a rotation and a position: its axes are not unit vectors at right angles.")
    if float(torch.linalg.det(rotation).min()) < 0:
        raise InvalidCameras(
            "c2w is mirrored (its axes are left-handed); expected +X right, +Y up and a view along -Z."
        )
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=c2w.dtype, device=c2w.device)
    if float((c2w[..., 3, :] - last).abs().max()) > _TOLERANCE:
        raise InvalidCameras("The last row of c2w must be 0 0 0 1; is the matrix transposed?")
    if float(c2w[..., :3, 3].norm(dim=-1).min()) < 1e-6:
        raise InvalidCameras("A camera stands at the origin, where the object is; it must stand outside the unit ball.")
