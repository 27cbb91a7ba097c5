"""The UNet of MVDream and ImageDream (Shi et al. 2023, Wang and Shi 2023): Stable Diffusion's, with attention across views and cameras.

Modules are named and ordered as in the released weights, so that these fit key by key. It needs `diffusers`.
"""

import math
from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.errors import InvalidInput
from mvgamba.multiview.mvdream.attention import Attention, SpatialTransformer
from mvgamba.multiview.mvdream.resampler import Resampler


def step_code(timesteps: Float[Tensor, "n"], width: int) -> Float[Tensor, "n c"]:
    """Cosines, then sines, of frequencies from 1 down to 1/10,000, in float32."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=timesteps.device) / (width // 2))
    angles = timesteps.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Two convolutions, between which the embedding of step and camera is added."""

    def __init__(self, channels: int, embedding_width: int, out_channels: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding_width, out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out_channels),
            nn.SiLU(),
            nn.Dropout(0.0),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "n c h w"], embedding: Float[Tensor, "n e"]) -> Float[Tensor, "n o h w"]:
        h = self.in_layers(x) + self.emb_layers(embedding)[..., None, None]
        out: Tensor = self.skip_connection(x) + self.out_layers(h)
        return out


class Downsample(nn.Module):
    """Half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        out: Tensor = self.op(x)
        return out


class Upsample(nn.Module):
    """Twice the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        out: Tensor = self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Stage(nn.Sequential):
    """Layers in a row, each given what it takes."""

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "n c h w"],
        embedding: Float[Tensor, "n e"],
        context: Float[Tensor, "n m d"],
        image_tokens: Float[Tensor, "n k d"] | None,
        num_views: int,
    ) -> Float[Tensor, "n o i j"]:
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, embedding)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context, image_tokens, num_views)
            else:
                x = layer(x)
        return x


