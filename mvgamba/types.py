"""What passes between the rooms: frozen dataclasses with the shapes in their types.

`*b` is any number of batch axes; V views, H and W pixels, N surfels, P vertices, F faces. The conventions (axes, pixels,
colours, units) are in CONVENTIONS.md.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Cameras:
    """Pinhole cameras, one size for all."""

    c2w: Float[Tensor, "*b V 4 4"]
    """Camera to world. The camera has +X right, +Y up and looks along -Z; the world is right-handed with +Y up."""
    intrinsics: Float[Tensor, "*b V 3 3"]
    """In pixels; (0.5, 0.5) is the centre of the upper left pixel."""
    height: int
    width: int

    @property
    def num_views(self) -> int:
        return self.c2w.shape[-3]

    def __getitem__(self, index: slice | list[int]) -> "Cameras":
        """Some of the views (no batch axes)."""
        return Cameras(self.c2w[index], self.intrinsics[index], self.height, self.width)

    def to(self, *args, **kwargs) -> "Cameras":
        return dataclasses.replace(
            self, c2w=self.c2w.to(*args, **kwargs), intrinsics=self.intrinsics.to(*args, **kwargs)
        )


@dataclass(frozen=True, eq=False)
class PosedViews:
    """Images of one object with the cameras that took them."""

    rgb: Float[Tensor, "*b V 3 H W"]
    """sRGB in [0, 1], straight (not multiplied by alpha)."""
    alpha: Float[Tensor, "*b V 1 H W"]
    cameras: Cameras
    depth: Float[Tensor, "*b V 1 H W"] | None = None
    """Along the view axis in scene units; 0 where nothing is."""

    @property
    def num_views(self) -> int:
        return self.rgb.shape[-4]

    def __getitem__(self, index: slice | list[int]) -> "PosedViews":
        """Some of the views (no batch axes)."""
        depth = None if self.depth is None else self.depth[index]
        return PosedViews(self.rgb[index], self.alpha[index], self.cameras[index], depth)

    def to(self, *args, **kwargs) -> "PosedViews":
        depth = None if self.depth is None else self.depth.to(*args, **kwargs)
        return PosedViews(
            self.rgb.to(*args, **kwargs), self.alpha.to(*args, **kwargs), self.cameras.to(*args, **kwargs), depth
        )


@dataclass(frozen=True, eq=False)
class Surfels:
    """2D Gaussian discs, always activated (no logits). Local +Z is the normal."""

    means: Float[Tensor, "*b N 3"]
    quats: Float[Tensor, "*b N 4"]
    """wxyz, unit length."""
    scales: Float[Tensor, "*b N 2"]
    """Standard deviations along the two tangents, in scene units."""
    opacities: Float[Tensor, "*b N"]
    colors: Float[Tensor, "*b N 3"]
    """sRGB in [0, 1]."""

    @property
    def num_surfels(self) -> int:
        return self.means.shape[-2]

    def detach(self) -> "Surfels":
        return Surfels(*(getattr(self, f.name).detach() for f in dataclasses.fields(self)))

    def to(self, *args, **kwargs) -> "Surfels":
        return Surfels(*(getattr(self, f.name).to(*args, **kwargs) for f in dataclasses.fields(self)))


@dataclass(frozen=True, eq=False)
class RenderOutput:
    """What the surfel rasterizer sees from each camera."""

    rgb: Float[Tensor, "*b V 3 H W"]
    """sRGB over the background that was asked for."""
    alpha: Float[Tensor, "*b V 1 H W"]
    depth: Float[Tensor, "*b V 1 H W"]
    """Expected depth along the view axis, 0 where alpha is 0."""
    normals: Float[Tensor, "*b V 3 H W"]
    """World axes, unit length, towards the camera; 0 where alpha is 0."""
    distortion: Float[Tensor, "*b V 1 H W"]
    median_depth: Float[Tensor, "*b V 1 H W"]
    """Depth of the surfel that brings the transmittance to one half; mask it with alpha > 0.5."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, counter-clockwise from outside."""

    vertices: Float[np.ndarray, "P 3"]
    faces: Int[np.ndarray, "F 3"]


@dataclass(frozen=True, eq=False)
class TexturedMesh:
    """A mesh with one texture. Vertices are split along the seams of the atlas."""

    vertices: Float[np.ndarray, "P 3"]
    faces: Int[np.ndarray, "F 3"]
    normals: Float[np.ndarray, "P 3"]
    uvs: Float[np.ndarray, "P 2"]
    """(0, 0) is the upper left corner of the texture, as glTF has it."""
    albedo: UInt8[np.ndarray, "Ht Wt 3"]
    """sRGB."""
    roughness: float = 0.8
    metallic: float = 0.0


