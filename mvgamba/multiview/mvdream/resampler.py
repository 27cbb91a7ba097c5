"""Features of an image encoder -> a few tokens, by queries that are learned (the Perceiver of IP-Adapter, as ImageDream has it)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PerceiverAttention(nn.Module):
    """Queries attend to the features and to each other."""

    def __init__(self, width: int, *, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, features: Float[Tensor, "b n c"], queries: Float[Tensor, "b q c"]) -> Float[Tensor, "b q c"]:
        queries = self.norm2(queries)
        source = torch.cat([self.norm1(features), queries], dim=1)
        q, k, v = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (self.to_q(queries), *self.to_kv(source).chunk(2, dim=-1))
        )
        out: Tensor = self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class Resampler(nn.Module):
    """(b, n, features) -> (b, queries, width)."""

    def __init__(
        self, width: int, *, feature_width: int, num_queries: int, depth: int, heads: int, head_width: int = 64
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, num_queries, width) / width**0.5)
        self.proj_in = nn.Linear(feature_width, width)
        self.proj_out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(width, heads=heads, head_width=head_width),
                    nn.Sequential(
                        nn.LayerNorm(width),
                        nn.Linear(width, 4 * width, bias=False),
                        nn.GELU(),
                        nn.Linear(4 * width, width, bias=False),
                    ),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, features: Float[Tensor, "b n f"]) -> Float[Tensor, "b q c"]:
        x = self.proj_in(features)
        queries = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            queries = layer[0](x, queries) + queries
            queries = layer[1](queries) + queries
        out: Tensor = self.norm_out(self.proj_out(queries))
        return out
