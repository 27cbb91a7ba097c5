"""Our own multi-view diffusion network: RGBA views of one object at once, from words, from a picture, or from both.

A transformer over patches of all views (MVDream's two ideas: attention over every view at once, and a camera code that is added to the
time; ImageDream's third: the picture is one more frame, always clean). It works on pixels, predicts the clean picture and is taught by the
velocity (rectified flow; "Back to Basics", arXiv 2511.13720), so that patches of 8 pixels need no autoencoder. Alpha is a fourth channel:
hull, refinement and texture live on it.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvgamba.errors import InvalidInput
from mvgamba.types import Cameras

NUM_CAMERA = 16
"""Numbers of a camera's code, see `camera_code`."""
NUM_RAY = 6


@dataclass(frozen=True)
class StarterConfig:
    """A network in numbers."""

    image_size: int = 64
    patch_size: int = 8
    width: int = 256
    num_layers: int = 8
    num_heads: int = 4
    bottleneck: int = 128
    """Channels between the pixels of a patch and a token: what a patch of a picture without noise needs, noise does not pass."""
    text_width: int = 128
    """Of what the text encoder gives."""

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise InvalidInput(
                f"image_size is {self.image_size}; it must be a multiple of patch_size, {self.patch_size}."
            )
        if self.width % (2 * self.num_heads) or self.width % 4:
            raise InvalidInput(
                f"width is {self.width}; it must be a multiple of 4 and of 2 * num_heads, {2 * self.num_heads}."
            )


class Words(NamedTuple):
    """Sentences as the network takes them."""

    tokens: Float[Tensor, "B L c"]
    known: Bool[Tensor, "B L"]
    """False behind the end of a sentence; at least one of each is True."""


def camera_code(cameras: Cameras) -> Float[Tensor, "*b V 16"]:
    """The sixteen numbers of camera to world, its place scaled to the unit sphere (MVDream), in our axes."""
    c2w = cameras.c2w.float().clone()
    c2w[..., :3, 3] = F.normalize(c2w[..., :3, 3], dim=-1)
    return c2w.flatten(-2)


def ray_code(cameras: Cameras, rows: int) -> Float[Tensor, "*b V n 6"]:
    """Direction and moment of the ray through the middle of each of rows x rows patches, the radius of the orbit being one."""
    k = cameras.intrinsics.float()
    step = torch.tensor([cameras.width / rows, cameras.height / rows])
    at = torch.arange(rows, device=k.device) + 0.5
    y, x = torch.meshgrid(at * step[1], at * step[0], indexing="ij")
    x = (x.flatten() - k[..., 0, 2, None]) / k[..., 0, 0, None]
    y = (y.flatten() - k[..., 1, 2, None]) / k[..., 1, 1, None]
    local = F.normalize(torch.stack([x, -y, -torch.ones_like(x)], -1), dim=-1)
    c2w = cameras.c2w.float()
    direction = torch.einsum("...ij,...nj->...ni", c2w[..., :3, :3], local)
    origin = F.normalize(c2w[..., :3, 3], dim=-1)[..., None, :].expand_as(direction)
    return torch.cat([direction, torch.linalg.cross(origin, direction)], -1)


