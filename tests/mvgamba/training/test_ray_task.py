"""The ray network in the training loop: bfloat16, and sheets of what it says."""

import json

import pytest
import torch

pytest.importorskip("accelerate", reason="training needs accelerate (pip install mvgamba[train])")

from accelerate.state import AcceleratorState  # noqa: E402

from mvgamba.data import GlbFolder  # noqa: E402
from mvgamba.data.samples import make_sample  # noqa: E402
from mvgamba.training.config import TrainConfig  # noqa: E402
from mvgamba.training.ray_task import RayTask  # noqa: E402
from mvgamba.training.trainer import Trainer  # noqa: E402
from tests.mvgamba.data.objects import write_corpus  # noqa: E402
from tests.mvgamba.training.shards import write_shard  # noqa: E402


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    source = GlbFolder(write_corpus(tmp_path_factory.mktemp("corpus"), 1))
    folder = write_shard(tmp_path_factory.mktemp("shards") / "rays", [make_sample(source, 0, 1, size=32)], kind="rays")
    network = {"width": 32, "num_layers": 2}
    return {"data": str(folder), "network": network, "batch_size": 1, "steps": 10, "warm_up": 3, "learning_rate": 4e-3}


def test_steps_in_bfloat16_stay_close_to_those_in_float32(values, tmp_path):
    last = {}
    try:
        for precision in ("fp32", "bf16"):
            AcceleratorState._reset_state()  # `accelerate` keeps one precision a process; a test is not a process
            run = Trainer(TrainConfig.of(values | {"precision": precision}), tmp_path / precision, cpu=True)
            run.run(pictures_every=0)
            last[precision] = json.loads((tmp_path / precision / "losses.jsonl").read_text().splitlines()[-1])
    finally:
        AcceleratorState._reset_state()
    assert last["bf16"]["total"] != last["fp32"]["total"]
    assert last["bf16"]["total"] == pytest.approx(last["fp32"]["total"], rel=0.03)


def test_a_sheet_shows_the_truth_beside_what_is_said(values):
    task = RayTask(TrainConfig.of(values | {"disturb": False}))
    batch = task.batch(0, process=0, processes=1)
    rows = task.pictures(task.make_network().eval(), batch, step=0)
    assert all(row.shape == (3, 32, 6 * 32) and row.min() >= 0 and row.max() <= 1 for row in rows.values())
    # what is black in the error is where depth is right, and outside
    solid = torch.cat(list((batch.targets[0, :, 1] > 0.5).unbind(0)), -1)
    assert rows["error"][0][solid].max() > 0.1 and float(rows["error"][0][~solid].max()) == 0.0
    assert torch.equal(rows["target"][:, solid], torch.cat(list(batch.targets[0, :, 2:].unbind(0)), -1)[:, solid])
