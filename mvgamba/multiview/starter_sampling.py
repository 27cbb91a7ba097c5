"""From noise to views: Euler steps along the straight line that the starter network was taught, with guidance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOST_TIME = 0.98
"""The step that begins behind this is the last: what is predicted there is taken."""
DETAIL_TIME = 0.95
"""How little noise is over the start when it is asked what the network makes of it."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """What a batch of sets of views is made from; rows of one set each."""

    cameras: Float[Tensor, "B V 16"]
    rays: Float[Tensor, "B V n 6"]
    sentences: Sequence[str]
    negatives: Sequence[str]
    """What is to be avoided; empty for nothing."""
    picture: Float[Tensor, "B 4 H W"] | None = None
    start: Float[Tensor, "B V 4 H W"] | None = None
    """What to begin from instead of noise alone."""


@dataclass(frozen=True)
class SamplingOptions:
    """How it is done."""

    steps: int = 25
    guidance: float = 3.0
    """1 for none."""
    rescale: float = 0.5
    """How much of the contrast that guidance adds is taken back (arXiv 2305.08891, equation 16)."""
    strength: float = 1.0
    """Of the noise over `start`: 1 leaves nothing of it."""


AfterStep = Callable[[float, Float[Tensor, "B V 4 H W"]], Float[Tensor, "B V 4 H W"]]
"""Told the share of the steps that are done and the clean views as now expected; gives those to go on with. May raise to stop."""


@torch.no_grad()
def sample(
    model: nn.Module,
    given: Conditions,
    noise: Float[Tensor, "B V 4 H W"],
    options: SamplingOptions,
    after: AfterStep,
) -> Float[Tensor, "B V 4 H W"]:
    """Clean signals. The same arguments give the same views.

    Args:
        model: Called as `StarterModel` is.
    """
    begin = 1.0 - options.strength if given.start is not None else 0.0
    if begin > MOST_TIME:
        assert given.start is not None
        return given.start
    now = noise if given.start is None else begin * given.start + (1 - begin) * noise
    steps = max(1, round(options.steps * (1 - begin)))
    times = torch.linspace(begin, 1.0, steps + 1).tolist()
    clean = now
    for k in range(steps):
        time, following = times[k], times[k + 1]
        clean = after((k + 1) / steps, _expected(model, given, now, time, options).clamp(-1, 1))
        if time > MOST_TIME:
            break
        velocity = (clean - now) / (1 - time)
        now = now + (following - time) * velocity
    return clean


@torch.no_grad()
def with_details(
    model: nn.Module,
    given: Conditions,
    made: Float[Tensor, "B V 4 H W"],
    noise: Float[Tensor, "B V 4 H W"],
    *,
    share: float,
) -> Float[Tensor, "B V 4 H W"]:
    """What was made of a start, with a share of the details that the network loses even where hardly anything is to be done.

    They are the difference between the start and what the network makes of it under a little noise.
    """
    if given.start is None or share <= 0:
        return made
    now = DETAIL_TIME * given.start + (1 - DETAIL_TIME) * noise
    seen = _expected(model, given, now, DETAIL_TIME, SamplingOptions(guidance=1.0)).clamp(-1, 1)
    return (made + share * (given.start - seen)).clamp(-1, 1)


def _expected(
    model: nn.Module, given: Conditions, now: Float[Tensor, "B V 4 H W"], time: float, options: SamplingOptions
) -> Float[Tensor, "B V 4 H W"]:
    at = torch.full((len(now),), time, device=now.device)
    wanted: Tensor = model(now, at, given.cameras, given.rays, given.sentences, given.picture)
    if options.guidance == 1.0:
        return wanted
    other: Tensor = model(now, at, given.cameras, given.rays, given.negatives, None)
    guided = other + options.guidance * (wanted - other)
    dims = (1, 2, 3, 4)
    calmed = guided * (wanted.std(dims, keepdim=True) / guided.std(dims, keepdim=True).clamp_min(1e-6))
    return options.rescale * calmed + (1 - options.rescale) * guided
