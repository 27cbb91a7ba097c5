"""Attention of the multi-view UNet: over all views at once among pixels, view by view to words and to image tokens.

Names of modules are those of the released weights.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention to itself or to a context, and to image tokens with keys and values of their own.

    Args:
        context_width: Of what is attended to; None for self-attention.
        has_image_tokens: ImageDream's: the answers of words and of image tokens are added with equal weight.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        head_width: int,
        context_width: int | None = None,
        has_image_tokens: bool = False,
    ) -> None:
        super().__init__()
        inner, source = heads * head_width, context_width or width
        self.heads = heads
        self.heads_at_once: int | None = None
        """Fewer take less memory and more time; None for all."""
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(source, inner, bias=False)
        self.to_v = nn.Linear(source, inner, bias=False)
        if has_image_tokens:
            self.to_k_ip = nn.Linear(source, inner, bias=False)
            self.to_v_ip = nn.Linear(source, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(0.0))

    def forward(
        self,
        x: Float[Tensor, "n l c"],
        context: Float[Tensor, "n m d"] | None = None,
        image_tokens: Float[Tensor, "n k d"] | None = None,
    ) -> Float[Tensor, "n l c"]:
        source = x if context is None else context
        query = self._split(self.to_q(x))
        out = self._attend(query, self._split(self.to_k(source)), self._split(self.to_v(source)))
        if image_tokens is not None:
            out = out + self._attend(
                query, self._split(self.to_k_ip(image_tokens)), self._split(self.to_v_ip(image_tokens))
            )
        joined: Tensor = self.to_out(out.transpose(1, 2).flatten(2))
        return joined

    def _split(self, x: Float[Tensor, "n l c"]) -> Float[Tensor, "n h l e"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.heads_at_once is None:
            return F.scaled_dot_product_attention(query, key, value)
        parts = [x.split(self.heads_at_once, dim=1) for x in (query, key, value)]
        return torch.cat([F.scaled_dot_product_attention(q, k, v) for q, k, v in zip(*parts)], dim=1)


class GatedGelu(nn.Module):
    """One half of a projection times the GELU of the other (Shazeer 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Float[Tensor, "n l c"]) -> Float[Tensor, "n l i"]:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Four times as wide in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedGelu(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "n l c"]) -> Float[Tensor, "n l c"]:
        out: Tensor = self.net(x)
        return out


class TransformerBlock(nn.Module):
    """Self-attention over the pixels of all views together, cross-attention and feed-forward for each view."""

    def __init__(self, width: int, *, heads: int, head_width: int, context_width: int, has_image_tokens: bool) -> None:
        super().__init__()
        self.attn1 = Attention(width, heads=heads, head_width=head_width)
        self.ff = FeedForward(width)
        self.attn2 = Attention(
            width,
            heads=heads,
            head_width=head_width,
            context_width=context_width,
            has_image_tokens=has_image_tokens,
        )
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self,
        x: Float[Tensor, "n l c"],
        context: Float[Tensor, "n m d"],
        image_tokens: Float[Tensor, "n k d"] | None,
        num_views: int,
    ) -> Float[Tensor, "n l c"]:
        together = x.reshape(len(x) // num_views, num_views * x.shape[1], x.shape[2])
        x = (self.attn1(self.norm1(together)) + together).reshape(x.shape)
        x = self.attn2(self.norm2(x), context, image_tokens) + x
        out: Tensor = self.ff(self.norm3(x)) + x
        return out


class SpatialTransformer(nn.Module):
    """Transformer blocks on a feature map."""

    def __init__(
        self, channels: int, *, heads: int, head_width: int, context_width: int, depth: int, has_image_tokens: bool
    ) -> None:
        super().__init__()
        inner = heads * head_width
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(
                inner,
                heads=heads,
                head_width=head_width,
                context_width=context_width,
                has_image_tokens=has_image_tokens,
            )
            for _ in range(depth)
        )
        self.proj_out = nn.Linear(inner, channels)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        context: Float[Tensor, "n m d"],
        image_tokens: Float[Tensor, "n k d"] | None,
        num_views: int,
    ) -> Float[Tensor, "n c h w"]:
        tokens = self.proj_in(self.norm(x).flatten(2).mT)
        for block in self.transformer_blocks:
            tokens = block(tokens, context, image_tokens, num_views)
        out: Tensor = self.proj_out(tokens).mT.unflatten(-1, x.shape[-2:]) + x
        return out
