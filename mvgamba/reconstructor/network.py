"""The MVGamba network: four posed views to surfels in one pass of a state-space model."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvgamba.errors import InvalidCameras
from mvgamba.reconstructor.blocks import MambaStack
from mvgamba.reconstructor.decoder import SurfelDecoder
from mvgamba.reconstructor.presets import NetworkConfig
from mvgamba.reconstructor.rotations import multiply_quats, quats_from_matrices
from mvgamba.reconstructor.tokens import make_patch_projection, network_input, patches_to_sequence
from mvgamba.types import Cameras, PosedViews, Surfels

RIG_RADIUS = 1.5


@dataclass(frozen=True)
class FirstCameraFrame:
    """The frame that the network works in: the first camera stands at (0, 0, 1.5) and looks along -z.

    `x = scale * rotation^T @ (x_world - position) + (0, 0, 1.5)` with the first camera's rotation and position.
    """

    rotation: Float[Tensor, "*b 3 3"]
    position: Float[Tensor, "*b 3"]
    scale: Float[Tensor, "*b"]

    @staticmethod
    def of(cameras: Cameras) -> "FirstCameraFrame":
        """Scaled so that the first camera is as far from the world's origin as it was in training.

        Raises:
            InvalidCameras: The first camera stands at the origin, where the object is.
        """
        first = cameras.c2w[..., 0, :, :].double()
        distance = first[..., :3, 3].norm(dim=-1)
        if bool((distance < 1e-6).any()):
            raise InvalidCameras("The first camera stands at the origin of the normalised frame, inside the object.")
        return FirstCameraFrame(first[..., :3, :3], first[..., :3, 3], RIG_RADIUS / distance)

    def cameras_from_world(self, cameras: Cameras) -> Cameras:
        """The same cameras, seen from the first: the first becomes the identity at (0, 0, 1.5)."""
        c2w = cameras.c2w.double().clone()
        turn = self.rotation.transpose(-1, -2)[..., None, :, :]
        offset = c2w[..., :3, 3] - self.position[..., None, :]
        c2w[..., :3, 3] = self.scale[..., None, None] * (turn @ offset[..., None])[..., 0]
        c2w[..., 2, 3] += RIG_RADIUS
        c2w[..., :3, :3] = turn @ c2w[..., :3, :3]
        return Cameras(c2w, cameras.intrinsics, cameras.height, cameras.width)

    def surfels_to_world(self, surfels: Surfels) -> Surfels:
        """Out of the tilted frame of the first camera, back to the world that the cameras were given in."""
        rotation, position = self.rotation.to(surfels.means), self.position.to(surfels.means)
        scale = self.scale.to(surfels.means)[..., None, None]
        centred = surfels.means - surfels.means.new_tensor([0.0, 0.0, RIG_RADIUS])
        means = (centred / scale) @ rotation.transpose(-1, -2) + position[..., None, :]
        turn = quats_from_matrices(self.rotation).to(surfels.quats)[..., None, :].expand_as(surfels.quats)
        quats = multiply_quats(turn, surfels.quats)
        return Surfels(means, quats, surfels.scales / scale, surfels.opacities, surfels.colors)


class MVGambaNetwork(nn.Module):
    """Patches of all views in one sequence, Mamba blocks, one surfel for each token. Starts with random weights.

    Parameters have the names of the released checkpoints.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.map_image = make_patch_projection(config)
        self.transformer = MambaStack(config)
        self.decoder = SurfelDecoder(config)

    def forward(self, images: Float[Tensor, "b V 9 S S"]) -> Surfels:
        """Surfels in the frame of the first camera, `V * 4 * (S / patch)^2` of them."""
        # Rays rounded to bfloat16 point up to two pixels off at 448, so the first layer stays in float32.
        with torch.autocast(images.device.type, enabled=False):
            patches = self.map_image(images.float().flatten(0, 1)).unflatten(0, images.shape[:2])
        return self.decoder(self.transformer(patches_to_sequence(patches, self.config.scan_order)))

    def surfels_of(self, views: PosedViews) -> Surfels:
        """Surfels in the world of the cameras. Views may have one batch axis or none; the first is the reference.

        Raises: InvalidCameras, InvalidImage.
        """
        single = views.rgb.ndim == 4
        frame = FirstCameraFrame.of(views.cameras)
        local = PosedViews(views.rgb, views.alpha, frame.cameras_from_world(views.cameras))
        images = network_input(local, self.config).to(self.map_image.weight)
        surfels = self(images[None] if single else images)
        if single:
            surfels = Surfels(
                surfels.means[0], surfels.quats[0], surfels.scales[0], surfels.opacities[0], surfels.colors[0]
            )
        return frame.surfels_to_world(surfels)


def parameter_groups(network: nn.Module, *, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for an optimiser: matrices decay; norms, biases, positions and the scan's A and D do not."""
    decay: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in network.named_parameters():
        spared = parameter.ndim < 2 or name.endswith((".A_log", ".D", "pos_embed"))
        (rest if spared else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
