"""From posed views to the token sequence of the network: nine channels a pixel, patches, and the orders of scanning."""

import functools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mvgamba.errors import InvalidCameras, InvalidImage
from mvgamba.reconstructor.presets import NetworkConfig, ScanOrder
from mvgamba.types import Cameras, PosedViews

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
"""Of ImageNet, as the published networks were trained."""


@functools.cache
def scan_orders(order: ScanOrder, grid: int) -> Int[Tensor, "4 T"]:
    """Which patch (row * grid + column) each of the four scans meets at each step.

    `code`: by rows; by columns; by rows from the right; by columns from the bottom. No scan is the reverse of another.
    `paper`: by rows from the upper left and back; by columns from the upper right and back.
    """
    index = torch.arange(grid * grid, device="cpu").reshape(grid, grid)
    if order == "code":
        scans = [index, index.T, index.flip(1), index.T.flip(1)]
    else:
        down_from_right = index.flip(1).T
        scans = [index, index.flip(0, 1), down_from_right, down_from_right.flip(0, 1)]
    return torch.stack([scan.reshape(-1) for scan in scans])


def plucker_rays(cameras: Cameras) -> Float[Tensor, "*b V 6 H W"]:
    """Moment (origin x direction) and unit direction of the ray through every pixel, in float32."""
    c2w, k = cameras.c2w.double(), cameras.intrinsics.double()
    device = c2w.device
    x = torch.arange(cameras.width, device=device, dtype=torch.float64) + 0.5
    y = torch.arange(cameras.height, device=device, dtype=torch.float64) + 0.5
    across = (x - k[..., 0, 2, None]) / k[..., 0, 0, None]
    up = -(y - k[..., 1, 2, None]) / k[..., 1, 1, None]
    shape = (*c2w.shape[:-2], cameras.height, cameras.width)
    local = torch.stack(
        [across[..., None, :].expand(shape), up[..., :, None].expand(shape), c2w.new_full(shape, -1.0)], dim=-3
    )
    direction = torch.einsum("...ij,...jhw->...ihw", c2w[..., :3, :3], F.normalize(local, dim=-3))
    origin = c2w[..., :3, 3, None, None].expand_as(direction)
    return torch.cat([torch.linalg.cross(origin, direction, dim=-3), direction], dim=-3).float()


def network_input(views: PosedViews, config: NetworkConfig) -> Float[Tensor, "*b V 9 S S"]:
    """Normalised colour on white and Plücker rays, at the size the network takes.

    The cameras must already be in the frame of the first one. Colour is composed on white once and then scaled, so that
    no fringe of the background is left at a soft edge.

    Raises:
        InvalidCameras: Another number of views than the network has positions for.
        InvalidImage: The views are not square.
    """
    if views.num_views != config.num_views:
        raise InvalidCameras(
            f"This network was trained on {config.num_views} views at once, got {views.num_views}. "
            f"Hand over {config.num_views} of them, a quarter turn apart."
        )
    height, width = views.rgb.shape[-2:]
    if height != width:
        raise InvalidImage(f"This network takes square views, got {width} x {height} pixels. Crop or pad them.")
    size = config.image_size
    rgb = views.rgb * views.alpha + (1 - views.alpha)
    if height != size:
        flat = rgb.reshape(-1, 3, height, width)
        flat = F.interpolate(flat, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        rgb = flat.reshape(*rgb.shape[:-2], size, size)
    mean = rgb.new_tensor(IMAGE_MEAN)[:, None, None]
    std = rgb.new_tensor(IMAGE_STD)[:, None, None]
    factor = views.cameras.intrinsics.new_tensor([[size / width], [size / height], [1.0]])
    cameras = Cameras(views.cameras.c2w, views.cameras.intrinsics * factor, size, size)
    return torch.cat([(rgb.float() - mean) / std, plucker_rays(cameras).to(rgb.device)], dim=-3)


def patches_to_sequence(patches: Float[Tensor, "b V C g g"], order: ScanOrder) -> Float[Tensor, "b L C"]:
    """Every view's patches in the order of each scan: position ((view * 4) + scan) * g * g + step."""
    batch, views, channels, grid, _ = patches.shape
    orders = scan_orders(order, grid).to(patches.device)
    by_patch = patches.flatten(-2).transpose(-1, -2)  # (b, V, T, C)
    return by_patch[:, :, orders].reshape(batch, views * orders.numel(), channels)


def make_patch_projection(config: NetworkConfig) -> nn.Conv2d:
    """Nine channels of a patch -> one token; truncated normal weights of the fan-in, zero bias."""
    conv = nn.Conv2d(9, config.width, kernel_size=config.patch_size, stride=config.patch_size)
    nn.init.trunc_normal_(conv.weight, std=(9 * config.patch_size**2) ** -0.5)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
