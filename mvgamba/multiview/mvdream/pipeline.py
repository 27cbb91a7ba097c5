"""MVDream and ImageDream as `diffusers` pipelines: a prompt, an image and cameras to pictures from these cameras.

    pipeline = load_pipeline(folder)                                      # see `loading`
    result = pipeline("a red chair, 3d asset", c2w=cameras.c2w)
    result.images                                                         # (V, 3, 256, 256), in [0, 1]

No code is taken from a folder of weights. It needs `diffusers` and `transformers`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModel

from mvgamba.errors import InvalidInput
from mvgamba.multiview.mvdream.camera_code import c2w_to_camera_code
from mvgamba.multiview.mvdream.guidance import clean_from_noise, guide
from mvgamba.multiview.mvdream.unet import MultiViewUNet

SCHEDULERS = {"ddim": DDIMScheduler, "dpmsolver": DPMSolverMultistepScheduler}

OnStep = Callable[[float, Float[Tensor, "V 4 h w"]], None]
"""Called after each step with the fraction that is done and the clean latents as they are expected now. What it raises stops the pipeline."""


@dataclass(frozen=True, eq=False)
class PipelineImages:
    """What a pipeline gives."""

    images: Float[Tensor, "V 3 H W"]
    """sRGB in [0, 1] on the CPU, float32."""
    latents: Float[Tensor, "V 4 h w"]


@dataclass(frozen=True, eq=False)
class _Condition:
    """What the network is told beside the cameras; the first row without guidance, if there are two."""

    context: Float[Tensor, "b m d"]
    image_features: Float[Tensor, "b n f"] | None = None
    image_latents: Float[Tensor, "b c h w"] | None = None


class MVDreamPipeline(DiffusionPipeline):
    """Views of what a prompt describes."""

    model_cpu_offload_seq = "text_encoder->unet->vae"
    vae: Any
    unet: MultiViewUNet
    tokenizer: Any
    text_encoder: Any
    scheduler: Any

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: MultiViewUNet,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        scheduler: DDIMScheduler | DPMSolverMultistepScheduler,
    ) -> None:
        super().__init__()
        if scheduler.config.prediction_type != "epsilon":
            raise InvalidInput(
                f"The scheduler is for networks that predict {scheduler.config.prediction_type!r}, expected 'epsilon'."
            )
        self.register_modules(vae=vae, unet=unet, tokenizer=tokenizer, text_encoder=text_encoder, scheduler=scheduler)

    @property
    def size(self) -> int:
        """Pixels along an edge, those of the training: 256 for the published files. Others give broken pictures (MVDream, issue 27)."""
        size: int = self.vae.config.sample_size
        return size

    def use_scheduler(self, name: str) -> None:
        """`ddim`, as published, or `dpmsolver` (DPM-Solver++ of second order), with the same noise. Raises: InvalidInput."""
        if name not in SCHEDULERS:
            raise InvalidInput(f"The scheduler is {name!r}; it must be one of {', '.join(SCHEDULERS)}.")
        noise = {k: self.scheduler.config[k] for k in _NOISE}
        more = {"clip_sample": False, "set_alpha_to_one": False} if name == "ddim" else {}
        self.register_modules(scheduler=SCHEDULERS[name](**noise, **more))

    def left_out(self, prompt: str) -> str:
        """The end of a prompt that the text encoder cannot take; empty if it takes all."""
        ids = self.tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        return str(self.tokenizer.decode(ids[self._prompt_length - 2 :])).strip()

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        *,
        c2w: Float[Tensor, "V 4 4"],
        negative_prompt: str = "",
        steps: int = 50,
        guidance: float = 7.0,
        guidance_rescale: float = 0.0,
        start: Float[Tensor, "n 3 H W"] | None = None,
        strength: float = 1.0,
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
        decode: bool = True,
    ) -> PipelineImages:
        """See the module. Nothing that is given is changed, and neither is the scheduler.

        Args:
            c2w: In the house's axes; any number of views (the networks were trained with four a quarter turn apart).
            guidance: 1 or less for none: the network is then asked once a step instead of twice, and there is no negative prompt.
            start: Pictures from these cameras to begin from, as they are on the background; with `strength` below 1.
            strength: The share of the steps that are made: 0 gives `start` back through the autoencoder, 1 forgets it.
            generator: Of the CPU, so that the noise is the same on any device.
            decode: False leaves `images` empty (V, 3, 0, 0).
        Raises:
            InvalidInput, InvalidCameras.
        """
        return self._sample(
            self._condition(prompt, negative_prompt, guidance > 1),
            c2w=c2w,
            steps=steps,
            guidance=guidance,
            guidance_rescale=guidance_rescale,
            start=start,
            strength=strength,
            generator=generator,
            on_step=on_step,
            decode=decode,
        )

    def encode_images(self, rgb: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 4 h w"]:
        """Pictures in [0, 1] -> latents at the network's size, scaled, float32."""
        small = F.interpolate(rgb.float(), (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        small = (2 * small - 1).to(self._execution_device, self.vae.dtype)
        latents: Tensor = self.vae.encode(small).latent_dist.mode() * self.vae.config.scaling_factor
        return latents.float()

    def decode_latents(self, latents: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n 3 H W"]:
        """The way back, on the CPU."""
        scaled = (latents / self.vae.config.scaling_factor).to(self._execution_device, self.vae.dtype)
        images: Tensor = self.vae.decode(scaled).sample
        return (images.float() / 2 + 0.5).clamp(0, 1).cpu()

    def _condition(self, prompt: str, negative_prompt: str, guided: bool) -> _Condition:
        return _Condition(self._encode_prompts([negative_prompt, prompt] if guided else [prompt]))

    @property
    def _prompt_length(self) -> int:
        length: int = self.text_encoder.config.max_position_embeddings
        return length

    def _encode_prompts(self, prompts: list[str]) -> Float[Tensor, "b m d"]:
        words = self.tokenizer(
            prompts, padding="max_length", max_length=self._prompt_length, truncation=True, return_tensors="pt"
        )
        context: Tensor = self.text_encoder(words.input_ids.to(self._execution_device))[0]
        return context

    def _sample(
        self,
        condition: _Condition,
        *,
        c2w: Float[Tensor, "V 4 4"],
        steps: int,
        guidance: float,
        guidance_rescale: float,
        start: Float[Tensor, "n 3 H W"] | None,
        strength: float,
        generator: torch.Generator | None,
        on_step: OnStep | None,
        decode: bool,
    ) -> PipelineImages:
        _check_numbers(steps=steps, guidance=guidance, guidance_rescale=guidance_rescale, strength=strength)
        num_views = len(c2w)
        if start is not None and len(start) != num_views:
            raise InvalidInput(f"start has {len(start)} views, expected one for each of the {num_views} cameras.")
        if start is None and strength < 1:
            raise InvalidInput(f"strength is {strength:g} but there is nothing to start from; give start.")
        device, dtype = self._execution_device, self.unet.dtype
        cameras = c2w_to_camera_code(c2w).to(device)
        # a copy: solvers keep a history of what they were asked
        scheduler: Any = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(steps, device=device)
        first = 0 if start is None else steps - min(round(steps * strength), steps)
        if first:
            scheduler.set_begin_index(first) if hasattr(scheduler, "set_begin_index") else None
        timesteps = scheduler.timesteps[first:]

        side = self.size // (2 ** (len(self.vae.config.block_out_channels) - 1))
        noise = torch.randn((num_views, self.unet.config.in_channels, side, side), generator=generator).to(device)
        latents = noise
        if start is not None and strength < 1:
            latents = self.encode_images(start)
            if len(timesteps):
                latents = scheduler.add_noise(latents, noise, timesteps[:1])
        batch = len(condition.context)
        for done, timestep in enumerate(timesteps, 1):
            alpha_bar = float(scheduler.alphas_cumprod[int(timestep)])
            predicted = self.unet(
                latents.to(dtype).expand(batch, *latents.shape),
                timestep.float().expand(batch),
                condition.context.to(dtype),
                cameras=cameras.expand(batch, *cameras.shape),
                image_features=None if condition.image_features is None else condition.image_features.to(dtype),
                image_latents=None if condition.image_latents is None else condition.image_latents.to(dtype),
            ).float()
            if batch == 2:
                predicted = guide(
                    latents,
                    predicted[0],
                    predicted[1],
                    scale=guidance,
                    rescale=guidance_rescale,
                    alpha_bar=alpha_bar,
                )
            else:
                predicted = predicted[0]
            if on_step is not None:
                on_step(done / len(timesteps), clean_from_noise(latents, predicted, alpha_bar))
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        images = self.decode_latents(latents) if decode else torch.zeros(num_views, 3, 0, 0)
        self.maybe_free_model_hooks()
        return PipelineImages(images, latents)


class ImageDreamPipeline(MVDreamPipeline):
    """Views of what an image shows, with a prompt beside it or without."""

    model_cpu_offload_seq = "text_encoder->image_encoder->unet->vae"
    image_encoder: Any
    feature_extractor: Any

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: MultiViewUNet,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        scheduler: DDIMScheduler | DPMSolverMultistepScheduler,
        image_encoder: CLIPVisionModel,
        feature_extractor: CLIPImageProcessor,
    ) -> None:
        super().__init__(vae, unet, tokenizer, text_encoder, scheduler)
        self.register_modules(image_encoder=image_encoder, feature_extractor=feature_extractor)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        *,
        image: Float[Tensor, "3 S S"] | None = None,
        c2w: Float[Tensor, "V 4 4"],
        negative_prompt: str = "",
        steps: int = 50,
        guidance: float = 5.0,
        guidance_rescale: float = 0.0,
        start: Float[Tensor, "n 3 H W"] | None = None,
        strength: float = 1.0,
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
        decode: bool = True,
    ) -> PipelineImages:
        """As MVDream's.

        Args:
            image: Square, in [0, 1], the object on a plain white or grey background, taken from the elevation of the views.
        Raises:
            InvalidInput, InvalidCameras.
        """
        if image is None:
            raise InvalidInput("ImageDream makes views of what an image shows; give an image, or use MVDream.")
        guided = guidance > 1
        features, latents = self._encode_prompt_image(image)
        if guided:
            features, latents = (torch.cat([torch.zeros_like(x), x]) for x in (features, latents))
        return self._sample(
            _Condition(self._condition(prompt, negative_prompt, guided).context, features, latents),
            c2w=c2w,
            steps=steps,
            guidance=guidance,
            guidance_rescale=guidance_rescale,
            start=start,
            strength=strength,
            generator=generator,
            on_step=on_step,
            decode=decode,
        )

    def _encode_prompt_image(
        self, image: Float[Tensor, "3 S S"]
    ) -> tuple[Float[Tensor, "1 n f"], Float[Tensor, "1 4 h w"]]:
        """Features of the last layer but one, for the image tokens, and latents, for the view without noise."""
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        values = self.feature_extractor(images=pixels, return_tensors="pt", input_data_format="channels_last")
        values = values.pixel_values.to(self._execution_device, self.image_encoder.dtype)
        features: Tensor = self.image_encoder(values, output_hidden_states=True).hidden_states[-2]
        return features, self.encode_images(image[None])


_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "steps_offset")
"""What a scheduler's settings say about the network and not about the solver."""


def _check_numbers(*, steps: int, guidance: float, guidance_rescale: float, strength: float) -> None:
    if steps < 1 or steps > 1000:
        raise InvalidInput(f"steps is {steps}; it must be from 1 to 1000.")
    if not 0 <= guidance <= 100:
        raise InvalidInput(f"guidance is {guidance:g}; it must be from 0 to 100 (1 or less for none).")
    for name, value in (("guidance_rescale", guidance_rescale), ("strength", strength)):
        if not 0 <= value <= 1:
            raise InvalidInput(f"{name} is {value:g}; it must be from 0 to 1.")
