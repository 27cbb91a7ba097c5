"""The Mamba-1 mixer and the pre-norm residual stack of the network (Gu and Dao 2023, section 3.4)."""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvgamba.kernels.add_rms_norm import add_rms_norm
from mvgamba.kernels.causal_conv_silu import causal_conv as causal_conv
from mvgamba.kernels.causal_conv_silu import causal_conv_silu
from mvgamba.kernels.selective_scan import selective_scan
from mvgamba.reconstructor.presets import NetworkConfig

NORM_EPS = 1e-5
STEP_SMALLEST, STEP_LARGEST, STEP_FLOOR = 1e-3, 1e-1, 1e-4
"""Step sizes of the scan at the start of training are drawn log-uniformly between the first two."""


PIECE = 2048
"""Tokens that go through all layers together when no gradient is wanted on a CPU: what lies between two layers then stays in
the cache, in memory that is used again and again."""


class _Buffers:
    """Memory by name that the pieces of a sequence share."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        size = math.prod(shape)
        if name not in self._flat or self._flat[name].numel() < size:
            self._flat[name] = like.new_empty(size)
        return self._flat[name][:size].view(shape)

    def linear(self, name: str, x: Float[Tensor, "b L i"], weight: Float[Tensor, "o i"]) -> Float[Tensor, "b L o"]:
        out = self.take(name, x, *x.shape[:2], weight.shape[0])
        torch.mm(x.flatten(0, 1), weight.T, out=out.flatten(0, 1))
        return out


@dataclass
class _Carry:
    """What a layer hands on from one piece of a sequence to the next."""

    history: Float[Tensor, "b k E"]
    state: Float[Tensor, "b E N"]


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
        inner = causal_conv_silu(inner, self.conv1d.weight, self.conv1d.bias)
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

    def start(self, batch: int) -> _Carry:
        """What the first piece of a sequence begins with."""
        inner, taps = self.D.shape[0], self.conv1d.kernel_size[0]
        return _Carry(self.D.new_zeros(batch, taps - 1, inner), self.D.new_zeros(batch, inner, self.state_size))

    def piece(self, x: Float[Tensor, "b L C"], carry: _Carry, buffers: _Buffers) -> Float[Tensor, "b L C"]:
        """The next piece of a sequence, without gradients, in the memory of `buffers`; moves `carry` on."""
        inner_width, history = self.D.shape[0], carry.history
        both = buffers.linear("both", x, self.in_proj.weight)
        before, gate = both.chunk(2, dim=-1)
        inner = buffers.take("inner", x, *x.shape[:2], inner_width)
        causal_conv_silu(before, self.conv1d.weight, self.conv1d.bias, history=history, out=inner)
        kept = history.shape[1]
        carry.history = (
            torch.cat([history, before[:, max(before.shape[1] - kept, 0) :]], dim=1)[:, -kept:] if kept else history
        )
        mixed = buffers.linear("mixed", inner, self.x_proj.weight)
        steps, b, c = mixed.split([self.step_rank, self.state_size, self.state_size], dim=-1)
        scanned = selective_scan(
            inner,
            buffers.linear("delta", steps, self.dt_proj.weight),
            -torch.exp(self.A_log),
            b,
            c,
            self.D,
            z=gate,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
            initial_state=carry.state,
            out=inner,
        )
        carry.state = scanned.state
        return buffers.linear("hidden", scanned.y, self.out_proj.weight)


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
        if self._goes_in_pieces(tokens):
            return self._in_pieces(tokens)
        hidden: Tensor = tokens + self.pos_embed
        residual: Tensor | None = None
        for layer in self.layers:
            if self.save_memory and self.training:
                hidden, residual = checkpoint(layer, hidden, residual, use_reentrant=False)
            else:
                hidden, residual = layer(hidden, residual)
        assert residual is not None
        return self.norm_f(hidden.float() + residual)

    def _goes_in_pieces(self, tokens: Tensor) -> bool:
        plain = tokens.dtype == self.pos_embed.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return tokens.device.type == "cpu" and plain and not (self.training or torch.is_grad_enabled())

    def _in_pieces(self, tokens: Float[Tensor, "b L C"]) -> Float[Tensor, "b L C"]:
        """The same, one piece of the sequence after the other through all layers."""
        batch, length, width = tokens.shape
        blocks = [layer.mamba_block for layer in cast(list[Block], list(self.layers))]
        mixers = [(block.norm.weight, block.mixer) for block in blocks]
        carries = [mixer.start(batch) for _, mixer in mixers]
        buffers = _Buffers()
        result = torch.empty_like(tokens, memory_format=torch.contiguous_format)
        for begin in range(0, length, PIECE):
            here = slice(begin, min(begin + PIECE, length))
            shape = batch, here.stop - begin, width
            normed, residual = buffers.take("normed", tokens, *shape), buffers.take("residual", tokens, *shape)
            torch.add(tokens[:, here], self.pos_embed[here], out=residual)
            hidden: Tensor | None = None
            for (weight, mixer), carry in zip(mixers, carries, strict=True):
                add_rms_norm(residual, hidden, weight, eps=NORM_EPS, out=(normed, residual))
                hidden = mixer.piece(normed, carry, buffers)
            add_rms_norm(residual, hidden, self.norm_f.weight, eps=NORM_EPS, out=(normed, residual))
            result[:, here] = normed
        return result


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