class MultiViewUNet(ModelMixin, ConfigMixin):
    """Predicts the noise in the latents of all views of one object.

    Args:
        camera_dim: Of the camera code; None for a network without cameras.
        ip_dim: Number of image tokens (ImageDream); 0 for a network without.
        feature_width: Of the image encoder's features.
        resampler_heads: Of 64 channels each.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        model_channels: int = 320,
        num_res_blocks: int = 2,
        attention_resolutions: Sequence[int] = (4, 2, 1),
        channel_mult: Sequence[int] = (1, 2, 4, 4),
        num_head_channels: int = 64,
        transformer_depth: int = 1,
        context_dim: int = 1024,
        camera_dim: int | None = 16,
        ip_dim: int = 0,
        feature_width: int = 1280,
        resampler_depth: int = 4,
        resampler_heads: int = 12,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        embedding = 4 * model_channels

        if ip_dim:
            self.image_embed = Resampler(
                context_dim,
                feature_width=feature_width,
                num_queries=ip_dim,
                depth=resampler_depth,
                heads=resampler_heads,
            )
        self.time_embed = _two_layers(model_channels, embedding)
        if camera_dim is not None:
            self.camera_embed = _two_layers(camera_dim, embedding)

        def transformer(channels: int) -> SpatialTransformer:
            return SpatialTransformer(
                channels,
                heads=channels // num_head_channels,
                head_width=num_head_channels,
                context_width=context_dim,
                depth=transformer_depth,
                has_image_tokens=ip_dim > 0,
            )

        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(in_channels, model_channels, 3, padding=1))])
        skipped, channels, shrink = [model_channels], model_channels, 1
        for level, factor in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                layers: list[nn.Module] = [ResBlock(channels, embedding, factor * model_channels)]
                channels = factor * model_channels
                if shrink in attention_resolutions:
                    layers.append(transformer(channels))
                self.input_blocks.append(Stage(*layers))
                skipped.append(channels)
            if level != len(channel_mult) - 1:
                self.input_blocks.append(Stage(Downsample(channels)))
                skipped.append(channels)
                shrink *= 2

        self.middle_block = Stage(
            ResBlock(channels, embedding, channels), transformer(channels), ResBlock(channels, embedding, channels)
        )

        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks + 1):
                layers = [ResBlock(channels + skipped.pop(), embedding, factor * model_channels)]
                channels = factor * model_channels
                if shrink in attention_resolutions:
                    layers.append(transformer(channels))
                if level and i == num_res_blocks:
                    layers.append(Upsample(channels))
                    shrink //= 2
                self.output_blocks.append(Stage(*layers))

        self.out = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(model_channels, out_channels, 3, padding=1)
        )

    def set_attention_slice(self, slice_size: int | str | None) -> None:
        """How many heads attend at once: a number, `auto` for half of them, `max` for one, None for all."""
        for module in self.modules():
            if isinstance(module, Attention):
                choices = {"auto": max(1, module.heads // 2), "max": 1}
                module.heads_at_once = choices[slice_size] if isinstance(slice_size, str) else slice_size

    def forward(
        self,
        latents: Float[Tensor, "b V c h w"],
        timesteps: Float[Tensor, "b"],
        context: Float[Tensor, "b m d"],
        *,
        cameras: Float[Tensor, "b V 16"] | None = None,
        image_features: Float[Tensor, "b n f"] | None = None,
        image_latents: Float[Tensor, "b c h w"] | None = None,
    ) -> Float[Tensor, "b V c h w"]:
        """The noise of each view. Nothing that is given is changed.

        Args:
            context: Of the words, the same for all views.
            cameras: See `camera_code`; None for pictures of no known camera (single views, as in training on photographs).
            image_features: Of the prompt image, for a network with image tokens.
            image_latents: Of the prompt image. They go along as one more view without noise and without a camera, and come to no output.
        Raises:
            InvalidInput: The network takes no image, or no cameras, or needs an image.
        """
        self._check(cameras, image_features, image_latents)
        batch, asked = latents.shape[:2]
        if image_latents is not None:
            latents = torch.cat([latents, image_latents[:, None]], dim=1)
        views = latents.shape[1]
        embedding = self.time_embed(step_code(timesteps, self.config.model_channels).to(latents.dtype))
        embedding = embedding.repeat_interleave(views, dim=0)
        if cameras is not None:
            if views > asked:
                cameras = torch.cat([cameras, torch.zeros_like(cameras[:, :1])], dim=1)
            embedding = embedding + self.camera_embed(cameras.flatten(0, 1).to(latents.dtype))
        tokens = None
        if image_features is not None:
            tokens = self.image_embed(image_features).repeat_interleave(views, dim=0)
        context = context.repeat_interleave(views, dim=0)

        h = latents.flatten(0, 1)
        kept = []
        for stage in self.input_blocks:
            h = self._run(stage, h, embedding, context, tokens, views)
            kept.append(h)
        h = self._run(self.middle_block, h, embedding, context, tokens, views)
        for stage in self.output_blocks:
            h = self._run(stage, torch.cat([h, kept.pop()], dim=1), embedding, context, tokens, views)
        noise: Tensor = self.out(h).unflatten(0, (batch, views))
        return noise[:, :asked]

    def _run(self, stage: nn.Module, *args: object) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = self._gradient_checkpointing_func(stage, *args)
            return recomputed
        out: Tensor = stage(*args)
        return out

    def _check(self, cameras: Tensor | None, image_features: Tensor | None, image_latents: Tensor | None) -> None:
        if cameras is not None and self.config.camera_dim is None:
            raise InvalidInput("This network was made without cameras (camera_dim is None); it takes none.")
        if self.config.ip_dim and image_features is None:
            raise InvalidInput("This network has image tokens; it needs the features of an image (zeros for no image).")
        if not self.config.ip_dim and (image_features is not None or image_latents is not None):
            raise InvalidInput("This network has no image tokens (ip_dim is 0); it takes no image.")


def _two_layers(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))
