"""The starter generator: words, a picture or earlier views -> five views of an object, in seconds on a laptop, with nothing to download."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import orbit_cameras, resize_cameras
from mvgamba.errors import InvalidInput, WeightsMissing
from mvgamba.multiview.consistency import hull_agreement
from mvgamba.multiview.lora import add_adapter, fingerprint, known_words, load_adapter
from mvgamba.multiview.memory import GOOD_SCORE, Recollection, StarterMemory
from mvgamba.multiview.memory_files import BACK, LEFT, RIGHT, read_memory
from mvgamba.multiview.palette import described
from mvgamba.multiview.placing import centered, place_picture, place_side, with_outlines_of_front
from mvgamba.multiview.prompts import words_of
from mvgamba.multiview.protocol import GeneratedViews, GeneratorSettings, Preview, ViewsRequest
from mvgamba.multiview.resembling import Resembling
from mvgamba.multiview.starter_model import StarterModel, load_starter
from mvgamba.multiview.starter_network import camera_code, from_signal, ray_code, to_signal
from mvgamba.multiview.starter_sampling import Conditions, SamplingOptions, sample, with_details
from mvgamba.progress import CancelToken
from mvgamba.types import Cameras, PosedViews, SourceImage
from mvgamba.weights import Weights, default, memory_of, verified

log = logging.getLogger(__name__)

FOVY, DISTANCE = math.radians(49.1), 2.53
"""Of all cameras, from the middle of the unit ball; the ball fills most of a picture."""
AZIMUTHS = (0.0, math.pi / 2, math.pi, 3 * math.pi / 2, math.pi / 4)
ELEVATIONS = (0.0, 0.0, 0.0, 0.0, math.pi / 3)
"""Front, right, back, left, and one from above; the front at the elevation of the picture where there is one."""
KNOWN_ELEVATIONS = (0.0, math.radians(15), math.radians(30))
"""That pictures were learned from; one of them is chosen for a picture of unknown elevation."""
OUT_SIZE = 256
BORDER = 2
"""Pixels of the finished views in which nothing is."""
LEAST_GAIN_OF_TILT = 0.01
"""By which the views of a picture from above must agree better than those of a level one to be taken."""
STEPS, TEXT_GUIDANCE, PICTURE_GUIDANCE = 25, 3.0, 2.0
PLACED_FROM = 0.4
"""Share of the steps after which the front view is the picture itself."""
MOST_CANDIDATES = 16
MOST_TURN = math.radians(20)
"""That a picture of a side may be off."""
LEVEL = 0.02
"""Sine of the elevation up to which the camera of a picture looks level."""
RESEMBLING_STRENGTH = 0.4
"""How much is given up of what objects of the picture's outline usually look like."""
RECALL_STRENGTH = 0.35
"""How much of a recalled object is given up."""


def rig_cameras(elevation: float = 0.0, *, size: int = OUT_SIZE) -> Cameras:
    """The cameras of a set of views, about the object in the unit ball."""
    elevations = [elevation, *ELEVATIONS[1:]]
    return orbit_cameras(list(AZIMUTHS), elevations, radius=DISTANCE, fovy=FOVY, height=size, width=size)


def model_from_settings(settings: GeneratorSettings) -> tuple[StarterModel, str]:
    """The weights as they are, without adapters, and what they are called. Raises: WeightsMissing, WeightsCorrupt."""
    if settings.weights is not None:
        return load_starter(settings.weights), settings.weights.name
    found = _weights_in_use(settings)
    return load_starter(verified(found)), found.name


def _weights_in_use(settings: GeneratorSettings) -> Weights:
    found = default("generator", "starter", settings.weights_folder)
    if found is None:
        raise WeightsMissing("No weights of the starter generator are here. Install the package again, or train some.")
    return found


def starter_from_settings(settings: GeneratorSettings) -> "StarterGenerator":
    """Raises: WeightsMissing, WeightsCorrupt, and InvalidInput for an adapter that is for another network."""
    model, name = model_from_settings(settings)
    adapters = [load_adapter(path) for path in settings.adapters]
    base = fingerprint(model) if adapters else ""
    for path, adapter in zip(settings.adapters, adapters, strict=True):
        add_adapter(model, adapter, name=path.name)
        if adapter.facts.get("base", base) != base:
            log.warning("%s was trained on other weights than %s; what it adds may mean little.", path.name, name)
    names = "+".join([name, *(path.name for path in settings.adapters)])
    memory = None
    if settings.weights is None and not adapters:  # other weights and adapters were taught with other objects
        taught_with = memory_of(_weights_in_use(settings), settings.weights_folder)
        memory = None if taught_with is None else StarterMemory(read_memory(verified(taught_with)))
    return StarterGenerator(model, device=settings.device, weights=names, words=known_words(adapters), memory=memory)


