"""A training run in numbers: what `run.json` holds, and the runs that are known by a name."""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from mvgamba.errors import InvalidInput
from mvgamba.multiview.starter_network import StarterConfig
from mvgamba.reconstructor.presets import PRESETS as NETWORKS
from mvgamba.reconstructor.presets import NetworkConfig
from mvgamba.reconstructor.ray_network import RayConfig
from mvgamba.training.augment import Augmentation
from mvgamba.training.flow_options import FlowOptions
from mvgamba.training.ray_loss import RayLossWeights
from mvgamba.training.surfel_loss import SurfelLossWeights

Model = Literal["ray", "mvgamba", "starter"]
_Filled = TypeVar("_Filled")


@dataclass(frozen=True)
class SurfelOptions:
    """How the MVGamba network is taught, beside the losses. The ray network has none of it."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    num_others: int = 6
    """Views that are compared with beside the inputs, drawn anew in each step."""
    first_temperature: float = 2.0
    """Of the choice among the fixed rotations, where the head is `rotnet_hard`."""
    last_temperature: float = 0.5
    temperature_decay: float | None = 0.999995
    """A step; None for what leads from the first temperature to the last over the run."""

    def temperature_at(self, step: int, steps: int) -> float:
        """Cooled geometrically, never below the last."""
        if self.temperature_decay is not None:
            return max(self.last_temperature, self.first_temperature * self.temperature_decay**step)
        return self.first_temperature * (self.last_temperature / self.first_temperature) ** min(step / steps, 1.0)


@dataclass(frozen=True)
class TrainConfig:
    """A run. Everything that changes its result is here; a checkpoint refuses to go on under another."""

    data: str
    """Folder of shards; for the models `ray` and `starter` also several, with the separator of search paths (`:`, on Windows `;`)."""
    model: Model = "ray"
    preset: str | None = None
    """The name in `PRESETS` that a file began from; a note, the values themselves are in the other fields."""
    network: RayConfig | NetworkConfig | StarterConfig = field(default_factory=RayConfig)
    losses: RayLossWeights | SurfelLossWeights | FlowOptions = field(default_factory=RayLossWeights)
    surfels: SurfelOptions = field(default_factory=SurfelOptions)
    """For the model `mvgamba` only."""
    batch_size: int = 8
    """In all, over every process."""
    steps: int = 4000
    learning_rate: float = 1.5e-3
    least_learning_rate: float = 1e-5
    warm_up: int = 200
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.998
    """Memory of the average of the weights that is written in the end; 0 for the last weights themselves."""
    seed: int = 0
    disturb: bool = True
    """Colours, mirrors, warped pictures and cameras: False for samples as they are."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the matrix products. Rays, scan state, heads of the surfels and losses are float32 either way."""
    checkpointing: bool = False
    """Recompute the layers in the backward pass: less memory, a third more time. For the model `mvgamba` only."""
    init: str | None = None
    """A file of weights to begin with, as `write_weights` makes them; None for random ones."""

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("steps", 1), ("warm_up", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.ema < 1:
            raise InvalidInput(f"ema is {self.ema}; it must lie in [0, 1).")
        wanted = _PARTS[self.model]
        if (type(self.network), type(self.losses)) != wanted:
            raise InvalidInput(
                f"model is {self.model!r}, which takes a {wanted[0].__name__} and {wanted[1].__name__}, got "
                f"{type(self.network).__name__} and {type(self.losses).__name__}."
            )
        if self.model != "mvgamba" and (self.checkpointing or self.surfels != SurfelOptions()):
            raise InvalidInput(
                f"checkpointing and surfels are for the model 'mvgamba'; leave them out for {self.model!r}."
            )

    @staticmethod
    def read(path: Path) -> "TrainConfig":
        """Raises: InvalidInput for an unknown or missing field or a value of another type, naming it."""
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} is not a training configuration: {error}.") from error
        try:
            return TrainConfig.of(values)
        except InvalidInput as error:
            raise InvalidInput(f"{path} is not a training configuration: {error}") from error

    @staticmethod
    def of(values: object) -> "TrainConfig":
        """From the fields of a JSON object, over those of its `preset` if it names one. Raises: InvalidInput."""
        given = values if isinstance(values, dict) else {}
        preset, model = given.get("preset"), given.get("model")
        if preset is not None and preset not in PRESETS:
            raise InvalidInput(f"preset is {preset!r}; there are {', '.join(PRESETS)}.")
        start = PRESETS[preset] if preset is not None else _BLANK.get(model or "ray")
        if start is None or (model is not None and model != start.model):
            raise InvalidInput(
                f"model is {model!r}; it must be {' or '.join(_BLANK) if start is None else start.model}."
            )
        config = filled(start, values)
        if not config.data:
            raise InvalidInput("data is missing; name the folder of the shards.")
        return config

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        share = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        half = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        return self.least_learning_rate + half * (self.learning_rate - self.least_learning_rate)


