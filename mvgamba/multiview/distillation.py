"""Score distillation from a multi-view model: how views of a thing would have to change to be what the model expects (DreamFusion, arXiv
2209.14988, in the form of MVDream, arXiv 2308.16512, section 3.3).

Views are drawn, noise is laid over them, the model says what it takes the clean views for, and the views are pulled there:

    loss = 0.5 |x - x0|^2 / V,   x0 = phi c g + (1 - phi) g,   g = other + guidance (wanted - other),   c = std(wanted) / std(g)

x0 takes no gradient, x does, through whatever drew the views. A model is behind `Prior`: our own works on pixels, so that nothing is decoded
or encoded; one that works on latents brings its encoder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import orbit_cameras
from mvgamba.errors import InvalidInput
from mvgamba.multiview.placing import centered
from mvgamba.multiview.starter_generator import AZIMUTHS, DISTANCE, ELEVATIONS, FOVY, KNOWN_ELEVATIONS, rig_cameras
from mvgamba.multiview.starter_model import StarterModel
from mvgamba.multiview.starter_network import camera_code, ray_code, to_signal
from mvgamba.types import Cameras, SourceImage

FIRST_NOISE = 0.929
LAST_NOISE = (0.121, 0.618)
"""Shares of noise that a fit begins with and ends between. Those of MVDream's are steps 980, and 20 to 500, of the 1000 of Stable Diffusion
(betas 0.00085 to 0.012, linear in the root); these have the same ratio of noise to picture on a straight line between both."""
ANNEALED = 0.8
"""Share of the steps in which the one becomes the other."""
BAD = (
    "ugly, bad anatomy, blurry, pixelated obscure, unnatural colors, poor lighting, dull, and unclear, cropped, lowres, low quality, "
    "artifacts, duplicate"
)
"""What models of photographs are told to avoid. The starter generator knows none of these words, so it is told nothing."""
TURNS = 12
"""Directions that the starter network has seen objects from, in training with a picture."""


@dataclass(frozen=True, eq=False)
class Group:
    """Views that a model is asked about at once."""

    cameras: Cameras
    """In the model's frame: the object in the unit ball, its front facing +Z."""
    turn: float = 0.0
    """Radians by which all stand further round than the model knows them to."""
    tilt: float = 0.0
    """Elevation of the first of them, in radians."""


@runtime_checkable
class Prior(Protocol):
    """A multi-view model with its prompt. Time is 0 for noise alone and 1 for none; each model puts noise on its own way."""

    size: int
    """Pixels along an edge of the views that it is shown."""

    def group(self, generator: torch.Generator) -> Group:
        """The cameras of the next step."""
        ...

    def encode(self, rgb: Float[Tensor, "V 3 H W"], alpha: Float[Tensor, "V 1 H W"]) -> Float[Tensor, "V c h w"]:
        """Colours times alpha, and alpha, as the model works on them. Differentiable."""
        ...

    def noised(self, latents: Float[Tensor, "V c h w"], time: float, noise: Float[Tensor, "V c h w"]) -> Float[Tensor, "V c h w"]:  # fmt: skip
        """With as much noise as belongs to a time."""
        ...

    def predict_clean(
        self, noisy: Float[Tensor, "V c h w"], time: float, group: Group, shown: Float[Tensor, "V c h w"]
    ) -> tuple[Float[Tensor, "V c h w"], Float[Tensor, "V c h w"]]:
        """What it takes the clean views for: with the prompt, and with the negative one.

        Args:
            shown: The views without noise.
        """
        ...


