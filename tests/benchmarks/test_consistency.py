"""The command on a folder of photographs."""

import subprocess
import sys
from pathlib import Path

import torch

from mvgamba.types import PosedViews
from tests.benchmarks.consistency import agreement_of
from tests.mvgamba.conftest import box, photograph, write_capture
from tests.mvgamba.multiview.test_consistency import six_cameras


def box_somewhere() -> PosedViews:
    cameras = six_cameras()
    cameras.c2w[:, :3, 3] += torch.tensor([4.0, -2.0, 7.0])
    return photograph(*box(torch.tensor([4.0, -2.0, 7.0]), torch.tensor([0.7, 0.4, 0.3])), cameras)


def test_the_command_prints_a_line_a_folder(tmp_path: Path) -> None:
    write_capture(tmp_path / "box", box_somewhere())
    script = Path(__file__).parent / "consistency.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "box"], cwd=script.parents[2], capture_output=True, text=True, check=True
    )
    mean, name, *shares = done.stdout.split()
    assert name == "box:" and len(shares) == 6
    assert float(mean) > 0.97


def test_views_without_a_common_point_get_nothing() -> None:
    views = box_somewhere()
    views.cameras.c2w[0, :3, 3] += torch.tensor([50.0, 0.0, 0.0])
    assert agreement_of(views) == [0.0] * 6
