"""MVDream and ImageDream as generators of the house: requests to posed views with alpha.

The rig. The networks are told where cameras stand, but neither their distance nor their field of view: in training both were drawn at random
and the object's size in the picture with them. So one may be chosen. 49.1 degrees is what those who reconstruct from these views take (LGM,
MVGamba: at 1.5 from an object that is not normalised); from 2.53, as in the house's rig, such a camera sees the whole unit ball. The four cameras
stand a quarter turn apart, as in training, level by level at 15 degrees (MVDream's script) or at the elevation of the image (ImageDream's
training; 5 degrees if that is not known, as its authors do).
"""

import importlib.util
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import orbit_cameras, resize_cameras
from mvgamba.errors import InvalidImage, InvalidInput, OutOfMemory, Unavailable, WeightsMissing
from mvgamba.multiview.consistency import hull_agreement
from mvgamba.multiview.mvdream.camera_code import check_looks_at_origin
from mvgamba.multiview.mvdream.guidance import rough_rgb
from mvgamba.multiview.mvdream.plain_background import cut_out
from mvgamba.multiview.protocol import GeneratedViews, GeneratorSettings, Preview, ViewsRequest
from mvgamba.progress import CancelToken
from mvgamba.types import Cameras, PosedViews, SourceImage
from mvgamba.weights.hub import LIBRARIES

if TYPE_CHECKING:
    from mvgamba.multiview.mvdream.pipeline import MVDreamPipeline

log = logging.getLogger(__name__)

FOVY = math.radians(49.1)
DISTANCE = 2.53
NUM_VIEWS = 4
BACKGROUND = 1.0
"""White, in front of which prompt images and starting views are put."""


@dataclass(frozen=True)
class Recipe:
    """What the authors of a network do with it."""

    name: str
    takes_images: bool
    elevation: float
    """Radians, where nothing else is known."""
    steps: int
    guidance: float
    negative_prompt: str
    suffix: str = ", 3d asset"
    """Of every prompt in the published scripts."""


MVDREAM = Recipe("mvdream", False, math.radians(15), steps=50, guidance=7.0, negative_prompt="")
"""Guidance as in the released pipeline for diffusers; the original script takes 10."""
IMAGEDREAM = Recipe(
    "imagedream",
    True,
    math.radians(5),
    steps=50,
    guidance=5.0,
    negative_prompt=(
        "uniform low no texture ugly, boring, bad anatomy, blurry, pixelated, obscure, unnatural colors, poor lighting, dull, and unclear."
    ),
)


