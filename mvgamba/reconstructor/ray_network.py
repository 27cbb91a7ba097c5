"""The ray network: given views and two queried ones in one state-space model, a depth along every ray that meets the hull.

Our own variant of MVGamba (the decoder `ray`). What differs from the published network, and why:

- A surface point is found along its ray between the hull's first entry and last exit, not in a free box of bins.
- Patches that no ray through the hull meets are dropped before the first layer: most of a picture.
- Positions are sinusoids and rays, so the number of views and of pixels is free, and nothing is tied to an index.
- Layers take turns in reading: views one by one along rows, bands of one height through all views, views along columns, each
  forward and backward. In a level ring a band holds what the views see of the same slice of the object.
- Views from the top and from below, which nobody took, are queried too: their silhouette, colours and depth are guessed.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mvgamba.errors import InvalidInput
from mvgamba.reconstructor.blocks import NORM_EPS, MambaMixer
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS
from mvgamba.reconstructor.presets import NetworkConfig

PLANES = 14
"""rgb, alpha, near, far, meets the hull, is queried, direction, moment."""
LOCAL = 8
"""Of these, the ones that the pixels of a patch are decoded with."""
OUTPUTS = 6
"""Depth, its uncertainty, silhouette, rgb."""
FREQUENCIES = 6
SCANS = ("views", "bands", "columns")


@dataclass(frozen=True)
class RayConfig:
    """Sizes of a ray network."""

    width: int = 192
    num_layers: int = 8
    patch_size: int = 8
    pixel_width: int = 12
    """Numbers that a token gives each of its pixels."""
    scans: tuple[str, ...] = ("views", "views back", "bands", "bands back", "columns", "columns back")
    """How the layers read, in turn, see `scan_orders`."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.scans if name.removesuffix(" back") not in SCANS]
        if unknown or not self.scans:
            raise InvalidInput(
                f"scans are {list(self.scans)}; each must be one of {', '.join(SCANS)}, or that and ' back'."
            )

    def mixer(self) -> NetworkConfig:
        """What a Mamba layer is made from."""
        return NetworkConfig(width=self.width, num_layers=self.num_layers, image_size=128, patch_size=self.patch_size)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "RayConfig":
        """Of what a file holds. Raises: TypeError for an unknown field; InvalidInput."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return RayConfig(**plain)


@dataclass(frozen=True, eq=False)
class Packed:
    """Patches that meet the hull, moved to the front of each sample."""

    pixels: Float[Tensor, "b L p c"]
    index: Int[Tensor, "b L"]
    """Of the patch: (view * rows + row) * columns + column."""
    valid: Bool[Tensor, "b L"]


@dataclass(frozen=True, eq=False)
class RayOutput:
    """For each pixel of the packed patches."""

    depth: Float[Tensor, "b L p"]
    """Less the camera's distance from the origin, in radii of the object, as the planes `near` and `far`."""
    log_error: Float[Tensor, "b L p"]
    """Logarithm of the mean absolute error that the network expects of `depth`."""
    solid: Float[Tensor, "b L p"]
    """Logit of the object being met at all."""
    rgb: Float[Tensor, "b L p 3"]


