"""A word for one object: the starter generator learns it from a few pictures (DreamBooth as MVDream has it, arXiv 2308.16512, section 3.4).

    L = flow loss on the pictures, one view at a time + keep * |theta - theta0|_1 / N + prior * flow loss on the network's own sets of views

Pictures of unknown cameras teach no geometry, so they are learned in 2D mode: every frame attends to itself alone. The weights of attention are
those that make views agree, and what pulls them back is what keeps the views together. The paper's term (`keep`, L1, N the number of
weights that learn) says nothing about which weights matter; the second (`prior`, as in the first DreamBooth, arXiv 2208.12242) does: sets of the class
that the network itself made before, all views at once. See `mvgamba/multiview/ADAPT.md` for what each is worth.
"""

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.errors import InvalidImage, InvalidInput
from mvgamba.io.images import read_rgba
from mvgamba.multiview.lora import LoraConfig, fingerprint, inject, lora_layers, save_adapter
from mvgamba.multiview.placing import centered, sampled
from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.multiview.starter_model import StarterModel, save_starter
from mvgamba.multiview.starter_network import NUM_CAMERA, NUM_RAY, camera_code, ray_code, to_signal
from mvgamba.multiview.starter_sampling import Conditions, SamplingOptions, sample
from mvgamba.multiview.words import words_of
from mvgamba.progress import CancelToken
from mvgamba.training.flow_options import FlowOptions
from mvgamba.types import SourceImage

log = logging.getLogger(__name__)

FEWEST, MOST = 3, 8
"""Pictures that are usual; with others there is a warning."""
LORA_RATE, FULL_RATE = 1e-3, 3e-5


