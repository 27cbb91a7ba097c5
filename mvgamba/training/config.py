"""A training run in numbers: what `run.json` holds."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from mvgamba.errors import InvalidInput
from mvgamba.reconstructor.ray_network import RayConfig
from mvgamba.training.ray_loss import RayLossWeights


@dataclass(frozen=True)
class TrainConfig:
    """A run. Everything that changes its result is here; a checkpoint refuses to go on under another."""

    data: str
    """Folder of shards, or several with the separator of search paths (`:`, on Windows `;`)."""
    network: RayConfig = field(default_factory=RayConfig)
    losses: RayLossWeights = field(default_factory=RayLossWeights)
    batch_size: int = 8
    """In all, over every process."""
    steps: int = 4000
    learning_rate: float = 1.5e-3
    least_learning_rate: float = 1e-5
    warm_up: int = 200
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.998
    seed: int = 0
    disturb: bool = True
    init: str | None = None
    """A file of weights to begin with, as `write_weights` makes them; None for random ones."""

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("steps", 1), ("warm_up", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.ema < 1:
            raise InvalidInput(f"ema is {self.ema}; it must lie in [0, 1).")

    @staticmethod
    def read(path: Path) -> "TrainConfig":
        """Raises: InvalidInput for an unknown or missing field, naming it."""
        try:
            values = json.loads(path.read_text())
            values["network"] = RayConfig.from_dict(values.get("network", {}))
            values["losses"] = RayLossWeights(**values.get("losses", {}))
            return TrainConfig(**values)
        except (OSError, ValueError, TypeError) as error:
            raise InvalidInput(f"{path} is not a training configuration: {error}.") from error

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        share = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        half = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        return self.least_learning_rate + half * (self.learning_rate - self.least_learning_rate)