class StarterNetwork(nn.Module):
    """Noisy views, time and conditions -> clean views."""

    def __init__(self, config: StarterConfig) -> None:
        super().__init__()
        self.config = config
        width, rows = config.width, config.image_size // config.patch_size
        pixels = 4 * config.patch_size**2
        self.embed = nn.Sequential(
            nn.Linear(pixels, config.bottleneck, bias=False), nn.Linear(config.bottleneck, width)
        )
        self.embed_rays = nn.Linear(NUM_RAY, width, bias=False)
        self.embed_time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_camera = nn.Sequential(nn.Linear(NUM_CAMERA, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_words = nn.Linear(config.text_width, width)
        self.picture = nn.Parameter(torch.zeros(width))
        """What tells the clean frame from the others."""
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.layers = nn.ModuleList(StarterLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate_last = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.head = nn.Linear(width, pixels)
        self.places: Tensor
        self.register_buffer("places", _places(rows, width), persistent=False)
        last = self.modulate[1], self.modulate_last[1], self.head
        for part in last:
            assert isinstance(part, nn.Linear)
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)

    def forward(
        self,
        noisy: Float[Tensor, "B V 4 H W"],
        time: Float[Tensor, "B"],
        cameras: Float[Tensor, "B V 16"],
        rays: Float[Tensor, "B V n 6"],
        words: Words,
        picture: Float[Tensor, "B 4 H W"] | None = None,
        has_picture: Bool[Tensor, "B"] | None = None,
        *,
        joint: bool = True,
    ) -> Float[Tensor, "B V 4 H W"]:
        """See the class.

        Args:
            noisy: Colours times alpha and alpha as `to_signal` has them, (1 - time) of it noise.
            time: 0 for noise alone, 1 for no noise.
            has_picture: False where a batch has rows without one; None for all of them.
            joint: False for views that know nothing of each other (MVDream's 2D mode).
        """
        batch, views = noisy.shape[:2]
        tokens = self.embed(self._patches(noisy)) + self.places + self.embed_rays(rays)
        said = self.embed_words(words.tokens)
        meant = (said * words.known[..., None]).sum(1) / words.known.sum(1, keepdim=True)
        state = self.embed_time(_waves(time, self.config.width)) + meant
        states = state[:, None] + self.embed_camera(cameras)
        if picture is not None:
            clean = self.embed(self._patches(picture[:, None])) + self.places + self.picture
            tokens = torch.cat([tokens, clean], 1)
            ones = torch.ones_like(time)
            own = self.embed_time(_waves(ones, self.config.width)) + meant + self.picture
            states = torch.cat([states, own[:, None]], 1)
        frames = tokens.shape[1]
        mask = None
        if picture is not None and has_picture is not None and not bool(has_picture.all()):
            sees = torch.ones(batch, frames, dtype=torch.bool, device=noisy.device)
            sees[:, -1] = has_picture
            # a row without a picture still has its frame, which then looks at itself alone
            mask = sees[:, None, :] | torch.eye(frames, dtype=torch.bool, device=noisy.device)
            mask = mask.repeat_interleave(tokens.shape[2], 1).repeat_interleave(tokens.shape[2], 2)[:, None]
        modulation = self.modulate(states).unflatten(-1, (6, -1))
        for layer in self.layers:
            tokens = layer(tokens, modulation, said, words.known, mask=mask, joint=joint)
        shift, scale = self.modulate_last(states[:, :views]).chunk(2, -1)
        out = self.norm(tokens[:, :views]) * (1 + scale[:, :, None]) + shift[:, :, None]
        return self._pixels(self.head(out))

    def _patches(self, views: Float[Tensor, "B V 4 H W"]) -> Float[Tensor, "B V n p"]:
        p = self.config.patch_size
        return views.unfold(3, p, p).unfold(4, p, p).permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(2, 3)

    def _pixels(self, patches: Float[Tensor, "B V n p"]) -> Float[Tensor, "B V 4 H W"]:
        p = self.config.patch_size
        rows = self.config.image_size // p
        grid = patches.unflatten(3, (4, p, p)).unflatten(2, (rows, rows))
        return grid.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)


class StarterLayer(nn.Module):
    """Attention over all views, attention to the words, and a mixer of channels; each is modulated by the state of its view."""

    def __init__(self, config: StarterConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.num_heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm3 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_q, self.norm_k = nn.RMSNorm(width // config.num_heads), nn.RMSNorm(width // config.num_heads)
        self.q_words = nn.Linear(width, width)
        self.kv_words = nn.Linear(width, 2 * width)
        self.out_words = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.table = nn.Parameter(0.02 * torch.randn(6, width))
        nn.init.zeros_(self.out_words.weight)
        nn.init.zeros_(self.out_words.bias)

    def forward(
        self,
        tokens: Float[Tensor, "B F n w"],
        modulation: Float[Tensor, "B F 6 w"],
        words: Float[Tensor, "B L w"],
        known: Bool[Tensor, "B L"],
        *,
        mask: Bool[Tensor, "B 1 m m"] | None,
        joint: bool,
    ) -> Float[Tensor, "B F n w"]:
        batch, frames, count, _ = tokens.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.table)[:, :, None].unbind(3)
        inner = self.qkv(self.norm1(tokens) * (1 + scale1) + shift1)
        inner = inner.flatten(1, 2) if joint else inner.flatten(0, 1)
        q, k, v = inner.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(self.norm_q(q), self.norm_k(k), v, attn_mask=mask if joint else None)
        tokens = tokens + gate1 * self.out(seen.transpose(1, 2).reshape(tokens.shape))
        q = self.q_words(self.norm3(tokens)).flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv_words(words).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=known[:, None, None])
        tokens = tokens + self.out_words(heard.transpose(1, 2).reshape(tokens.shape))
        mixed: Tensor = self.mix(self.norm2(tokens) * (1 + scale2) + shift2)
        return tokens + gate2 * mixed


def to_signal(rgb: Float[Tensor, "*b 3 H W"], alpha: Float[Tensor, "*b 1 H W"]) -> Float[Tensor, "*b 4 H W"]:
    """Colours and coverage as the network works on them: in [-1, 1], colours times alpha, so that nothing is grey and -1."""
    return torch.cat([(2 * rgb - 1) * alpha, 2 * alpha - 1], -3)


def from_signal(signal: Float[Tensor, "*b 4 H W"]) -> tuple[Float[Tensor, "*b 3 H W"], Float[Tensor, "*b 1 H W"]]:
    """The inverse of `to_signal`: straight colours and alpha, both in [0, 1]."""
    alpha = (0.5 * signal[..., 3:, :, :] + 0.5).clamp(0, 1)
    return (0.5 * signal[..., :3, :, :] / alpha.clamp_min(0.05) + 0.5).clamp(0, 1), alpha


def _waves(time: Float[Tensor, "B"], width: int) -> Float[Tensor, "B w"]:
    rates = torch.exp(-math.log(1000.0) * torch.arange(width // 2, device=time.device) / (width // 2))
    at = 1000 * time[:, None] * rates
    return torch.cat([at.cos(), at.sin()], -1)


def _places(rows: int, width: int) -> Float[Tensor, "n w"]:
    rates = torch.exp(-math.log(100.0) * torch.arange(width // 4) / (width // 4))
    at = torch.arange(rows)[:, None] * rates
    wave = torch.cat([at.sin(), at.cos()], -1)
    y, x = wave[:, None].expand(-1, rows, -1), wave[None].expand(rows, -1, -1)
    return torch.cat([y, x], -1).flatten(0, 1)
