"""What refinement moves and by which loss: the surfels of a mesh, in coordinates in which they move together."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.refinement.colors import paint, spread_colors, with_guess
from mvgamba.refinement.smooth import (
    SmoothCoordinates,
    UniformAdam,
    adjacent_faces,
    edge_list,
    laplacian,
    on_device,
    quadratic,
)
from mvgamba.refinement.targets import Targets, image_loss
from mvgamba.render.face_surfels import FaceIndex, lie_on_faces
from mvgamba.types import Reconstruction, Surfels


@dataclass(frozen=True)
class LossWeights:
    """Of the terms of the loss, beside the difference in colour."""

    mask: float
    depth: float
    area: float
    bend: float
    opacity: float


class SurfelFit:
    """Vertices in smooth coordinates, colours and opacities, with their optimisers, on the device of the surfels.

    Args:
        start: Needs a scaffold.
        targets, guess: Give the first colours.
        smoothness: Of the coordinates, see `SmoothCoordinates`.
    """

    def __init__(
        self,
        start: Reconstruction,
        targets: Targets,
        *,
        smoothness: float,
        vertex_lr: float,
        color_lr: float,
        opacity_lr: float,
        guess: Targets | None = None,
    ) -> None:
        assert start.scaffold is not None, "refinement works on the triangles of a scaffold"
        device = start.surfels.means.device
        faces = start.scaffold.faces
        vertices = torch.from_numpy(np.ascontiguousarray(start.scaffold.vertices, np.float32)).to(device)
        pairs = adjacent_faces(faces)
        self.pairs = torch.from_numpy(pairs)
        self._index = FaceIndex(torch.from_numpy(faces).long().to(device), len(vertices))
        self._edges = on_device(laplacian(len(vertices), edge_list(faces)), device)
        self._bends = on_device(laplacian(len(faces), pairs), device)
        self._coordinates = SmoothCoordinates(len(vertices), faces, smoothness, device)
        self._latent = self._coordinates.to_latent(vertices).requires_grad_(True)
        seen = with_guess(start.surfels, *paint(start.surfels, targets), guess)
        self._colors = spread_colors(*seen, self.pairs).requires_grad_(True)
        self._opacity_logits = torch.logit(start.surfels.opacities.clamp(0.02, 0.98)).clone().requires_grad_(True)
        self._geometry = UniformAdam(self._latent, vertex_lr * (1 + smoothness) ** 0.5)
        looks = [{"params": [self._colors], "lr": color_lr}, {"params": [self._opacity_logits], "lr": opacity_lr}]
        self._look = torch.optim.Adam(looks, betas=(0.9, 0.99), fused=True)

    def vertices(self) -> Float[Tensor, "P 3"]:
        return self._coordinates.to_vertices(self._latent)

    def surfels(self) -> Surfels:
        means, quats, scales, _ = lie_on_faces(self.vertices(), self._index)
        return Surfels(means, quats, scales, torch.sigmoid(self._opacity_logits), self._colors.clamp(0, 1))

    def loss(
        self, targets: Targets, background: Float[Tensor, "V 3 1 1"], weights: LossWeights
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """How far the views are missed, and what keeps the rest in order."""
        vertices = self.vertices()
        means, quats, scales, normals = lie_on_faces(vertices, self._index)
        opacities = torch.sigmoid(self._opacity_logits)
        surfels = Surfels(means, quats, scales, opacities, self._colors.clamp(0, 1))
        miss = image_loss(surfels, targets, background, mask_weight=weights.mask, depth_weight=weights.depth)
        # squared lengths of all edges relative to the size of the object: its gradient is a mean curvature flow
        rest = weights.area / 0.36 * quadratic(vertices, self._edges)
        # one minus the cosine between the normals of neighbours is half the square of their difference
        rest = rest + weights.bend * 0.5 / max(len(self.pairs), 1) * quadratic(normals, self._bends)
        return miss, rest + weights.opacity * (1 - opacities).mean()

    def step(self, loss: Tensor, factor: float) -> None:
        """Move down the gradient of a loss; `factor` scales the step of the vertices."""
        loss.backward()
        self._geometry.step(factor)
        self._look.step()
        self._look.zero_grad()