@dataclass(frozen=True)
class ViewRig:
    """The cameras that a reconstructor was trained for: an orbit around the origin of the normalised frame."""

    azimuths: tuple[float, ...]
    """Radians; 0 is the front (+Z), a quarter turn is +X."""
    elevations: tuple[float, ...]
    """Radians; positive is above."""
    radius: float = 1.5
    fovy: float = 0.8569566627292158  # 49.1 degrees
    image_size: int = 448


@dataclass(frozen=True)
class TextPrompt:
    """A sentence that describes one object."""

    text: str
    negative: str = ""


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One picture of the object from an unknown camera."""

    rgb: Float[Tensor, "3 H W"]
    alpha: Float[Tensor, "1 H W"]
    prompt: str = ""
    """What it shows, in words; empty for none."""
    elevation: float | None = None
    """Radians, of the camera that took it; None to find it out."""
    others: "tuple[SidedImage, ...]" = ()
    """Pictures of other sides, at the scale of this one, which shows the front."""


@dataclass(frozen=True, eq=False)
class SidedImage:
    """A picture of one side."""

    azimuth: float
    """Radians; 0 is the front, a quarter turn the right."""
    elevation: float
    """Radians; positive is above."""
    image: SourceImage


@dataclass(frozen=True, eq=False)
class Variation:
    """An object that is there already, to be changed by words and to stay where it is."""

    views: PosedViews
    """From any cameras: renders of a result, or captures."""
    prompt: str
    negative: str = ""
    strength: float = 0.6
    """How much of it is given up: 0 keeps it, 1 forgets it."""


@dataclass(frozen=True)
class MultiviewOptions:
    """How views are made from words, from one picture or from an object."""

    generator: str = "auto"
    """auto, starter, mvdream or imagedream."""
    candidates: int = 4
    """Sets of views that are made, of which the best is taken."""
    recall: bool = True
    """For prompts: begin from an object that the generator remembers, where the prompt fits one; else from noise."""
    steps: int | None = None
    """Of the sampler; None for what the generator does best with."""
    guidance: float | None = None
    """How strictly the words or the picture are followed (classifier-free guidance); None likewise."""
    distil: int = 0
    """Steps of score distillation after the reconstruction: its surfels are pulled to what the starter generator takes them for. 150 is usual."""


Quality = Literal["draft", "standard", "high"]
WhenShort = Literal["reduce", "fail"]


@dataclass(frozen=True)
class GenerateOptions:
    """What a person can set."""

    quality: Quality = "standard"
    reconstructor: str = "auto"
    refine: bool = True
    target_faces: int = 20_000
    """Upper limit of triangles, 100 to 500,000."""
    texture_size: int = 1024
    """Edge length of the base colour texture in pixels, 128 to 8192."""
    seed: int = 0
    device: str = "auto"
    """auto, cpu or cuda; auto is the CPU until the CUDA variants have run on a GPU."""
    seconds: float | None = None
    """Budget of wall time for the whole job: refinement gets what the other stages leave. None for no limit."""
    weights: Path | None = None
    """A file of weights for the learned reconstructor instead of those that come with the package."""
    weights_folder: Path | None = None
    """The user's folder of weights, see `mvgamba.weights.user`; None for only those that come with the package."""
    when_short: WhenShort = "reduce"
    """When memory does not suffice: take cheaper settings and say which, or fail."""
    memory_mib: int | None = None
    """Budget of main memory for the process that runs the job, libraries included, and as much again on a CUDA device; None for what is free."""
    multiview: MultiviewOptions = field(default_factory=MultiviewOptions)
    """For prompts, images and variations."""


@dataclass(frozen=True, eq=False)
class GenerateRequest:
    """One job for the pipeline."""

    source: TextPrompt | SourceImage | Variation | PosedViews
    options: GenerateOptions = field(default_factory=GenerateOptions)


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation, from the normalised frame to the world of the captures."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]

    def apply(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Points of the normalised frame -> points of the world."""
        rotation, translation = self.rotation.to(points), self.translation.to(points)
        return self.scale * points @ rotation.T + translation

    def inverse_apply(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Points of the world -> points of the normalised frame."""
        rotation, translation = self.rotation.to(points), self.translation.to(points)
        return (points - translation) @ rotation / self.scale

    def inverse(self) -> "Similarity":
        """The way back."""
        turn = self.rotation.T
        return Similarity(1 / self.scale, turn, -(turn @ self.translation) / self.scale)

    @staticmethod
    def identity() -> "Similarity":
        return Similarity(1.0, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a reconstructor gives: surfels, and where it has one a mesh that they lie on."""

    surfels: Surfels
    scaffold: Mesh | None = None
    """Triangles of which face i carries surfel i. Refinement needs one; without it the surfels are meshed first."""
    guess: PosedViews | None = None
    """Views that nobody took, as the reconstructor expects them: used where the given views say nothing."""