class PublishedGenerator:
    """A `MultiviewGenerator` around a pipeline.

    Args:
        warning: What every result says, such as that memory was short.
        full_previews: Decode the views for previews after each step, instead of the eighth of their size that latents tell.
    """

    def __init__(
        self,
        pipeline: "MVDreamPipeline",
        recipe: Recipe,
        *,
        weights: str = "",
        warning: str | None = None,
        full_previews: bool = False,
    ) -> None:
        self.name = recipe.name
        self.pipeline, self.recipe, self.weights = pipeline, recipe, weights
        self.warning, self.full_previews = warning, full_previews

    @property
    def cameras(self) -> Cameras:
        """See the protocol; at the elevation of the published scripts."""
        return self._rig(self.recipe.elevation)

    def generate(
        self, request: ViewsRequest, *, preview: Preview | None = None, cancel: CancelToken | None = None
    ) -> GeneratedViews:
        """See the protocol. Candidate i has the seed of the request plus i; the best is the one whose silhouettes agree best.

        With `start`, its cameras are those of the result; they have to look at the origin.
        Raises: InvalidInput, InvalidImage, InvalidCameras, Cancelled, OutOfMemory.
        """
        self._check(request)
        warnings = [self.warning] if self.warning else []
        cameras, elevation = self._cameras(request, warnings)
        prompt = self._prompt(request.prompt, warnings)
        if request.image is not None and request.image.others:
            warnings.append("Of the pictures only that of the front is used by ImageDream.")
        facts: dict[str, Any] = {
            "generator": self.name,
            "generator_weights": self.weights,
            "precision": str(self.pipeline.unet.dtype).removeprefix("torch."),
            "steps": request.steps or self.recipe.steps,
            "guidance": self.recipe.guidance if request.guidance is None else request.guidance,
            "elevation_deg": None if elevation is None else round(math.degrees(elevation), 3),
        }
        if request.start is not None and request.strength == 0:
            return GeneratedViews(request.start, facts | {"chosen_seed": request.seed}, tuple(warnings))
        arguments: dict[str, Any] = {
            "c2w": cameras.c2w,
            "negative_prompt": request.negative_prompt or self.recipe.negative_prompt,
            "steps": facts["steps"],
            "guidance": facts["guidance"],
        }
        if request.start is not None:
            arguments |= {"start": _over_background(request.start), "strength": request.strength}
        if self.recipe.takes_images:
            assert request.image is not None
            arguments["image"] = _square(request.image)
        best: tuple[float, int, PosedViews] | None = None
        scores = []
        for number in range(request.candidates):
            seed = request.seed + number
            with _memory_errors():
                result = self.pipeline(
                    prompt,
                    generator=torch.Generator().manual_seed(seed),
                    on_step=self._on_step(cameras, number, request.candidates, preview, cancel),
                    **arguments,
                )
            views = _posed(result.images, cameras)
            score = float(hull_agreement(views).min()) if request.candidates > 1 else 1.0
            scores.append(score)
            if best is None or score > best[0]:
                best = (score, seed, views)
        assert best is not None
        _, seed, views = best
        if request.candidates > 1:
            facts["scores"] = [round(score, 4) for score in scores]
        if preview is not None:
            preview(1.0, views)
        return GeneratedViews(views, facts | {"chosen_seed": seed}, tuple(warnings))

    def _check(self, request: ViewsRequest) -> None:
        if self.recipe.takes_images and request.image is None:
            raise InvalidInput(
                "ImageDream makes views of what an image shows, and there is none; give an image, or use 'mvdream'."
            )
        if not self.recipe.takes_images and request.image is not None:
            raise InvalidInput("MVDream takes no image, only a prompt; use 'imagedream' for an image.")
        if not self.recipe.takes_images and not request.prompt.strip():
            raise InvalidInput(
                "MVDream makes views of what a prompt says, and there is none; give a few words for one object."
            )
        if request.image is not None and float(request.image.alpha.max()) < 0.5:
            raise InvalidImage(
                "The image shows nothing: its alpha is below 0.5 everywhere. Cut out the object and try again."
            )
        if not 1 <= request.candidates <= 64:
            raise InvalidInput(f"candidates is {request.candidates}; it must be from 1 to 64.")

    def _cameras(self, request: ViewsRequest, warnings: list[str]) -> tuple[Cameras, float | None]:
        """Of the result, at the network's size, and their elevation where it is one."""
        size = self.pipeline.size
        if request.start is not None:
            check_looks_at_origin(request.start.cameras)
            return resize_cameras(request.start.cameras, size, size), None
        elevation = request.elevation
        if elevation is None:
            elevation = self.recipe.elevation
            if self.recipe.takes_images:
                warnings.append(
                    f"The elevation of the image's camera is not known; {math.degrees(elevation):.0f} degrees are assumed."
                )
        if not -math.pi / 2 < elevation < math.pi / 2:
            raise InvalidInput(f"elevation is {elevation:g}; it must be an angle in radians between the poles.")
        if not 0 <= elevation <= math.radians(30):
            warnings.append(
                f"The cameras stand at {math.degrees(elevation):.0f} degrees; the network was trained from 0 to 30."
            )
        return self._rig(elevation), elevation

    def _rig(self, elevation: float) -> Cameras:
        turns, size = [2 * math.pi * i / NUM_VIEWS for i in range(NUM_VIEWS)], self.pipeline.size
        return orbit_cameras(turns, [elevation] * NUM_VIEWS, radius=DISTANCE, fovy=FOVY, height=size, width=size)

    def _prompt(self, prompt: str, warnings: list[str]) -> str:
        prompt = prompt.strip()
        if prompt and not prompt.endswith(self.recipe.suffix):
            prompt += self.recipe.suffix
        if left_out := self.pipeline.left_out(prompt):
            warnings.append(f"The prompt is too long; its end is not used: {left_out!r}.")
        return prompt

    def _on_step(
        self, cameras: Cameras, number: int, count: int, preview: Preview | None, cancel: CancelToken | None
    ) -> Any:
        def on_step(fraction: float, clean: Float[Tensor, "V 4 h w"]) -> None:
            if cancel is not None:
                cancel.raise_if_cancelled()
            if preview is not None:
                rgb = self.pipeline.decode_latents(clean) if self.full_previews else rough_rgb(clean).cpu()
                small = resize_cameras(cameras, *rgb.shape[-2:])
                # the last step is not the end: decoding is to come, and candidates
                preview((number + 0.95 * fraction) / count, PosedViews(*cut_out(rgb, method="border"), small))

        if cancel is not None:
            cancel.raise_if_cancelled()
        return on_step


