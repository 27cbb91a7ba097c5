"""One object learned by heart: what a network, its losses and a rasterizer can do only if they belong together."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate", reason="training needs accelerate (pip install mvgamba[train])")

from mvgamba.data import GlbFolder  # noqa: E402
from mvgamba.data.view_samples import make_view_sample  # noqa: E402
from mvgamba.training.config import TrainConfig  # noqa: E402
from mvgamba.training.surfel_loss import surfel_losses  # noqa: E402
from mvgamba.training.trainer import Trainer  # noqa: E402
from tests.mvgamba.data.objects import write_corpus  # noqa: E402
from tests.mvgamba.training.shards import write_shard  # noqa: E402

RECIPE = {
    "model": "mvgamba",
    "network": {
        "width": 96, "num_layers": 3, "mlp_width": 384, "image_size": 64, "patch_size": 8,
        "rotation_head": "sixd", "drop_path": 0.0, "position_range": 0.7, "num_bins": 31,
    },
    "losses": {"mask": 0.3, "perceptual": 0.0, "opacity": 0.0, "normal": 0.0},
    "surfels": {"num_others": 0},
    "disturb": False, "batch_size": 1, "steps": 800, "warm_up": 10, "learning_rate": 5e-3, "weight_decay": 0.0, "ema": 0.0,
}  # fmt: skip
"""The README has its figures."""


@pytest.mark.slow
def test_one_object_is_learned_by_heart_from_its_photographs(tmp_path):
    sample = make_view_sample(GlbFolder(write_corpus(tmp_path / "corpus", 1)), 0, 0, size=64)
    folder = write_shard(tmp_path / "views", [sample])
    # 31.7 here; rounding differs with the number of threads and may make a run take another turn, so a second seed is allowed
    scores = [least_psnr(folder, tmp_path / "run0", seed=0)]
    if scores[0] < 30:
        scores.append(least_psnr(folder, tmp_path / "run1", seed=1))
    assert max(scores) >= 30, scores


def least_psnr(data: Path, run: Path, *, seed: int) -> float:
    """Of the average network on the views it was taught, over black and over white."""
    trainer = Trainer(TrainConfig.of(RECIPE | {"data": str(data), "seed": seed}), run, cpu=True)
    trainer.run()
    batch = trainer.batch(0)
    with torch.no_grad():
        surfels = trainer.average(batch.images)
        return min(
            float(surfel_losses(surfels, batch.truth, background, weights=trainer.config.losses)[0]["psnr"])
            for background in (torch.zeros(3), torch.ones(3))
        )
