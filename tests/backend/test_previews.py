"""Pictures of views that are being made: few enough, small enough, and the last ones always."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.progress import CancelToken
from mvgamba.types import PosedViews
from mvgamba_backend.engine.pipeline import Job, numbered
from mvgamba_backend.engine.previews import Previews, preview_png
from mvgamba_backend.engine.protocol import MAX_PREVIEW_BYTES
from mvgamba_backend.spec import JobSpec, TextSource


class Listening(Job):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__(JobSpec(TextSource("x")), {}, Path(), CancelToken())
        self.shown: list[tuple[int, int, int, int]] = []

    def report(self, stage, fraction, **more): ...

    def log(self, text): ...

    def preview(self, data, media_type, *, index, count, variant=0):
        red = int(np.asarray(Image.open(io.BytesIO(data)))[0, 0, 0])
        self.shown.append((red, index, count, variant))


def views(red: int, size: int = 8) -> PosedViews:
    rgb = torch.full((5, 3, size, size), red / 255)
    return PosedViews(rgb, torch.ones(5, 1, size, size), rig_cameras(size=size))


def test_at_most_two_sets_a_second_are_shown_and_always_the_last():
    job, now = Listening(), [100.0]
    previews = Previews(job, variant=3, clock=lambda: now[0])
    for step in range(30):
        previews.show(views(step))
        now[0] += 0.125
    previews.flush()
    previews.flush()
    shown = [red for red, index, count, variant in job.shown if (index, count, variant) == (4, 5, 3)]
    assert shown == [0, 4, 8, 12, 16, 20, 24, 28, 29]
    assert len(job.shown) == 5 * len(shown)


def test_a_picture_that_is_too_large_is_made_smaller():
    noise = torch.rand(5, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    made = PosedViews(noise, torch.ones(5, 1, 256, 256), rig_cameras())
    data = preview_png(made, 2)
    assert len(data) <= MAX_PREVIEW_BYTES
    small = np.asarray(Image.open(io.BytesIO(data)), np.float32) / 255
    assert small.shape == (128, 128, 4)
    expected = noise[2].unflatten(2, (128, 2)).unflatten(1, (128, 2)).mean((2, 4)).permute(1, 2, 0).numpy()
    # rounded to bytes before, and after rows and columns
    assert np.abs(small[..., :3] - expected).max() < 1.6 / 255
    assert Image.open(io.BytesIO(preview_png(views(9, 256), 0))).size == (256, 256)


def test_further_results_are_numbered_from_two():
    assert [numbered("mesh.glb", k) for k in range(3)] == ["mesh.glb", "mesh_2.glb", "mesh_3.glb"]
    assert numbered("front", 1) == "front_2"