@dataclass(frozen=True)
class PersonaliseOptions:
    """How a word is learned.

    Raises:
        InvalidInput: A value is out of its range.
    """

    full: bool = False
    """All weights of the network (not of the words) learn, instead of additions to attention."""
    rank: int = 8
    """Of the additions."""
    steps: int = 200
    batch_size: int = 4
    """Pictures in a step; a set of the network's own comes with them."""
    learning_rate: float | None = None
    """None for what suits the additions, or all weights."""
    keep: float = 1.0
    """Of the mean of |theta - theta0|."""
    prior: float = 1.0
    """Of the loss on the network's own sets."""
    prior_sets: int = 4
    own_time_mean: float = -1.5
    """Of the logit of time, on those sets: with little noise the views themselves say what is to be seen, and the words are forgotten unpunished."""
    own_silent: float = 0.25
    """Share of the steps in which those sets come without words, so that guidance still leads away from any object."""
    cameras: Literal["none", "guess"] = "none"
    """What the network is told of a picture's camera: nothing (zeros), or that camera of its own under which it expects the picture most."""
    flow: FlowOptions = field(default_factory=FlowOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("prior_sets", 1)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("keep", "prior"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"{name} is {value}; it must be a finite number of at least 0.")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise InvalidInput(f"learning_rate is {self.learning_rate}; it must lie between 0 and 1.")
        if self.cameras not in ("none", "guess"):
            raise InvalidInput(f"cameras is {self.cameras!r}; it must be none or guess.")
        LoraConfig(self.rank)


@dataclass(frozen=True, eq=False)
class Personalised:
    """What was learned."""

    model: StarterModel
    """With the additions beside its layers, or changed itself; ready for use."""
    lora: LoraConfig | None
    """None where all weights have learned."""
    facts: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """An adapter, or the whole network where all of it has learned."""
        if self.lora is None:
            save_starter(self.model, path)
        else:
            save_adapter(self.model, self.lora, path, self.facts)


def read_pictures(paths: Sequence[Path]) -> list[SourceImage]:
    """Raises: InvalidInput without any, InvalidImage for one that cannot be read, has no alpha, or shows nothing, naming it."""
    if not paths:
        raise InvalidInput(f"There are no pictures; name {FEWEST} to {MOST} of the same object.")
    pictures = []
    for path in paths:
        rgba = torch.from_numpy(read_rgba(path)).permute(2, 0, 1)
        if not bool((rgba[3] > 0.5).any()):
            raise InvalidImage(f"{path} shows nothing: its alpha is below one half everywhere. Leave it out.")
        pictures.append(SourceImage(rgba[:3], rgba[3:]))
    return pictures


def personalise(
    model: StarterModel,
    pictures: Sequence[SourceImage],
    *,
    word: str,
    noun: str,
    options: PersonaliseOptions,
    report: Callable[[int, dict[str, float], float], None] | None = None,
    cancel: CancelToken | None = None,
) -> Personalised:
    """Teach a copy of a network, on its device, that `a WORD NOUN` is what the pictures show.

    Args:
        word: One that means nothing yet, such as `sks`.
        noun: What kind of thing it is, in words that the network knows.
        report: Called every ten steps with the step, the mean losses since then, and the seconds left.
    Raises:
        InvalidInput: No pictures, or words that cannot be used.
        Cancelled
    """
    warnings = _doubts(model, pictures, word, noun)
    for warning in warnings:
        log.warning("%s", warning)
    base = fingerprint(model)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(options.seed)
    own = _own_sets(model, f"a {noun}", options, generator, cancel) if options.prior > 0 else None
    size = model.config.network.image_size
    framed = torch.stack([framed_signal(p, 2 * size) for p in pictures])
    codes, rays = _told(model, framed, f"a {noun}", options, generator)
    model = copy.deepcopy(model).eval()
    lora = None if options.full else LoraConfig(options.rank)
    if lora is None:
        model.network.requires_grad_(True)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            inject(model, lora)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    first = {name: p.detach().clone() for name, p in learning.items()} if lora is None else {}
    rate = options.learning_rate or (FULL_RATE if options.full else LORA_RATE)
    optimiser = torch.optim.AdamW(learning.values(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    begin, sums = time.perf_counter(), dict[str, float]()
    for step in range(options.steps):
        if cancel is not None:
            cancel.raise_if_cancelled()
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10)
        picked = torch.randint(len(pictures), (options.batch_size,), generator=generator)
        views = jittered(framed[picked], size, generator)[:, None].to(device)
        rows = _Rows(views, codes[picked].to(device), rays[picked].to(device), [f"a {word} {noun}"] * len(picked))
        losses = {"pictures": _flow_loss(model, rows, options.flow, generator, joint=False)}
        losses["moved"] = _moved(learning, first) if lora is None else lora_size(model)
        total = losses["pictures"] + options.keep * losses["moved"]
        if own is not None:
            k = int(torch.randint(options.prior_sets, (), generator=generator))
            silent = float(torch.rand((), generator=generator)) < options.own_silent
            said = [""] if silent else own.sentences[k : k + 1]
            row = _Rows(own.views[k : k + 1], own.codes[k : k + 1], own.rays[k : k + 1], said)
            flow = dataclasses.replace(options.flow, time_mean=options.own_time_mean)
            losses["own"] = _flow_loss(model, row, flow, generator, joint=True)
            total = total + options.prior * losses["own"]
        total.backward()
        nn.utils.clip_grad_norm_(list(learning.values()), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / 10
        if (step + 1) % 10 == 0:
            pace = (time.perf_counter() - begin) / (step + 1)
            if report is not None:
                report(step + 1, sums, pace * (options.steps - step - 1))
            sums = {}
    facts = {
        "words": [word],
        "noun": noun,
        "pictures": len(pictures),
        "steps": options.steps,
        "keep": options.keep,
        "prior": options.prior,
        "cameras": options.cameras,
        "seed": options.seed,
        "base": base,
    }
    return Personalised(model.requires_grad_(False), lora, facts, tuple(warnings))


def lora_size(model: nn.Module) -> Float[Tensor, ""]:
    """Mean of |theta - theta0| over the weights of the layers that have additions."""
    deltas = [layer.delta() for layer in lora_layers(model).values()]
    return torch.stack([delta.abs().sum() for delta in deltas]).sum() / sum(delta.numel() for delta in deltas)


def _moved(learning: dict[str, nn.Parameter], first: dict[str, Tensor]) -> Float[Tensor, ""]:
    gaps = torch.stack([(p - first[name]).abs().sum() for name, p in learning.items()])
    return gaps.sum() / sum(p.numel() for p in learning.values())


def framed_signal(picture: SourceImage, size: int) -> Float[Tensor, "4 s s"]:
    """The picture as the generator takes it. Raises: InvalidImage for one that shows nothing."""
    mask = picture.alpha[0] > 0.5
    if not bool(mask.any()):
        raise InvalidImage("A picture shows nothing: its alpha is below one half everywhere. Leave it out.")
    return centered(to_signal(picture.rgb.float(), picture.alpha.float())[None], size=size)[0]


def jittered(signals: Float[Tensor, "B 4 H W"], size: int, generator: torch.Generator) -> Float[Tensor, "B 4 s s"]:
    """Moved by up to 2 % of the frame and scaled by up to 8 %, at another size."""
    count, edge = len(signals), signals.shape[-1]
    scale = 0.92 + 0.16 * torch.rand(count, 1, generator=generator)
    shift = 0.08 * torch.rand(count, 2, generator=generator) - 0.04
    return sampled(signals, 0.5 * edge * (1 + shift), (edge * scale).expand(-1, 2), size=size)


@dataclass(frozen=True, eq=False)
class _Rows:
    views: Float[Tensor, "B V 4 S S"]
    codes: Float[Tensor, "B V 16"]
    rays: Float[Tensor, "B V n 6"]
    sentences: list[str]


def _flow_loss(
    model: StarterModel, rows: _Rows, flow: FlowOptions, generator: torch.Generator, *, joint: bool
) -> Float[Tensor, ""]:
    """Squared error of the velocity, as the network was taught (`GeneratorTask`), with random numbers of the host."""
    count, device = len(rows.views), rows.views.device
    time = torch.sigmoid(flow.time_mean + flow.time_spread * torch.randn(count, generator=generator)).to(device)
    noise = torch.randn(rows.views.shape, generator=generator).to(device)
    return _velocity_error(model, rows, time, noise, flow, joint=joint).mean()


def _velocity_error(
    model: StarterModel, rows: _Rows, time: Tensor, noise: Tensor, flow: FlowOptions, *, joint: bool
) -> Float[Tensor, "B"]:
    at = time[:, None, None, None, None]
    clean = model(at * rows.views + (1 - at) * noise, time, rows.codes, rows.rays, rows.sentences, joint=joint)
    return ((clean - rows.views) / (1 - at).clamp_min(flow.least_noise)).square().mean((1, 2, 3, 4))


def _rig(model: StarterModel) -> tuple[Float[Tensor, "V 16"], Float[Tensor, "V n 6"]]:
    network = model.config.network
    cameras = rig_cameras(size=network.image_size)
    return camera_code(cameras), ray_code(cameras, network.image_size // network.patch_size)


@torch.no_grad()
def _told(
    model: StarterModel,
    framed: Float[Tensor, "P 4 H W"],
    sentence: str,
    options: PersonaliseOptions,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "P 1 16"], Float[Tensor, "P 1 n 6"]]:
    """Codes of the cameras of the pictures."""
    codes, rays = _rig(model)
    count = len(framed)
    if options.cameras == "none":
        return torch.zeros(count, 1, NUM_CAMERA), torch.zeros(count, 1, rays.shape[1], NUM_RAY)
    device, size = next(model.parameters()).device, model.config.network.image_size
    small = F.interpolate(framed, (size, size), mode="area")[:, None].to(device)
    errors = torch.zeros(len(codes), count)
    for share in (0.2, 0.35, 0.5, 0.65):
        noise = torch.randn(small.shape, generator=generator).to(device)
        at = torch.full((count,), share, device=device)
        for k in range(len(codes)):
            one = codes[k].expand(count, 1, -1).to(device), rays[k].expand(count, 1, -1, -1).to(device)
            rows = _Rows(small, *one, [sentence] * count)
            errors[k] += _velocity_error(model, rows, at, noise, options.flow, joint=False).cpu()
    best = errors.argmin(0)
    log.info("cameras of the pictures are taken for %s", best.tolist())
    return codes[best][:, None], rays[best][:, None]


def _own_sets(
    model: StarterModel,
    sentence: str,
    options: PersonaliseOptions,
    generator: torch.Generator,
    cancel: CancelToken | None,
) -> _Rows:
    """What the network makes of the class before it learns the word."""
    count, size = options.prior_sets, model.config.network.image_size
    device = next(model.parameters()).device
    codes, rays = _rig(model)
    codes = codes.expand(count, -1, -1).contiguous().to(device)
    rays = rays.expand(count, -1, -1, -1).contiguous().to(device)
    noise = torch.randn(count, codes.shape[1], 4, size, size, generator=generator).to(device)

    def after(done: float, clean: Tensor) -> Tensor:
        if cancel is not None:
            cancel.raise_if_cancelled()
        return clean

    given = Conditions(codes, rays, [sentence] * count, [""] * count)
    return _Rows(sample(model, given, noise, SamplingOptions(), after), codes, rays, [sentence] * count)


def _doubts(model: StarterModel, pictures: Sequence[SourceImage], word: str, noun: str) -> list[str]:
    """Warnings. Raises: InvalidInput."""
    if not pictures:
        raise InvalidInput(f"There are no pictures; give {FEWEST} to {MOST} of the same object.")
    if words_of(word) != [word.strip().lower()]:
        raise InvalidInput(f"word is {word!r}; it must be one word of Latin letters and digits, such as 'sks'.")
    if not words_of(noun):
        raise InvalidInput(f"noun is {noun!r}; name the kind of thing in Latin letters, such as 'barrel'.")
    known = set(model.config.words.vocabulary)
    doubts = []
    if not FEWEST <= len(pictures) <= MOST:
        doubts.append(f"{len(pictures)} pictures were given; {FEWEST} to {MOST} are usual.")
    if word.strip().lower() in known:
        doubts.append(f"{word!r} has a meaning already, which will be mixed with the new one; take a made-up word.")
    strange = [part for part in words_of(noun) if part not in known]
    if strange:
        doubts.append(
            f"The starter generator does not know {', '.join(map(repr, strange))}; a common noun works better."
        )
    return doubts