def make_planes(
    rgb: Float[Tensor, "*b V 3 S S"],
    alpha: Float[Tensor, "*b V S S"],
    near: Float[Tensor, "*b V S S"],
    far: Float[Tensor, "*b V S S"],
    hit: Float[Tensor, "*b V S S"],
    c2w: Float[Tensor, "*b V 4 4"],
    intrinsics: Float[Tensor, "*b V 3 3"],
    num_given: int,
) -> Float[Tensor, "*b V 14 S S"]:
    """The planes that the network reads.

    Args:
        near, far: Less the camera's distance from the origin; 0 where `hit` is 0.
    """
    size = rgb.shape[-1]
    # turned about the vertical so that the first camera stands at azimuth 0: nothing else marks a direction
    azimuth = torch.atan2(c2w[..., 0, 0, 3], c2w[..., 0, 2, 3])
    cosine, sine, zero, one = azimuth.cos(), azimuth.sin(), torch.zeros_like(azimuth), torch.ones_like(azimuth)
    turn = torch.stack([cosine, zero, -sine, zero, one, zero, sine, zero, cosine], -1).unflatten(-1, (3, 3))
    rotation = turn[..., None, :, :] @ c2w[..., :3, :3]
    position = (turn[..., None, :, :] @ c2w[..., :3, 3:])[..., 0]
    at = torch.arange(size, dtype=rgb.dtype, device=rgb.device) + 0.5
    x = ((at - intrinsics[..., 0, 2, None]) / intrinsics[..., 0, 0, None])[..., None, :].expand(*alpha.shape)
    y = -((at - intrinsics[..., 1, 2, None]) / intrinsics[..., 1, 1, None])[..., :, None].expand(*alpha.shape)
    local = F.normalize(torch.stack([x, y, -torch.ones_like(x)], -3), dim=-3)
    direction = torch.einsum("...ij,...jhw->...ihw", rotation, local)
    moment = torch.linalg.cross(position[..., None, None].expand_as(direction), direction, dim=-3)
    query = (torch.arange(alpha.shape[-3], device=rgb.device) >= num_given).to(rgb)[:, None, None].expand(alpha.shape)
    single = torch.stack([alpha, near / NORMALISED_RADIUS, far / NORMALISED_RADIUS, hit, query], -3)
    return torch.cat([rgb, single, direction, moment / NORMALISED_RADIUS], -3)


def pack(planes: Float[Tensor, "b V c S S"], patch: int) -> Packed:
    """Patches in reading order; those without a ray that meets the hull are left out."""
    patches = patches_of(planes, patch)
    keep = patches[..., 6].amax(-1) > 0
    longest = max(int(keep.sum(1).max()), 1)
    index = torch.argsort(~keep, dim=1, stable=True)[:, :longest]
    valid = keep.gather(1, index)
    return Packed(pick_patches(patches, index) * valid[..., None, None], index, valid)


def patches_of(planes: Float[Tensor, "b V c S S"], patch: int) -> Float[Tensor, "b n p c"]:
    """All patches in reading order: view by view, row by row."""
    batch, views, channels, size, _ = planes.shape
    grid = size // patch
    patches = planes.unflatten(3, (grid, patch)).unflatten(5, (grid, patch)).permute(0, 1, 3, 5, 4, 6, 2)
    return patches.reshape(batch, views * grid * grid, patch * patch, channels)


def pick_patches(patches: Float[Tensor, "b n p c"], index: Int[Tensor, "b L"]) -> Float[Tensor, "b L p c"]:
    """Some patches of each sample."""
    return patches.gather(1, index[..., None, None].expand(-1, -1, *patches.shape[2:]))


def unpack(values: Float[Tensor, "b L p"], packed: Packed, *, views: int, size: int) -> Float[Tensor, "b V S S"]:
    """Values of pixels back in their pictures, 0 elsewhere."""
    patch = math.isqrt(values.shape[-1])
    grid = size // patch
    flat = values.new_zeros(values.shape[0], views * grid * grid, patch * patch)
    flat.scatter_(1, packed.index[..., None].expand_as(values), values * packed.valid[..., None])
    maps = flat.view(-1, views, grid, grid, patch, patch).permute(0, 1, 2, 4, 3, 5)
    return maps.reshape(-1, views, size, size)