class StarterGenerator:
    """See the module and `MultiviewGenerator`.

    Args:
        weights: What they are called, for the facts of a result.
        words: That adapters have taught the model, beside its vocabulary.
        memory: Of the objects that it was taught with; None for one that was taught with others.
    """

    name = "starter"

    def __init__(
        self,
        model: StarterModel,
        *,
        device: str = "cpu",
        weights: str = "",
        words: Sequence[str] = (),
        memory: StarterMemory | None = None,
    ) -> None:
        self.model, self.device, self.weights, self.memory = model.to(device), device, weights, memory
        self.words = frozenset(words)
        self._resembling = None if memory is None else Resembling(memory)
        self.size = model.config.network.image_size

    @property
    def cameras(self) -> Cameras:
        """See `MultiviewGenerator`."""
        return rig_cameras()

    def generate(
        self, request: ViewsRequest, *, preview: Preview | None = None, cancel: CancelToken | None = None
    ) -> GeneratedViews:
        """See `MultiviewGenerator`. Raises: InvalidInput, Cancelled."""
        options = self._check(request)
        asked = request.prompt
        prompt, doubts = self._understood(asked)
        if request.image is not None and len(sides_of(request.image)) < len(request.image.others):
            doubts.append(
                "Of the pictures only those of the front, the right, the back and the left are used by the starter generator."
            )
        negative, _ = self._understood(request.negative_prompt)
        request = replace(request, prompt=prompt, negative_prompt=negative)
        count = request.candidates
        tilts = [0.0] * count
        if request.image is not None:
            known = KNOWN_ELEVATIONS if request.elevation is None else (request.elevation,)
            tilts = [known[k % len(known)] for k in range(count)]
        cameras = [rig_cameras(tilt, size=self.size) for tilt in tilts]
        recalled = self._recalled(request)
        if recalled:
            strength = RECALL_STRENGTH if request.image is None else RESEMBLING_STRENGTH
            options = replace(options, strength=strength)
        given = Conditions(
            torch.stack([camera_code(c) for c in cameras]).to(self.device),
            torch.stack([ray_code(c, self.size // self.model.config.network.patch_size) for c in cameras]).to(
                self.device
            ),
            [request.prompt] * count,
            [request.negative_prompt] * count,
            self._picture(request.image, count),
            torch.stack([signals for _, signals in recalled]).to(self.device)
            if recalled
            else self._start(request, count),
        )
        # on the host, so that a seed means the same noise on every device
        noise = torch.stack(
            [
                torch.randn(len(AZIMUTHS), 4, self.size, self.size, generator=_seeded(request.seed, k))
                for k in range(count)
            ]
        ).to(self.device)

        def after(done: float, clean: Float[Tensor, "B V 4 H W"]) -> Float[Tensor, "B V 4 H W"]:
            if cancel is not None:
                cancel.raise_if_cancelled()
            if request.image is not None and done >= PLACED_FROM:
                clean = torch.stack([self._with_pictures(row.cpu(), request.image, self.size) for row in clean]).to(
                    clean
                )
            if preview is not None:
                rgb, alpha = from_signal(clean[0])
                preview(done, PosedViews(rgb.cpu(), alpha.cpu(), cameras[0]))
            return clean

        signals = sample(self.model, given, noise, options, after)
        if request.image is None:
            signals = with_details(self.model, given, signals, noise, share=1 - options.strength)
        signals = signals.cpu()
        scores = [self._score(signals[k], cameras[k], request.image) for k in range(count)]
        # pictures are mostly level, and what tells the others apart is weak
        best = max(range(count), key=lambda k: scores[k] - (LEAST_GAIN_OF_TILT if tilts[k] > LEVEL else 0.0))
        views = self._finished(signals[best], cameras[best], request.image)
        facts: dict[str, Any] = {
            "generator": self.name,
            "generator_weights": self.weights,
            "candidates": count,
            "chosen": best,
            "scores": [round(s, 3) for s in scores],
            "steps": options.steps,
            "guidance": options.guidance,
            "elevation_deg": round(math.degrees(tilts[best]), 1),
        }
        if prompt != asked:
            facts["read_as"] = prompt
        if recalled:
            facts["recalled"] = recalled[best][0]
        if self.memory is not None:
            nearest = self.memory.nearest(signals[best])
            facts |= {"nearest_object": nearest.name, "nearest_distance": round(nearest.relative, 2)}
        return GeneratedViews(views, facts, tuple(doubts))

    def _check(self, request: ViewsRequest) -> SamplingOptions:
        if not request.prompt.strip() and request.image is None and request.start is None:
            raise InvalidInput("There is no prompt, no image and no view to begin from; give at least one of them.")
        if not 1 <= request.candidates <= MOST_CANDIDATES:
            raise InvalidInput(f"candidates is {request.candidates}; it must lie between 1 and {MOST_CANDIDATES}.")
        if request.steps is not None and not 1 <= request.steps <= 1000:
            raise InvalidInput(f"steps is {request.steps}; it must lie between 1 and 1000.")
        if not 0 <= request.strength <= 1:
            raise InvalidInput(
                f"strength is {request.strength}; it must lie between 0 (keep the views) and 1 (forget them)."
            )
        if request.guidance is not None and not 0 <= request.guidance <= 30:
            raise InvalidInput(f"guidance is {request.guidance}; it must lie between 0 and 30.")
        if request.elevation is not None and not abs(request.elevation) <= math.radians(60):
            raise InvalidInput(
                f"elevation is {math.degrees(request.elevation):.0f} degrees; it must lie between -60 and 60."
            )
        usual = TEXT_GUIDANCE if request.image is None else PICTURE_GUIDANCE
        return SamplingOptions(
            steps=STEPS if request.steps is None else request.steps,
            guidance=usual if request.guidance is None else float(request.guidance),
            strength=float(request.strength),
        )

    def _picture(self, image: SourceImage | None, count: int) -> Tensor | None:
        if image is None:
            return None
        small = centered(to_signal(image.rgb.float(), image.alpha.float())[None], size=self.size)
        return small.expand(count, -1, -1, -1).to(self.device)

    def _start(self, request: ViewsRequest, count: int) -> Tensor | None:
        start = request.start
        if start is None:
            return None
        if start.num_views != len(AZIMUTHS):
            raise InvalidInput(f"start has {start.num_views} views; this generator makes {len(AZIMUTHS)}.")
        small = torch.stack([_resized(v, self.size) for v in to_signal(start.rgb.float(), start.alpha.float())])
        if self.memory is not None and request.strength > 0:
            # the words that are learned best are colours, and what is painted before needs less noise
            views = torch.cat(from_signal(small), 1)
            thing = described(views, self.memory.paints)
            views = self.memory.repaint(Recollection(views, thing, 1.0), request.prompt)
            small = to_signal(views[:, :3], views[:, 3:])
        return small.expand(count, -1, -1, -1, -1).to(self.device)

    def _recalled(self, request: ViewsRequest) -> list[tuple[str, Float[Tensor, "V 4 H W"]]]:
        """Names and signals to begin from, one for each candidate; none where nothing that is remembered fits."""
        if self.memory is None or self._resembling is None or not request.recall or request.start is not None:
            return []
        if request.image is not None:
            usual = self._resembling(request.image)
            return [(usual.name, usual.signals)] * request.candidates
        generator = _seeded(request.seed, MOST_CANDIDATES)
        found = self.memory.recall(request.prompt, request.candidates, generator)
        # the second best only where it is nearly as good: another noun is another thing
        found = [thing for thing in found if thing.score >= max(GOOD_SCORE, 0.9 * found[0].score)]
        if not found:
            return []
        taken = [found[k % len(found)] for k in range(request.candidates)]
        painted = [
            self.memory.repaint(thing, request.prompt, generator if k else None) for k, thing in enumerate(taken)
        ]
        return [
            (thing.object.name, to_signal(views[:, :3], views[:, 3:]))
            for thing, views in zip(taken, painted, strict=True)
        ]

    def _with_pictures(
        self, signal: Float[Tensor, "V 4 H W"], image: SourceImage, size: int
    ) -> Float[Tensor, "V 4 s s"]:
        """The views of a set with the pictures that were given in the place of those that they show."""
        front = place_picture(image, signal[0], size=size)
        out = signal.clone() if size == self.size else F.interpolate(signal, (size, size), mode="bilinear")
        for view, side in sides_of(image):
            out[view] = place_side(side, signal[view], image, signal[0], size=size)
        out[0] = front
        return out

    def _score(self, signal: Float[Tensor, "V 4 H W"], cameras: Cameras, image: SourceImage | None) -> float:
        """How well the views agree, and the front one with the picture."""
        rgb, alpha = from_signal(signal)
        if float(alpha.amax((1, 2, 3)).min()) < 0.5:
            return 0.0
        return float(hull_agreement(PosedViews(rgb, alpha, cameras)).mean())

    def _finished(self, signal: Float[Tensor, "V 4 H W"], cameras: Cameras, image: SourceImage | None) -> PosedViews:
        """At the size that the reconstructor works with, with outlines as sharp as there."""
        large = F.interpolate(signal, (OUT_SIZE, OUT_SIZE), mode="bicubic", align_corners=False)
        # the steps of small pixels would become steps of the mesh
        smooth = F.conv2d(F.pad(large[:, 3:], (4, 4, 4, 4), mode="replicate"), _disc(4))
        sharp = (0.75 * OUT_SIZE / self.size * smooth).clamp(-1, 1)
        rgb, _ = from_signal(large)
        alpha = 0.5 * sharp + 0.5
        if image is not None:
            given = from_signal(self._with_pictures(signal, image, OUT_SIZE))
            for view in (0, *(view for view, _ in sides_of(image))):
                rgb[view], alpha[view] = given[0][view], given[1][view]
            if abs(float(cameras.c2w[0, 1, 2])) < LEVEL:
                known = {view for view, _ in sides_of(image)}
                rgb, alpha = with_outlines_of_front(
                    rgb,
                    alpha,
                    sides=[view for view in (RIGHT, LEFT) if view not in known],
                    back=None if BACK in known else BACK,
                )
        # all of the object was made: an outline that touches the frame would say that it goes on beside it
        whole = F.pad(alpha[..., BORDER:-BORDER, BORDER:-BORDER], (BORDER,) * 4)
        return PosedViews(rgb * (whole > 0), whole, resize_cameras(cameras, OUT_SIZE, OUT_SIZE))

    def _understood(self, prompt: str) -> tuple[str, list[str]]:
        """The prompt in words that were learned, and what a person should know of the others."""
        if not prompt.strip():
            return "", []
        if not words_of(prompt) and self.memory is None:
            return "", [
                "The prompt has no word in Latin letters, which is all that the starter generator reads; it was ignored."
            ]
        if self.memory is None:
            known = set(self.model.config.words.vocabulary) | self.words
            strange = [word for word in words_of(prompt) if word not in known]
            return prompt, [f"The starter generator does not know {_quoted(strange)}."] if strange else []
        vocabulary = self.memory.vocabulary
        read = vocabulary.translate(prompt)
        said = [
            f"The starter generator takes {one.said!r} for {one.taken!r}, which only comes near."
            for one in read.substitutions
            if one.is_rough
        ]
        for word in read.unknown[:5]:
            near = vocabulary.nearest(word)
            more = f"; the nearest words that it knows are {_quoted(near)}" if near else ""
            said.append(
                f"The starter generator does not know {word!r}{more}. `mvgamba vocabulary` lists what it knows."
            )
        if not words_of(read.prompt):
            said.append("None of the prompt could be read, so the result is of the generator's own choice.")
        return read.prompt, said


def sides_of(image: SourceImage) -> list[tuple[int, SourceImage]]:
    """Which views other pictures show: right, back and left, if the picture is from within 20 degrees of it."""
    found = []
    for other in image.others:
        for view in (1, 2, 3):
            turn = (other.azimuth - AZIMUTHS[view] + math.pi) % (2 * math.pi) - math.pi
            if abs(turn) < MOST_TURN and abs(other.elevation) < MOST_TURN:
                found.append((view, other.image))
    return found


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(repr(word) for word in words[:5])


def _disc(radius: int) -> Float[Tensor, "1 1 k k"]:
    """A Gaussian of half that spread."""
    at = torch.arange(-radius, radius + 1).float()
    weights = torch.exp(-0.5 * (at / (0.5 * radius)) ** 2)
    square = weights[:, None] * weights
    return (square / square.sum())[None, None]


def _resized(signal: Float[Tensor, "4 H W"], size: int) -> Float[Tensor, "4 s s"]:
    return F.interpolate(signal[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]


def _seeded(seed: int, candidate: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + candidate) % 2**63)
