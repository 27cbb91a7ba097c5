"""How the starter generator is taught, in numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FlowOptions:
    """How the noise of a step is drawn and what is left out."""

    time_mean: float = -0.6
    """Of the logit of time; below 0 there is more noise than picture. Many views of one thing need more noise than one."""
    time_spread: float = 0.9
    least_noise: float = 0.05
    """Where the velocity is divided by the noise that is left, it is by no less."""
    alone: float = 0.06
    """Share of the steps whose rows without a picture know nothing of each other's views (MVDream's 2D mode)."""
