"""Which photographs of an object a reconstructor is given, and which it is compared with."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvgamba.cameras import turn_about_vertical
from mvgamba.errors import InvalidInput

STEEPEST = math.radians(60)
"""A camera higher or lower than this says little about where it stands around the object."""


def choose_views(
    c2w: Float[Tensor, "V 4 4"], *, seed: Sequence[int], num_inputs: int, num_others: int, name: str
) -> list[int]:
    """Numbers of the inputs, then of the others, without repetition.

    The first input is any view that is not steep. The other inputs are the views nearest to where it would stand after equal
    turns about the vertical through the object (quarter turns for four). The others are any of the rest.

    Args:
        seed: Which of the possible choices; the same one gives the same.
        name: Of the object, for messages.
    Raises:
        InvalidInput: There are fewer views than are asked for.
    """
    count = len(c2w)
    if count < num_inputs + num_others:
        raise InvalidInput(
            f"{name} has {count} views; {num_inputs} inputs and {num_others} others need {num_inputs + num_others}. "
            "Leave the object out or ask for fewer."
        )
    away = c2w[:, :3, 3] - seen_point(c2w)
    away = (away / away.norm(dim=1, keepdim=True)).double()
    generator = np.random.default_rng(list(seed))
    level = (away[:, 1].abs() < math.sin(STEEPEST)).nonzero()[:, 0].tolist() or list(range(count))
    inputs = [int(generator.choice(level))]
    left = sorted(set(range(count)) - set(inputs))
    for k in range(1, num_inputs):
        nearness = away[left] @ (turn_about_vertical(2 * math.pi * k / num_inputs) @ away[inputs[0]])
        inputs.append(left.pop(int(nearness.argmax())))
    return inputs + generator.choice(left, num_others, replace=False).tolist()


def seen_point(c2w: Float[Tensor, "V 4 4"]) -> Float[Tensor, "3"]:
    """The point nearest to all optical axes; towards the origin where they leave it open."""
    ahead = c2w[:, :3, 2]
    across = torch.eye(3, dtype=c2w.dtype) - ahead[:, :, None] * ahead[:, None, :]
    system = across.sum(0) + 1e-9 * torch.eye(3, dtype=c2w.dtype)
    return torch.linalg.solve(system, torch.einsum("vij,vj->i", across, c2w[:, :3, 3]))