@dataclass(frozen=True)
class GuidanceOptions:
    """How x0 is made of what the model says with and without the prompt."""

    scale: float = 5.0
    """1 for the prompt alone. Models of photographs take 50; 5 with a picture."""
    rescale: float = 0.5
    """How much of the contrast that guidance adds is taken back; 0.2 with a picture in MVDream's and ImageDream's settings."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and 0 <= self.scale <= 200):
            raise InvalidInput(f"guidance is {self.scale}; it must lie between 0 and 200.")
        if not 0 <= self.rescale <= 1:
            raise InvalidInput(f"rescale is {self.rescale}; it must lie between 0 and 1.")


def noise_range(progress: float, *, first: float = FIRST_NOISE) -> tuple[float, float]:
    """Least and greatest share of noise at a progress from 0 to 1: one value at first, then ever wider and lower.

    Args:
        first: The share at progress 0. What stands already is kept by less than `FIRST_NOISE`.
    """
    done = min(max(progress, 0.0) / ANNEALED, 1.0)
    low, high = (first + done * (min(last, first) - first) for last in LAST_NOISE)
    return low, high


def drawn_time(progress: float, generator: torch.Generator, *, first: float = FIRST_NOISE) -> float:
    """1 minus a share of noise, drawn evenly from `noise_range`."""
    low, high = noise_range(progress, first=first)
    return 1.0 - (low + (high - low) * float(torch.rand((), generator=generator)))


def guided(
    wanted: Float[Tensor, "V c h w"], other: Float[Tensor, "V c h w"], options: GuidanceOptions
) -> Float[Tensor, "V c h w"]:
    """Away from the one, through the other, with the contrast of the other. One factor for all views, so that none changes against the rest."""
    far = other + options.scale * (wanted - other)
    factor = wanted.std() / far.std().clamp_min(1e-6)
    return options.rescale * factor * far + (1 - options.rescale) * far


@torch.no_grad()
def expected_views(
    prior: Prior,
    latents: Float[Tensor, "V c h w"],
    time: float,
    noise: Float[Tensor, "V c h w"],
    group: Group,
    options: GuidanceOptions,
) -> Float[Tensor, "V c h w"]:
    """x0: what the model takes the views for under a noise, with guidance. No gradient."""
    shown = latents.detach()
    return guided(*prior.predict_clean(prior.noised(shown, time, noise), time, group, shown), options)


def distillation_loss(
    prior: Prior,
    latents: Float[Tensor, "V c h w"],
    time: float,
    noise: Float[Tensor, "V c h w"],
    group: Group,
    options: GuidanceOptions,
) -> Float[Tensor, ""]:
    """Half the squared distance of a view to what it should be, summed over a view, the mean over views. Its gradient is x - x0, over V."""
    target = expected_views(prior, latents, time, noise, group, options)
    return 0.5 * (latents - target).square().sum() / len(latents)


class StarterPrior:
    """The starter generator, which works on pixels. See `Prior`.

    It knows objects from its own five places, their fronts to the front. Seen otherwise an object is known to it only by a picture: then the
    first view is the picture and the others stand around it. So groups may be turned, with the first of the drawn views as the picture.

    Args:
        picture: Of the object from its front; without one the prompt alone says what it is.
        elevation: Of the camera that took it, in radians.
        turned: Share of the groups that are turned; see `ADAPT.md` for what that is worth.
    """

    def __init__(
        self,
        model: StarterModel,
        prompt: str,
        *,
        negative_prompt: str = "",
        picture: SourceImage | None = None,
        elevation: float = 0.0,
        turned: float = 0.0,
    ) -> None:
        if not prompt.strip() and picture is None:
            raise InvalidInput("There is neither prompt nor picture to distil from; give at least one of them.")
        if not 0 <= turned <= 1:
            raise InvalidInput(f"turned is {turned}; it must lie between 0 and 1.")
        self.model, self.prompt, self.negative_prompt = model, prompt, negative_prompt
        self.size = model.config.network.image_size
        self.elevation, self.turned = elevation if picture is not None else 0.0, turned
        self._picture = None
        if picture is not None:
            signal = to_signal(picture.rgb.float(), picture.alpha.float())
            small = centered(signal[None], size=self.size)
            self._picture = small.to(next(model.parameters()).device)

    def group(self, generator: torch.Generator) -> Group:
        """See `Prior`."""
        turned, number, tilt = torch.rand(3, generator=generator).tolist()
        if turned >= self.turned:
            return Group(rig_cameras(self.elevation, size=self.size), 0.0, self.elevation)
        turn = 2 * math.pi * (1 + int(number * (TURNS - 1))) / TURNS
        elevation = KNOWN_ELEVATIONS[int(tilt * len(KNOWN_ELEVATIONS))]
        return Group(turned_rig(turn, elevation, size=self.size), turn, elevation)

    def encode(self, rgb: Float[Tensor, "V 3 H W"], alpha: Float[Tensor, "V 1 H W"]) -> Float[Tensor, "V 4 H W"]:
        """See `Prior`."""
        return torch.cat([2 * rgb - alpha, 2 * alpha - 1], 1)

    def noised(
        self, latents: Float[Tensor, "V 4 H W"], time: float, noise: Float[Tensor, "V 4 H W"]
    ) -> Float[Tensor, "V 4 H W"]:
        """See `Prior`."""
        return time * latents + (1 - time) * noise

    @torch.no_grad()
    def predict_clean(
        self, noisy: Float[Tensor, "V 4 H W"], time: float, group: Group, shown: Float[Tensor, "V 4 H W"]
    ) -> tuple[Float[Tensor, "V 4 H W"], Float[Tensor, "V 4 H W"]]:
        """See `Prior`."""
        told = rig_cameras(group.tilt, size=self.size)
        rows = self.size // self.model.config.network.patch_size
        codes, rays = camera_code(told)[None].to(noisy.device), ray_code(told, rows)[None].to(noisy.device)
        picture = self._picture if group.turn == 0.0 else centered(shown[:1], size=self.size)
        at = torch.full((1,), time, device=noisy.device)
        wanted = self.model(noisy[None], at, codes, rays, [self.prompt], picture)
        other = self.model(noisy[None], at, codes, rays, [self.negative_prompt], None)
        return wanted[0].clamp(-1, 1), other[0].clamp(-1, 1)


def turned_rig(turn: float, elevation: float, *, size: int) -> Cameras:
    """The starter generator's cameras, all further round by an angle (radians), the first at an elevation."""
    azimuths = [azimuth + turn for azimuth in AZIMUTHS]
    return orbit_cameras(azimuths, [elevation, *ELEVATIONS[1:]], radius=DISTANCE, fovy=FOVY, height=size, width=size)


