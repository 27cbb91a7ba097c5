"""The ray network as a reconstructor: predicted depth of given and queried views, fused within the hull."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mvgamba.cameras import c2w_to_w2c_opencv
from mvgamba.errors import EmptyReconstruction, InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.kernels.fuse_tsdf import fuse_tsdf
from mvgamba.reconstructor.hull import even_out, hull_field, mesh_of_field
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS, NormalisedViews
from mvgamba.reconstructor.protocol import ReconstructorSettings
from mvgamba.reconstructor.ray_inputs import RayInputs, ray_inputs
from mvgamba.reconstructor.ray_network import RayConfig, RayNetwork, make_planes, unpack
from mvgamba.render.face_surfels import surfels_on_faces
from mvgamba.types import Mesh, PosedViews, Reconstruction
from mvgamba.weights import default, verified

SIZE = 128
"""Pixels of the pictures that the network was trained on."""


@dataclass(frozen=True, eq=False)
class RayPrediction:
    """What the network says about given and queried views, in the normalised frame."""

    views: PosedViews
    """With depth; queried views with the silhouette and the colours that are expected of them."""
    error: Float[Tensor, "V 1 S S"]
    """Expected mean absolute error of the depth, scene units."""
    num_given: int


class RayReconstructor:
    """One forward pass from views to depth and to the two views that nobody took.

    Args:
        weights: A `.safetensors` file with the network's configuration in its header, see `save_ray_network`.
    Raises:
        WeightsMissing: None is given or there is no such file.
        WeightsCorrupt: The file does not hold the weights of this network.
    """

    name = "ray"

    def __init__(
        self, weights: Path | None, *, resolution: int = 128, faces: int = 20_000, device: str = "cpu"
    ) -> None:
        self.network = load_ray_network(weights).to(device).eval()
        self.resolution, self.faces, self.device = resolution, faces, device

    def reconstruct(self, views: NormalisedViews) -> Reconstruction:
        """Raises: EmptyReconstruction."""
        prediction = self.predict(views)
        mesh = self._surface(views, prediction)
        triangles = torch.from_numpy(mesh.faces)
        count = len(triangles)
        surfels = surfels_on_faces(
            torch.from_numpy(mesh.vertices), triangles, torch.full((count,), 0.95), torch.full((count, 3), 0.5)
        )
        asked = slice(prediction.num_given, None)
        guess = dataclasses.replace(prediction.views[asked], depth=None)
        return Reconstruction(surfels, mesh, guess)

    @torch.no_grad()
    def predict(self, views: NormalisedViews) -> RayPrediction:
        """Depth of every ray through the hull."""
        given = ray_inputs(views, size=SIZE)
        planes = planes_of(given)[None].to(self.device)
        output, packed = self.network(planes)

        def maps(values: Tensor) -> Tensor:
            return unpack(values, packed, views=planes.shape[1], size=SIZE)[0].cpu()

        distance = given.cameras.c2w[:, :3, 3].norm(dim=-1).float()[:, None, None]
        hit = given.near[:, 0] > 0
        depth = torch.where(hit, NORMALISED_RADIUS * maps(output.depth) + distance, 0.0)
        solid = torch.where(hit, torch.sigmoid(maps(output.solid)), 0.0)
        rgb = torch.stack([maps(output.rgb[..., c]) for c in range(3)], 1).clamp(0, 1)
        query = given.is_query[:, None, None, None]
        alpha = torch.where(query, solid[:, None], given.alpha)
        straight = torch.where(query, rgb, (given.rgb / given.alpha.clamp_min(1e-3)).clamp(0, 1))
        error = torch.where(hit, NORMALISED_RADIUS * torch.exp(maps(output.log_error)), 1.0)
        posed = PosedViews(straight, alpha, given.cameras, depth[:, None])
        return RayPrediction(posed, error[:, None], views.views.num_views)

    def _surface(self, views: NormalisedViews, prediction: RayPrediction) -> Mesh:
        blind = dataclasses.replace(views, views=dataclasses.replace(views.views, depth=None))
        resolution = self.resolution
        for _ in range(2):
            field, origin, spacing = hull_field(blind, resolution=resolution)
            fused = fuse_prediction(prediction, field, origin, spacing)
            if not bool((fused > 0).any()):
                raise EmptyReconstruction(
                    "The network's depth leaves nothing of the visual hull; use the reconstructor 'hull'."
                )
            mesh = mesh_of_field(fused.numpy(), origin.numpy(), spacing)
            wanted = int(min(max(resolution * (self.faces / max(len(mesh.faces), 1)) ** 0.5, 24), 2 * self.resolution))
            if abs(wanted / resolution - 1) < 0.1:
                break
            resolution = wanted
        return Mesh(even_out(mesh), mesh.faces)


def fuse_prediction(
    prediction: RayPrediction, hull: Float[Tensor, "nx ny nz"], origin: Float[Tensor, "3"], spacing: float
) -> Float[Tensor, "nx ny nz"]:
    """Predicted depth as a field that is positive inside, within the hull."""
    views = prediction.views
    assert views.depth is not None
    query = torch.arange(views.num_views) >= prediction.num_given
    known = views.alpha[:, 0] > 0.5
    depth = torch.where(known, views.depth[:, 0], 0.0)
    # sure pixels count more, and a silhouette that is nearly even odds says nothing
    sure = (0.02 / prediction.error[:, 0].clamp_min(0.005)).clamp(0.05, 1.0)
    certain = (2 * (views.alpha[:, 0] - 0.5).abs()).clamp(0, 1)
    weights = torch.where(known, sure * torch.where(query[:, None, None], certain, 1.0), certain)
    w2c, intrinsics = c2w_to_w2c_opencv(views.cameras.c2w).float(), views.cameras.intrinsics.float()
    truncation = max(5 * spacing, 0.08)
    return fuse_tsdf(
        depth, weights, w2c, intrinsics, origin, spacing, tuple(hull.shape), truncation=truncation, hull=hull
    )


def planes_of(given: RayInputs) -> Float[Tensor, "V 14 S S"]:
    """As the network reads them."""
    distance = given.cameras.c2w[:, :3, 3].norm(dim=-1).float()[:, None, None]
    hit = given.near[:, 0] > 0
    return make_planes(
        given.rgb,
        given.alpha[:, 0],
        torch.where(hit, given.near[:, 0] - distance, 0.0),
        torch.where(hit, given.far[:, 0] - distance, 0.0),
        hit.float(),
        given.cameras.c2w.float(),
        given.cameras.intrinsics.float(),
        int((~given.is_query).sum()),
    )


def save_ray_network(network: RayNetwork, path: Path, *, half: bool = True) -> None:
    """Weights and configuration in one file, in half precision unless told."""
    tensors = {k: (v.half() if half else v).contiguous() for k, v in network.state_dict().items()}
    save_file(tensors, path, metadata={"kind": "ray", "config": json.dumps(network.config.as_dict())})


def load_ray_network(path: Path | None) -> RayNetwork:
    """Raises: WeightsMissing, WeightsCorrupt."""
    if path is None or not path.exists():
        raise WeightsMissing(
            f"The reconstructor 'ray' needs trained weights, and there is no file {path}. Use the reconstructor 'hull', which needs none."
        )
    try:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        network = RayNetwork(RayConfig.from_dict(json.loads(header["config"])))
        network.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    except (SafetensorError, InvalidInput, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsCorrupt(f"{path} does not hold the weights of a ray network: {error}") from error
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        raise WeightsCorrupt(f"{path} holds weights that are not finite.")
    return network


def ray_from_settings(settings: ReconstructorSettings) -> RayReconstructor:
    """For the registry: the given weights, else the default ones. Raises: WeightsMissing, WeightsCorrupt."""
    path = settings.weights
    if path is None and (found := default("reconstructor", "ray", settings.weights_folder)) is not None:
        path = verified(found)
    return RayReconstructor(path, faces=settings.faces, device=settings.device)
