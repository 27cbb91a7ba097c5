"""Training: exact after a kill, the same on two processes as on one, and able to learn."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="training needs accelerate (pip install mvgamba[train])")

from mvgamba.data import GlbFolder  # noqa: E402
from mvgamba.data.shards import write_shards  # noqa: E402
from mvgamba.errors import InvalidInput  # noqa: E402
from mvgamba.reconstructor.ray_network import RayConfig  # noqa: E402
from mvgamba.training.trainer import CHECKPOINT, TrainConfig, Trainer  # noqa: E402
from tests.mvgamba.data.objects import write_corpus  # noqa: E402

ROOT = Path(__file__).parents[3]
SMALL = {"width": 32, "num_layers": 2}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    source = GlbFolder(write_corpus(tmp_path_factory.mktemp("corpus"), 3))
    write_shards(source, folder, variants=2, size=32)
    return folder


def config(shards, **changes):
    values = {"batch_size": 2, "steps": 60, "warm_up": 5} | changes
    return TrainConfig(data=str(shards), network=RayConfig(**SMALL), **values)


def lines(folder):
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def said(folder):
    return "\n".join(path.read_text() for path in folder.glob("*.log"))


def run_in_a_process(config_path, folder, *, processes=1, until=None):
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from mvgamba.training.trainer import TrainConfig, Trainer
        trainer = Trainer(TrainConfig.read(Path({str(config_path)!r})), Path({str(folder)!r}), cpu=True)
        trainer.run(until={until}, checkpoint_seconds=0.2)
        trainer.close()
        """
    )
    script = folder.parent / f"{folder.name}.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script)]
    if processes > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", str(script),
        ]  # fmt: skip
    with folder.with_suffix(".log").open("w") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def write_config(path, shards, **changes):
    values = {"data": str(shards), "network": SMALL, "batch_size": 2, "steps": 60, "warm_up": 5} | changes
    path.write_text(json.dumps(values))
    return path


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(shards, tmp_path):
    path = write_config(tmp_path / "run.json", shards)
    whole = run_in_a_process(path, tmp_path / "whole")
    assert whole.wait(300) == 0, said(tmp_path)

    broken = run_in_a_process(path, tmp_path / "broken")
    deadline = time.monotonic() + 120
    while not (tmp_path / "broken" / CHECKPOINT).exists():
        assert time.monotonic() < deadline and broken.poll() is None, said(tmp_path)
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)
    broken.wait(30)
    again = run_in_a_process(path, tmp_path / "broken")
    assert again.wait(300) == 0, said(tmp_path)
    # a line whose ten steps were cut by the kill holds only those after it
    expected = {line["step"]: line for line in lines(tmp_path / "whole")}
    got = {line["step"]: line for line in lines(tmp_path / "broken")}
    assert set(got) == set(expected)
    assert got[60] == expected[60]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(shards, tmp_path):
    path = write_config(tmp_path / "run.json", shards, steps=20)
    one = run_in_a_process(path, tmp_path / "one")
    assert one.wait(300) == 0, said(tmp_path)
    two = run_in_a_process(path, tmp_path / "two", processes=2)
    assert two.wait(300) == 0, said(tmp_path)
    from mvgamba.training.trainer import torch

    a, b = (torch.load(tmp_path / n / CHECKPOINT, weights_only=True)["network"] for n in ("one", "two"))
    gaps = [(a[k] - b[k]).abs().max() / a[k].abs().max().clamp_min(1e-3) for k in a]
    assert max(gaps) < 0.02


def test_a_run_learns_its_objects(shards, tmp_path):
    trainer = Trainer(config(shards, learning_rate=4e-3, disturb=False, batch_size=6, steps=150), tmp_path, cpu=True)
    trainer.run()
    log = lines(tmp_path)
    assert log[-1]["depth_error"] < 0.5 * log[0]["depth_error"]
    assert log[-1]["solid"] < 0.5 * log[0]["solid"]
    assert trainer.step == 150


def test_another_configuration_is_refused_and_nothing_is_lost(shards, tmp_path):
    Trainer(config(shards), tmp_path, cpu=True).run(until=2)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(InvalidInput, match="another configuration \\(learning_rate\\)"):
        Trainer(config(shards, learning_rate=1e-4), tmp_path, cpu=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert Trainer(config(shards), tmp_path, cpu=True).step == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"batch_size": 0}, "batch_size is 0"), ({"ema": 1.0}, "ema is 1.0"), ({"sleep": 3}, "sleep")],
)
def test_bad_configurations_are_named(tmp_path, shards, changes, words):
    with pytest.raises(InvalidInput, match=words):
        TrainConfig.read(write_config(tmp_path / "run.json", shards, **changes))


def test_the_rate_rises_and_falls():
    config = TrainConfig(data="", steps=100, warm_up=10, learning_rate=1.0, least_learning_rate=0.1)
    rates = [config.learning_rate_at(i) for i in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