@runtime_checkable
class LatentModel(Protocol):
    """What a latent diffusion model such as MVDream has to offer for `LatentPrior`."""

    size: int
    """Pixels along an edge of its pictures."""
    alphas: Float[Tensor, "T"]
    """Share of the picture's variance after each step of noise (alphas_cumprod), falling."""

    def encode(self, pictures: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V c h w"]:
        """Opaque pictures in [0, 1] -> latents, scaled as the network takes them. Differentiable."""
        ...

    def predict_noise(
        self, noisy: Float[Tensor, "V c h w"], step: int, cameras: Cameras, prompts: Sequence[str]
    ) -> Float[Tensor, "B V c h w"]:
        """The noise in one set of views, once for each prompt."""
        ...


class LatentPrior:
    """A latent model that takes cameras anywhere around an object: MVDream. See `Prior`.

    Groups are four views a quarter turn apart, from a random direction and 0 to 30 degrees above; views lie on a random grey.
    """

    def __init__(self, model: LatentModel, prompt: str, *, negative_prompt: str = BAD, seed: int = 0) -> None:
        if not prompt.strip():
            raise InvalidInput("There is no prompt to distil from; give one.")
        self.model, self.prompt, self.negative_prompt = model, prompt, negative_prompt
        self.size = model.size
        self._greys = torch.Generator().manual_seed(seed)

    def group(self, generator: torch.Generator) -> Group:
        """See `Prior`."""
        turn, tilt = (torch.rand(2, generator=generator) * torch.tensor([2 * math.pi, math.pi / 6])).tolist()
        azimuths = [turn + k * math.pi / 2 for k in range(4)]
        cameras = orbit_cameras(azimuths, [tilt] * 4, radius=DISTANCE, fovy=FOVY, height=self.size, width=self.size)
        return Group(cameras, turn, tilt)

    def encode(self, rgb: Float[Tensor, "V 3 H W"], alpha: Float[Tensor, "V 1 H W"]) -> Float[Tensor, "V c h w"]:
        """See `Prior`."""
        grey = float(torch.rand((), generator=self._greys))
        return self.model.encode(rgb + (1 - alpha) * grey)

    def step_at(self, time: float) -> int:
        """The model's step whose ratio of noise to picture is that of a time."""
        ratio = ((1 - self.model.alphas) / self.model.alphas).sqrt()
        return int((ratio / (1 + ratio) - (1 - time)).abs().argmin())

    def noised(
        self, latents: Float[Tensor, "V c h w"], time: float, noise: Float[Tensor, "V c h w"]
    ) -> Float[Tensor, "V c h w"]:
        """See `Prior`."""
        kept = self.model.alphas[self.step_at(time)].to(latents)
        return kept.sqrt() * latents + (1 - kept).sqrt() * noise

    @torch.no_grad()
    def predict_clean(
        self, noisy: Float[Tensor, "V c h w"], time: float, group: Group, shown: Float[Tensor, "V c h w"]
    ) -> tuple[Float[Tensor, "V c h w"], Float[Tensor, "V c h w"]]:
        """See `Prior`."""
        step = self.step_at(time)
        kept = self.model.alphas[step].to(noisy)
        noise = self.model.predict_noise(noisy, step, group.cameras, [self.prompt, self.negative_prompt])
        wanted, other = (noisy - (1 - kept).sqrt() * noise) / kept.sqrt()
        return wanted, other
