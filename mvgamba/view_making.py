"""Words, one picture or an object that is there already -> views that can be reconstructed, by one of the multi-view generators."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mvgamba import __version__
from mvgamba.multiview import GENERATORS
from mvgamba.multiview.prompts import checked_prompt
from mvgamba.multiview.protocol import GeneratedViews, GeneratorSettings, MultiviewGenerator, ViewsRequest
from mvgamba.progress import CancelToken
from mvgamba.types import Cameras, GenerateOptions, PosedViews, Similarity, SourceImage, TextPrompt, Variation
from mvgamba.weights import hashes_of

log = logging.getLogger(__name__)

ShowViews = Callable[[PosedViews], None]
"""Given the views as they are expected to become, now and then while they are made."""
Redraw = Callable[[PosedViews, Cameras], PosedViews]
"""Views of an object, cameras about the unit ball -> what those cameras would see of it, the ball being around it."""


@dataclass(frozen=True, eq=False)
class ChosenGenerator:
    """A generator with its weights, and why it was taken."""

    name: str
    because: str
    """In a few words."""
    generator: MultiviewGenerator


def load_generator(source: TextPrompt | SourceImage | Variation, options: GenerateOptions) -> ChosenGenerator:
    """Raises: Unavailable, WeightsMissing, WeightsCorrupt."""
    name, because = choose_generator(source, options)
    settings = GeneratorSettings(weights_folder=options.weights_folder, device=options.device)
    return ChosenGenerator(name, because, GENERATORS.get(name)(settings))


def make_views(
    source: TextPrompt | SourceImage | Variation,
    options: GenerateOptions,
    *,
    redraw: Redraw,
    report: Callable[[float], None],
    show: ShowViews | None = None,
    cancel: CancelToken | None = None,
    chosen: ChosenGenerator | None = None,
) -> GeneratedViews:
    """Views about an object in the unit ball, or in the place of the views of a variation.

    Args:
        redraw: For a variation whose views are not from the generator's own cameras.
        report: Told the fraction that is done.
        chosen: What makes them; loaded unless given.
    Raises:
        InvalidInput: The prompt, the picture or an option cannot be used.
        Unavailable: The generator is not here, or its weights are not.
        Cancelled: The token was set.
    """
    chosen = chosen or load_generator(source, options)
    name, because, generator = chosen.name, chosen.because, chosen.generator
    place = Similarity.identity()
    request = ViewsRequest(
        recall=options.multiview.recall,
        candidates=options.multiview.candidates,
        steps=options.multiview.steps,
        guidance=options.multiview.guidance,
        seed=options.seed,
    )
    match source:
        case TextPrompt():
            request = dataclasses.replace(
                request,
                prompt=checked_prompt(source.text),
                negative_prompt=checked_prompt(source.negative, may_be_empty=True),
            )
        case SourceImage():
            prompt = checked_prompt(source.prompt, may_be_empty=True)
            request = dataclasses.replace(request, prompt=prompt, image=source, elevation=source.elevation)
        case Variation():
            seen = source.views
            found = place_of(seen.cameras, generator.cameras)
            if found is None:
                seen = redraw(seen, generator.cameras)
                found = place_of(seen.cameras, generator.cameras)
                assert found is not None, "redrawn views come from these cameras"
            place = found
            request = dataclasses.replace(
                request,
                prompt=checked_prompt(source.prompt),
                negative_prompt=checked_prompt(source.negative, may_be_empty=True),
                start=seen,
                strength=source.strength,
            )
    log.info("making views with %s (%s)", name, because)

    def preview(done: float, views: PosedViews | None) -> None:
        report(done)
        if show is not None and views is not None:
            show(views)

    made = generator.generate(request, preview=preview, cancel=cancel)
    cameras = made.views.cameras
    moved = dataclasses.replace(made.views, cameras=dataclasses.replace(cameras, c2w=placed(cameras.c2w, place)))
    facts = {
        "version": __version__,
        "generator": name,
        "generator_because": because,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "recall": request.recall,
        **made.facts,
        "seed": options.seed,
    }
    facts["weights_sha256"] = hashes_of(facts.get("generator_weights", ""), "generator", options.weights_folder)
    if request.start is not None:
        facts["strength"] = request.strength
    if request.image is not None:
        facts["pictures"] = 1 + len(request.image.others)
    return GeneratedViews(moved, facts, made.warnings)


def choose_generator(source: TextPrompt | SourceImage | Variation, options: GenerateOptions) -> tuple[str, str]:
    """The name of the generator, and the reason in a few words. Raises: Unavailable for a name that there is not."""
    wanted = options.multiview.generator
    if wanted != "auto":
        GENERATORS.get(wanted)
        return wanted, "asked for"
    return "starter", "it comes with the package and runs anywhere"


def placed(c2w: torch.Tensor, place: Similarity) -> torch.Tensor:
    """Cameras that stand about an object in the unit ball -> the same about the object in its place."""
    moved = c2w.clone()
    moved[..., :3, :3] = place.rotation.to(c2w) @ c2w[..., :3, :3]
    moved[..., :3, 3] = place.apply(c2w[..., :3, 3])
    return moved


def place_of(cameras: Cameras, own: Cameras) -> Similarity | None:
    """Where the unit ball is that cameras stand about, `own` being the same cameras about the origin.

    None if they are not the same but for place, size and a turn.
    """
    if cameras.num_views != own.num_views:
        return None
    theirs, ours = cameras.c2w.double(), own.c2w.double()
    rotation = theirs[0, :3, :3] @ ours[0, :3, :3].T
    spread = lambda c: (c[:, :3, 3] - c[:, :3, 3].mean(0)).norm()  # noqa: E731
    scale = float(spread(theirs) / spread(ours))
    place = Similarity(scale, rotation, theirs[:, :3, 3].mean(0) - scale * rotation @ ours[:, :3, 3].mean(0))
    away = float((placed(ours, place)[:, :3, 3] - theirs[:, :3, 3]).norm(dim=1).max()) / scale
    turned = float((placed(ours, place)[:, :3, :3] - theirs[:, :3, :3]).abs().max())
    fields = (own.intrinsics[:, 1, 1] / own.height, cameras.intrinsics[:, 1, 1] / cameras.height)
    same_field = float((fields[0] - fields[1]).abs().max()) < 0.01
    return place if away < 0.02 and turned < 0.02 and same_field else None
