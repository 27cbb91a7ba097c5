"""What kernels that fill a grid refuse, before any variant sees it."""

import pytest
import torch

from mvgamba.errors import InvalidCameras, InvalidInput
from mvgamba.kernels.grid_inputs import check_grid_inputs


def check(**change):
    given = {
        "depth": torch.ones(2, 24, 24),
        "weights": torch.ones(2, 24, 24),
        "w2c": torch.eye(4).repeat(2, 1, 1),
        "intrinsics": torch.eye(3).repeat(2, 1, 1),
    } | change
    pictures = {name: given[name] for name in ("depth", "weights")}
    check_grid_inputs(pictures, given["w2c"], given["intrinsics"], spacing=0.1, shape=(4, 4, 4))


def test_what_fits_is_taken():
    check()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"weights": torch.ones(2, 5, 5)}, InvalidInput, r"weights must have shape .* got \(2, 5, 5\)"),
        ({"depth": torch.ones(24, 24)}, InvalidInput, "depth must have shape"),
        ({"weights": torch.ones(2, 24, 24, dtype=torch.int32)}, InvalidInput, "floating point, got torch.int32"),
        ({"depth": torch.ones(0, 24, 24), "weights": torch.ones(0, 24, 24)}, InvalidCameras, "got none"),
        ({"w2c": torch.eye(4)[None]}, InvalidCameras, "w2c must have shape"),
        ({"intrinsics": torch.eye(3)[None]}, InvalidCameras, "intrinsics must have shape"),
    ],
)
def test_shapes_and_types_that_do_not_fit_are_named(change, error, words):
    with pytest.raises(error, match=words):
        check(**change)
