"""Signals moved and scaled: the object of a picture into the middle, or to where a made view has it."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mvgamba.multiview.starter_network import from_signal, to_signal
from mvgamba.types import SourceImage

FILL = 0.8
"""Of the frame, by the longer side of an object in the middle of it."""
MOST_STRETCH_OF_ROWS = 3.0
"""What is further from the height of the front was not meant to be the same thing."""


def boxes(covered: Bool[Tensor, "N H W"]) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N 2"]]:
    """Upper left and lower right corner (x, y) of what is covered, in pixels; the whole frame where nothing is."""
    corners = []
    for across in (covered.any(1), covered.any(2)):
        first = across.float().argmax(1)
        last = across.shape[1] - across.flip(1).float().argmax(1)
        some = across.any(1)
        corners.append((torch.where(some, first, 0), torch.where(some, last, across.shape[1])))
    (x0, x1), (y0, y1) = corners
    return torch.stack([x0, y0], 1).float(), torch.stack([x1, y1], 1).float()


def sampled(
    signals: Float[Tensor, "N 4 H W"], middle: Float[Tensor, "N 2"], side: Float[Tensor, "N 2"], *, size: int
) -> Float[Tensor, "N 4 s s"]:
    """What a window shows, nothing outside the frame.

    Args:
        middle, side: Of the window, x and y, in pixels.
    """
    height, width = signals.shape[-2:]
    frame = signals.new_tensor([width, height])
    theta = signals.new_zeros(len(signals), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = (side / frame).unbind(1)
    theta[:, :, 2] = 2 * middle / frame - 1
    fine = max(1, int(float((side / size).min())))
    # nothing is -1 in alpha, which sampling beyond the border would not say
    empty = signals.new_tensor([0.0, 0.0, 0.0, 1.0])[:, None, None]
    lifted = signals + empty
    if fine > 1 and min(height, width) >= fine:
        lifted = F.avg_pool2d(lifted, fine, ceil_mode=True, count_include_pad=False)
    grid = F.affine_grid(theta, [len(signals), 4, size, size], align_corners=False)
    return F.grid_sample(lifted, grid, align_corners=False) - empty


def centered(signals: Float[Tensor, "N 4 H W"], *, size: int, fill: float = FILL) -> Float[Tensor, "N 4 s s"]:
    """Each object in the middle, the longer side of its box `fill` of the frame."""
    low, high = boxes(signals[:, 3] > 0)
    side = (high - low).amax(1, keepdim=True).expand(-1, 2) / fill
    return sampled(signals, (low + high) / 2, side, size=size)


def place_picture(image: SourceImage, front: Float[Tensor, "4 h w"], *, size: int) -> Float[Tensor, "4 s s"]:
    """The picture as the front camera would have it: moved and scaled until its box is that of the view that was made."""
    low, high = boxes(front[None, 3] > 0)
    their_low, their_high = boxes(image.alpha > 0.5)
    # the longer side decides, as the other may be wrong in what was made
    scale = (their_high - their_low).amax() / (high - low).amax()
    extent = front.shape[-1]
    middle = (their_low + their_high) / 2 + scale * (extent / 2 - (low + high) / 2)
    side = (scale * extent).expand(1, 2)
    return sampled(to_signal(image.rgb.float(), image.alpha.float())[None], middle, side, size=size)[0]


def place_side(
    image: SourceImage,
    made: Float[Tensor, "4 h w"],
    front_image: SourceImage,
    front: Float[Tensor, "4 h w"],
    *,
    size: int,
) -> Float[Tensor, "4 s s"]:
    """The picture of another level side, as large and as high as `place_picture` puts that of the front.

    Args:
        image: At the scale of `front_image`.
        made: The view of that side that was made; it says how far to the left or right.
    """
    low, high = boxes(front[None, 3] > 0)
    front_low, front_high = boxes(front_image.alpha > 0.5)
    scale = (front_high - front_low).amax() / (high - low).amax()
    side_low, side_high = boxes(made[None, 3] > 0)
    mine_low, mine_high = boxes(image.alpha > 0.5)
    extent = made.shape[-1]
    wanted = torch.stack([(side_low + side_high)[:, 0], (low + high)[:, 1]], 1) / 2
    middle = (mine_low + mine_high) / 2 + scale * (extent / 2 - wanted)
    side = (scale * extent).expand(1, 2)
    return sampled(to_signal(image.rgb.float(), image.alpha.float())[None], middle, side, size=size)[0]


def with_outlines_of_front(
    rgb: Float[Tensor, "V 3 S S"], alpha: Float[Tensor, "V 1 S S"], *, sides: list[int], back: int | None
) -> tuple[Float[Tensor, "V 3 S S"], Float[Tensor, "V 1 S S"]]:
    """Views of level cameras agree with the outline of the front (view 0): sides are as high as it is, the back is its mirror image.

    Both hold from far away. Of something thin, a row of difference would leave nothing that all views allow.

    Args:
        sides: Views whose rows are moved and stretched until they begin and end where those of the front do.
        back: View that gets the front's outline turned over; colours that were made stay where they are covered.
    """
    rgb, alpha = rgb.clone(), alpha.clone()
    low, high = boxes(alpha[:, 0] > 0.5)
    size = alpha.shape[-1]
    for view in sides:
        share = float((high - low)[view, 1] / (high - low)[0, 1])
        if not 1 / MOST_STRETCH_OF_ROWS <= share <= MOST_STRETCH_OF_ROWS:
            continue
        middle = torch.tensor(
            [size / 2, float((low + high)[view, 1]) / 2 + share * (size - float((low + high)[0, 1])) / 2]
        )
        moved = sampled(
            to_signal(rgb[view], alpha[view])[None], middle[None], torch.tensor([[size, share * size]]), size=size
        )
        rgb[view], alpha[view] = (part[0] for part in from_signal(moved))
    if back is not None:
        covered = alpha[back]
        rgb[back] = covered * rgb[back] + (1 - covered) * rgb[0].flip(-1)
        alpha[back] = alpha[0].flip(-1)
    return rgb, alpha