class _Layer(nn.Module):
    def __init__(self, config: RayConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.mixer = MambaMixer(config.mixer())

    def forward(self, tokens: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ordered = self.norm(tokens).gather(1, order[..., None].expand_as(tokens))
        return tokens + self.mixer(ordered).gather(1, back[..., None].expand_as(tokens))


class RayNetwork(nn.Module):
    """See the module. Starts with random weights, at the hull's front."""

    def __init__(self, config: RayConfig) -> None:
        super().__init__()
        self.config = config
        width, pixels = config.width, config.patch_size**2
        self.embed = nn.Linear(pixels * PLANES, width)
        self.place = nn.Linear(4 * FREQUENCIES, width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.spread = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, pixels * config.pixel_width)
        )
        self.pixel = nn.Sequential(nn.Linear(config.pixel_width + LOCAL, 32), nn.SiLU(), nn.Linear(32, OUTPUTS))
        with torch.no_grad():
            last = self.pixel[-1]
            assert isinstance(last, nn.Linear)
            last.weight *= 0.1
            last.bias.copy_(torch.tensor([-2.0, -2.5, 1.0, 0.0, 0.0, 0.0]))

    def forward(self, planes: Float[Tensor, "b V 14 S S"]) -> tuple[RayOutput, Packed]:
        packed = pack(planes, self.config.patch_size)
        tokens = self.read(packed, views=planes.shape[1], grid=planes.shape[-1] // self.config.patch_size)
        return self.decode(tokens, packed), packed

    def read(self, packed: Packed, *, views: int, grid: int) -> Float[Tensor, "b L c"]:
        """Patches to tokens that know of each other."""
        orders = scan_orders(packed, self.config.scans, views=views, grid=grid)
        # rays rounded to bfloat16 point pixels off, so they are read, and tokens added up, in float32
        with torch.autocast(packed.pixels.device.type, enabled=False):
            tokens = self.embed(packed.pixels.flatten(2)) + self.places(packed.index, grid)
        tokens = tokens * packed.valid[..., None]
        for i, layer in enumerate(self.layers):
            tokens = layer(tokens, *orders[i % len(orders)])
        return self.norm(tokens)

    def places(self, index: Int[Tensor, "b L"], grid: int) -> Float[Tensor, "b L c"]:
        """What a token knows of its place in its picture; where that picture was taken from, its rays tell."""
        return self.place(_sinusoids(index, grid))

    def decode(self, tokens: Float[Tensor, "b L c"], packed: Packed) -> RayOutput:
        """Tokens to what is said of their pixels."""
        given = packed.pixels[..., :LOCAL]
        features = self.spread(tokens).unflatten(-1, (self.config.patch_size**2, self.config.pixel_width))
        with torch.autocast(given.device.type, enabled=False):
            out = self.pixel(torch.cat([features.to(given), given], -1)).float()
        near, far = given[..., 4].float(), given[..., 5].float()
        depth = near + (far - near) * torch.sigmoid(out[..., 0])
        # colours are corrections of the guess that the planes hold
        rgb = given[..., :3].float() + out[..., 3:]
        return RayOutput(depth, out[..., 1], out[..., 2], rgb)


def scan_orders(packed: Packed, scans: Sequence[str], *, views: int, grid: int) -> list[tuple[Tensor, Tensor]]:
    """Permutations of the packed patches, (order, inverse) each; what is not valid stays at the end.

    Args:
        scans: `views`: one view after the other, along rows; `bands`: the patches of one height in all views, then the next height;
            `columns`: one view after the other, along columns. With ` back` from the end to the beginning.
    """
    index = packed.index
    view, row, column = index // (grid * grid), index // grid % grid, index % grid
    keys = {
        "views": index,
        "bands": (row * views + view) * grid + column,
        "columns": (view * grid + column) * grid + row,
    }
    most = views * grid * grid
    orders = []
    for name in scans:
        sign = -1 if name.endswith(" back") else 1
        placed = torch.where(packed.valid, sign * keys[name.removesuffix(" back")], most + 1)
        order = torch.argsort(placed, dim=1, stable=True)
        orders.append((order, torch.argsort(order, dim=1)))
    return orders


def _sinusoids(index: Int[Tensor, "b L"], grid: int) -> Float[Tensor, "b L f"]:
    """Of the place of a patch in its picture."""
    places = torch.stack([index // grid % grid, index % grid], -1).float() / grid
    angles = places[..., None] * (math.pi * 2 ** torch.arange(FREQUENCIES, device=index.device))
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(2)
