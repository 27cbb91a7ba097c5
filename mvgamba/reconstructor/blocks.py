"""The Mamba-1 mixer and the pre-norm residual stack of the network (Gu and Dao 2023, section 3.4)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvgamba.kernels.selective_scan import selective_scan
from mvgamba.reconstructor.presets import NetworkConfig

NORM_EPS = 1e-5
STEP_SMALLEST, STEP_LARGEST, STEP_FLOOR = 1e-3, 1e-1, 1e-4
"""Step sizes of the scan at the start of training are drawn log-uniformly between the first two."""


def causal_conv(
    x: Float[Tensor, "b L E"], weight: Float[Tensor, "E 1 K"], bias: Float[Tensor, "E"]
) -> Float[Tensor, "b L E"]:
    """Depthwise convolution over time that sees the present and the K - 1 steps before it.

    As K shifted multiply-adds: on a CPU about five times faster than a grouped `conv1d`, and without a transpose.
    """
    taps, length = weight.shape[-1], x.shape[1]
    padded = F.pad(x, (0, 0, taps - 1, 0))
    y = torch.addcmul(bias, padded[:, :length], weight[:, 0, 0])
    for k in range(1, taps):
        y = torch.addcmul(y, padded[:, k : k + length], weight[:, 0, k])
    return y


class MambaMixer(nn.Module):
    """One Mamba-1 layer. Parameters have the names and shapes of the published package's `Mamba`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, inner, rank, states = config.width, config.inner_width, config.step_rank, config.state_size
        self.step_rank, self.state_size = rank, states
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.conv_size, groups=inner)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, states + 1, dtype=torch.float32)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        self._initialise(config.num_layers)

    def _initialise(self, num_layers: int) -> None:
        nn.init.zeros_(self.conv1d.bias)  # type: ignore[arg-type]
        nn.init.uniform_(self.dt_proj.weight, -(self.step_rank**-0.5), self.step_rank**-0.5)
        low, high = math.log(STEP_SMALLEST), math.log(STEP_LARGEST)
        steps = torch.exp(torch.rand_like(self.dt_proj.bias) * (high - low) + low).clamp(min=STEP_FLOOR)
        with torch.no_grad():
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus of it is `steps`
            nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
            self.out_proj.weight /= math.sqrt(num_layers)

    def forward(self, x: Float[Tensor, "b L C"]) -> Float[Tensor, "b L C"]:
        inner, gate = self.in_proj(x).chunk(2, dim=-1)
        inner = F.silu(causal_conv(inner, self.conv1d.weight, self.conv1d.bias))  # type: ignore[arg-type]
        steps, b, c = self.x_proj(inner).split([self.step_rank, self.state_size, self.state_size], dim=-1)
        scanned = selective_scan(
            inner,
            F.linear(steps, self.dt_proj.weight),
            -torch.exp(self.A_log.float()),
            b,
            c,
            self.D,
            z=gate,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
        )
        return self.out_proj(scanned.y)


class _NormAndMixer(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.mixer = MambaMixer(config)
        self.norm = nn.RMSNorm(config.width, eps=NORM_EPS)


class Block(nn.Module):
    """Add, normalise, mix. The residual stream stays in float32 whatever the mixer computes in."""

    def __init__(self, config: NetworkConfig, drop_path: float) -> None:
        super().__init__()
        self.mamba_block = _NormAndMixer(config)
        self.drop_path = drop_path

    def forward(
        self, hidden: Float[Tensor, "b L C"], residual: Float[Tensor, "b L C"] | None
    ) -> tuple[Float[Tensor, "b L C"], Float[Tensor, "b L C"]]:
        if residual is None:
            residual = hidden.float()
        else:
            residual = _drop_path(hidden.float(), self.drop_path if self.training else 0.0) + residual
        normed = self.mamba_block.norm(residual)
        return self.mamba_block.mixer(normed.to(hidden.dtype)), residual


class MambaStack(nn.Module):
    """Learned positions and L blocks over the whole sequence, which is read once, from front to back."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(config.num_tokens, config.width))
        nn.init.normal_(self.pos_embed, std=config.width**-0.5)
        self.layers = nn.ModuleList(Block(config, p) for p in drop_path_rates(config))
        self.norm_f = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.save_memory = False
        """Recompute the blocks in the backward pass instead of keeping what they computed."""

    def forward(self, tokens: Float[Tensor, "b L C"]) -> Float[Tensor, "b L C"]:
        hidden: Tensor = tokens + self.pos_embed
        residual: Tensor | None = None
        for layer in self.layers:
            if self.save_memory and self.training:
                hidden, residual = checkpoint(layer, hidden, residual, use_reentrant=False)
            else:
                hidden, residual = layer(hidden, residual)
        assert residual is not None
        return self.norm_f(hidden.float() + residual)


def drop_path_rates(config: NetworkConfig) -> list[float]:
    """For each block: zero for the first two, then rising linearly; the last stays a step below `drop_path`."""
    last = max(config.num_layers - 1, 1)
    return [config.drop_path * max(i - 1, 0) / last for i in range(config.num_layers)]


def _drop_path(x: Tensor, rate: float) -> Tensor:
    """Leave out a whole sample's branch with probability `rate`, scaled so that the expectation stays."""
    if rate == 0.0:
        return x
    keep = torch.rand(x.shape[0], 1, 1, device=x.device, dtype=x.dtype) >= rate
    return x * keep / (1 - rate)