def mvdream_from_settings(settings: GeneratorSettings) -> PublishedGenerator:
    """For the registry. Raises: Unavailable, WeightsMissing, WeightsCorrupt, OutOfMemory."""
    return _from_settings(settings, MVDREAM)


def imagedream_from_settings(settings: GeneratorSettings) -> PublishedGenerator:
    """For the registry. Raises: Unavailable, WeightsMissing, WeightsCorrupt, OutOfMemory."""
    return _from_settings(settings, IMAGEDREAM)


def _from_settings(settings: GeneratorSettings, recipe: Recipe) -> PublishedGenerator:
    require_libraries()
    path = weights_path(settings, recipe)
    from mvgamba.multiview.mvdream.loading import load_pipeline
    from mvgamba.multiview.mvdream.pipeline import ImageDreamPipeline

    with _memory_errors():
        pipeline, placement = load_pipeline(path, device=settings.device)
    if isinstance(pipeline, ImageDreamPipeline) != recipe.takes_images:
        other = "imagedream" if isinstance(pipeline, ImageDreamPipeline) else "mvdream"
        raise InvalidInput(f"{path} holds the weights of {other}, not of {recipe.name}; use the generator {other!r}.")
    if placement.warning:
        log.warning("%s", placement.warning)
    return PublishedGenerator(pipeline, recipe, weights=path.name, warning=placement.warning)


def check_folder(folder: Path) -> str:
    """`mvdream` or `imagedream`, for a folder with the published layout in which every key has its place.

    Raises: Unavailable, WeightsMissing, WeightsCorrupt.
    """
    require_libraries()
    from mvgamba.multiview.mvdream.loading import check_parts, parts_of_folder

    if not folder.is_dir():
        raise WeightsMissing(f"There is no folder {folder}.")
    parts = parts_of_folder(folder)
    check_parts(parts)
    return MVDREAM.name if parts.feature_extractor is None else IMAGEDREAM.name


def weights_path(settings: GeneratorSettings, recipe: Recipe) -> Path:
    """The given file or folder, else the one that was pulled. Raises: WeightsMissing."""
    if settings.weights is not None:
        if not settings.weights.exists():
            raise WeightsMissing(f"There is neither a file nor a folder {settings.weights}.")
        return settings.weights
    pulled = None if settings.weights_folder is None else settings.weights_folder / recipe.name
    if pulled is None or not pulled.is_dir():
        raise WeightsMissing(
            f"The generator {recipe.name!r} needs its published weights, and they are not there"
            f"{'' if pulled is None else f' ({pulled})'}. Run `mvgamba weights pull {recipe.name}`, or take in a folder with "
            f"`mvgamba weights import-generator FOLDER`. The generator 'starter' needs none."
        )
    return pulled


def require_libraries() -> None:
    """Raises: Unavailable, with the line that installs what is missing."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise Unavailable(
            f"MVDream and ImageDream need {' and '.join(missing)}; install with `pip install mvgamba[multiview]`, or use the "
            "generator 'starter', which needs nothing more."
        )


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Say in the house's words that memory ran out. Raises: OutOfMemory."""
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(_OUT_OF_MEMORY) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise OutOfMemory(_OUT_OF_MEMORY) from error


_OUT_OF_MEMORY = "Memory ran out while views were made. Close other programs, or use the generator 'starter'."


def _posed(images: Float[Tensor, "V 3 H W"], cameras: Cameras) -> PosedViews:
    rgb, alpha = cut_out(images)
    return PosedViews(rgb, alpha, cameras)


def _over_background(views: PosedViews) -> Float[Tensor, "V 3 H W"]:
    return views.rgb * views.alpha + BACKGROUND * (1 - views.alpha)


def _square(image: SourceImage) -> Float[Tensor, "3 S S"]:
    """On the background, with more of it at the shorter sides."""
    flat = image.rgb * image.alpha + BACKGROUND * (1 - image.alpha)
    height, width = flat.shape[-2:]
    more_x, more_y = max(0, height - width), max(0, width - height)
    pad = (more_x // 2, more_x - more_x // 2, more_y // 2, more_y - more_y // 2)
    return F.pad(flat.float().cpu(), pad, value=BACKGROUND)
