"""What makes an MVGamba network: sizes, scan orders and heads, with the two configurations that were published."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from mvgamba.errors import InvalidInput

ScanOrder = Literal["paper", "code"]
RotationHead = Literal["rotnet_soft", "rotnet_hard", "quat", "sixd"]
ScaleRows = Literal["first_two", "flat_alias"]


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and choices of one network. Defaults are those that both published configurations share."""

    width: int = 512
    num_layers: int = 14
    num_views: int = 4
    image_size: int = 448
    """Edge of a square input view in pixels, a multiple of `patch_size`."""
    patch_size: int = 14
    scan_order: ScanOrder = "code"
    state_size: int = 16
    conv_size: int = 4
    expand: int = 2
    mlp_width: int = 2048
    num_bins: int = 21
    """Bins along each axis, of which a position is the expectation."""
    position_range: float = 0.8
    """Outermost bins, in the frame of the first camera."""
    rotation_head: RotationHead = "rotnet_soft"
    scale_width: int = 2
    """Numbers of the scale head: 2 for discs; 3 in checkpoints whose head was sized for ellipsoids."""
    scale_rows: ScaleRows = "first_two"
    """How three numbers become two: the first two, or, `flat_alias`, as a disc rasterizer misreads an (N, 3) array: surfel i
    gets the numbers 2i and 2i + 1 of the flattened array."""
    drop_path: float = 0.1
    """Probability of leaving out the last block while training; it rises from 0 along the depth."""

    def __post_init__(self) -> None:
        for name in ("width", "num_layers", "num_views", "image_size", "patch_size"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.image_size % self.patch_size:
            raise InvalidInput(
                f"image_size is {self.image_size}; it must be a multiple of patch_size, {self.patch_size}."
            )
        if self.scale_width not in (2, 3):
            raise InvalidInput(f"scale_width is {self.scale_width}; it must be 2 or 3.")

    @property
    def grid(self) -> int:
        """Patches along an edge of a view."""
        return self.image_size // self.patch_size

    @property
    def num_scans(self) -> int:
        return 4

    @property
    def num_tokens(self) -> int:
        """Tokens, and surfels: every patch is met once by each scan of its view."""
        return self.num_views * self.num_scans * self.grid**2

    @property
    def inner_width(self) -> int:
        return self.expand * self.width

    @property
    def step_rank(self) -> int:
        """Rank of the projection that makes the step sizes of the scan."""
        return -(-self.width // 16)

    def replace(self, **changes: object) -> "NetworkConfig":
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


PRESETS: dict[str, NetworkConfig] = {
    "paper": NetworkConfig(
        width=512,
        num_layers=14,
        mlp_width=2048,
        scan_order="paper",
        position_range=1.0,
        rotation_head="rotnet_hard",
    ),
    "released": NetworkConfig(width=768, num_layers=18, mlp_width=3072, scan_order="code"),
}
"""`paper` is what the paper describes, `released` what its code defaults to. They differ in size, scans, range and rotations."""