def filled(start: _Filled, values: object, where: str = "the configuration") -> _Filled:
    """A dataclass with the values of a JSON object, field by field, groups of fields likewise.

    Raises:
        InvalidInput: A field is unknown or of another type, with its name and what would be accepted.
    """
    assert dataclasses.is_dataclass(start) and not isinstance(start, type)
    if not isinstance(values, dict):
        raise InvalidInput(f"{where} must be a JSON object, got {values!r}.")
    hints = typing.get_type_hints(type(start))
    changes: dict[str, object] = {}
    for name, value in values.items():
        if name not in hints:
            raise InvalidInput(f"{where} has no field {name!r}; there are {', '.join(hints)}.")
        now = getattr(start, name)
        if dataclasses.is_dataclass(now):
            changes[name] = filled(now, value, name)
        elif hints[name] == tuple[str, ...] and isinstance(value, list) and all(isinstance(v, str) for v in value):
            changes[name] = tuple(value)
        elif _fits(value, hints[name]):
            changes[name] = float(value) if hints[name] in (float, float | None) and value is not None else value
        else:
            raise InvalidInput(f"{name} is {value!r}; it must be {_in_words(hints[name])}.")
    return dataclasses.replace(start, **changes)  # type: ignore[return-value]


def _fits(value: object, hint: object) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if typing.get_origin(hint) is tuple:
        return False
    return isinstance(value, (int, float) if hint is float else hint)  # type: ignore[arg-type]


def _in_words(hint: object) -> str:
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in typing.get_args(hint))
    if isinstance(hint, types.UnionType):
        return " or ".join(_in_words(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "a list of names"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(hint, str(hint))  # type: ignore[call-overload]


_PARTS: dict[str, tuple[type, type]] = {
    "ray": (RayConfig, RayLossWeights),
    "mvgamba": (NetworkConfig, SurfelLossWeights),
    "starter": (StarterConfig, FlowOptions),
}
_BLANK = {
    "ray": TrainConfig(data=""),
    "mvgamba": TrainConfig(data="", model="mvgamba", network=NetworkConfig(), losses=SurfelLossWeights()),
    "starter": TrainConfig(data="", model="starter", network=StarterConfig(), losses=FlowOptions()),
}

_PUBLISHED = dataclasses.replace(
    _BLANK["mvgamba"], learning_rate=1e-3, weight_decay=0.05, clip=1.0, ema=0.0, precision="bf16", checkpointing=True
)
PRESETS: dict[str, TrainConfig] = {
    "paper": dataclasses.replace(
        _PUBLISHED,
        preset="paper",
        network=NETWORKS["paper"],
        surfels=SurfelOptions(
            Augmentation(grid_distortion=0.3, camera_jitter=0.3), last_temperature=0.01, temperature_decay=None
        ),
        batch_size=512,
        steps=46_875,
        warm_up=2_344,
        least_learning_rate=1e-5,
    ),
    "released": dataclasses.replace(
        _PUBLISHED,
        preset="released",
        network=NETWORKS["released"],
        surfels=SurfelOptions(Augmentation(grid_distortion=0.5, camera_jitter=0.5, pure_background=0.5)),
        batch_size=256,
        steps=281_250,
        warm_up=6_250,
        least_learning_rate=1e-4,
    ),
    "starter-cpu": dataclasses.replace(_BLANK["ray"], preset="starter-cpu", steps=5000, batch_size=8, warm_up=150),
    "starter": dataclasses.replace(
        _BLANK["ray"],
        preset="starter",
        network=RayConfig(width=256, num_layers=10),
        steps=8000,
        batch_size=16,
        learning_rate=1e-3,
        warm_up=300,
        ema=0.999,
    ),
    "generator-cpu": dataclasses.replace(
        _BLANK["starter"],
        preset="generator-cpu",
        steps=2300,
        batch_size=16,
        learning_rate=1e-3,
        least_learning_rate=2e-5,
        warm_up=150,
        weight_decay=0.02,
    ),
    "generator": dataclasses.replace(
        _BLANK["starter"],
        preset="generator",
        network=StarterConfig(width=384, num_layers=12, num_heads=6),
        steps=12_000,
        batch_size=64,
        learning_rate=6e-4,
        least_learning_rate=1e-5,
        warm_up=300,
        weight_decay=0.02,
        ema=0.999,
        precision="bf16",
    ),
}
"""`paper` and `released` are what was published, in steps of 80,000 objects an epoch: 300 epochs of batches of 512, and 900 of 32
GPUs with 8 each. `starter-cpu` made the first half of the weights that come with the package (see their card); `starter` is for one GPU. `generator-cpu`
made the weights of the starter generator, `generator` is its run for one GPU."""
