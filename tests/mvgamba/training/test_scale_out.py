"""The plan for many GPUs: facts that must hold, and what it counts beside what a step here does."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvgamba.__main__ import main
from mvgamba.errors import InvalidInput
from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.presets import PRESETS
from mvgamba.training import step_profile
from mvgamba.training.scale_out import (
    GPUS,
    Assumed,
    fixed_bytes,
    kept_bytes,
    launch_commands,
    parameters,
    plan,
    ring_seconds,
    sample_bytes,
    step_work,
    to_markdown,
)

ROOT = Path(__file__).parents[3]
PAPER, H100 = PRESETS["paper"], GPUS["h100"]
SMALL = PAPER.replace(image_size=56, num_layers=3, width=64, mlp_width=96)


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_those_of_the_network(name):
    with torch.device("meta"):
        network = MVGambaNetwork(PRESETS[name])
    assert parameters(PRESETS[name]) == sum(p.numel() for p in network.parameters())


def test_products_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    network = MVGambaNetwork(SMALL).train()
    images = torch.randn(1, 4, 9, 56, 56)
    with FlopCounterMode(display=False) as counter:
        step_profile._loss(network(images)).backward()
    # images want no gradient, so the backward pass of the patches does half of what is counted
    patches = 2 * SMALL.num_tokens // 4 * 9 * 14**2 * SMALL.width
    expected = step_work(SMALL, recompute=False, half=False).matrix_flops - patches
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_kept_is_what_autograd_keeps(recompute, half):
    torch.manual_seed(0)
    network = MVGambaNetwork(SMALL).train()
    network.transformer.save_memory = recompute
    kept = step_profile.kept_of(network, torch.randn(1, 4, 9, 56, 56), half=half)
    # constants of a layer, such as its decays, are not counted; they matter at this size only
    assert kept == pytest.approx(kept_bytes(SMALL, recompute=recompute, half=half), rel=0.04)


def test_keeping_less_costs_work_and_saves_memory():
    assert step_work(PAPER, recompute=True, half=True).matrix_flops == pytest.approx(
        step_work(PAPER, recompute=False, half=True).matrix_flops * 4 / 3, rel=0.05
    )
    assert kept_bytes(PAPER, recompute=True, half=True) < 0.2 * kept_bytes(PAPER, recompute=False, half=True)
    a, b = (plan(PAPER, H100, recompute=r, gpu_counts=(64,))[0] for r in (True, False))
    assert a.memory < b.memory and a.compute > b.compute


def test_half_the_samples_take_half_the_time_and_the_batch_stays():
    rows = plan(PAPER, H100)
    assert [r.gpus for r in rows] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    for one, two in zip(rows, rows[1:], strict=False):
        assert two.compute == pytest.approx(one.compute / 2)
        assert two.steps == one.steps == 46_875
    for row in rows:
        assert row.gpus * row.micro_batch * row.accumulation == 512
        assert row.memory <= H100.memory and row.waiting <= row.reduction


def test_the_reduction_grows_as_a_ring_does():
    quick = Assumed(latency=0.0, links=1.0)
    for n in (2, 4, 8):
        assert ring_seconds(450e9, n, H100, quick) == pytest.approx(2 * (n - 1) / n)
    assert ring_seconds(450e9, 16, H100, quick) == pytest.approx(2 * 15 / 16 * 9)  # the link between nodes
    assert ring_seconds(450e9, 1, H100, quick) == 0.0
    assert ring_seconds(1.0, 256, H100, Assumed()) == pytest.approx(510 * 10e-6, rel=1e-3)


def test_what_limits_is_named():
    def limit(n, **changes):
        return plan(PAPER, H100, gpu_counts=(n,), assumed=Assumed(**changes))[0].limit

    assert limit(32) == "memory traffic"
    assert limit(1).endswith("memory holds only a part")
    assert limit(32, matrix=0.01) == "products"
    assert limit(256, launch=1e-3) == "too few samples"
    assert limit(256, links=1e-4) == "network"


def test_a_gpu_that_holds_no_sample_and_numbers_that_cannot_be_are_refused():
    with pytest.raises(InvalidInput, match="One sample takes .* a h100 has 4 GB"):
        plan(PAPER, replace(H100, memory=4e9))
    with pytest.raises(InvalidInput, match="multiple of 3"):
        plan(PAPER, H100, gpu_counts=(3,))
    with pytest.raises(InvalidInput, match="epochs is 0"):
        plan(PAPER, H100, epochs=0)


def test_more_samples_at_once_take_more_memory_by_their_size():
    rows = {r.gpus: r for r in plan(PAPER, H100, gpu_counts=(128, 256))}
    each = sample_bytes(PAPER, Assumed(), recompute=True)
    assert rows[128].memory - rows[256].memory == pytest.approx(2 * each)
    assert rows[256].memory == pytest.approx(fixed_bytes(PAPER, Assumed()) + 2 * each)


def test_launch_commands_name_every_node():
    assert "--num_processes 8 " in launch_commands(8)[0] and "machines" not in launch_commands(8)[0]
    assert "--num_machines 4 --machine_rank RANK" in launch_commands(32)[0] and "0 to 3" in launch_commands(32)[0]


def test_the_table_in_the_readme_is_what_the_plan_says():
    text = (ROOT / "mvgamba" / "training" / "MANY_GPUS.md").read_text(encoding="utf-8")
    for name in ("h100", "a100-80"):
        for line in to_markdown(plan(PAPER, GPUS[name])).splitlines():
            assert line in text, f"mvgamba train plan --gpu {name} says otherwise"


def test_the_command_prints_a_plan_and_names_a_wrong_gpu(capsys):
    assert main(["train", "plan", "--gpu", "a100-80", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[5]["gpus"] == 32 and rows[5]["days"] > 0.1 and "accelerate launch" in rows[5]["launch"][0]
    assert main(["train", "plan"]) == 0
    assert "no GPU has run it" in capsys.readouterr().out
    assert main(["train", "plan", "--gpu", "z80"]) == 2
    assert "h100, h200" in capsys.readouterr().err


def test_a_measured_step_is_near_what_is_counted():
    config = PAPER.replace(image_size=56, num_layers=2)
    found = step_profile.check_step(config, step_profile.measure_rates(config), recompute=False)
    # within a few per cent on an idle processor; a loaded one shares its caches
    assert 1 / 3 < found.seconds / found.expected_seconds < 3
    assert found.kept == pytest.approx(found.expected_kept, rel=0.03)


@pytest.mark.slow
def test_two_processes_have_half_the_work_each_and_reduce_every_gradient():
    pytest.importorskip("accelerate", reason="training needs accelerate (pip install mvgamba[train])")
    small = PAPER.replace(width=128, num_layers=2, image_size=112, mlp_width=256)  # as --trial
    alone = step_profile.share_step(small, batch=8)
    both = in_processes(2)
    assert len(both["cpu_seconds"]) == 2
    assert both["matrix_flops"] == alone.matrix_flops / 2
    assert alone.reduced_bytes == 0
    assert both["reduced_bytes"] == 4 * both["parameters"] == 4 * alone.parameters


def in_processes(count):
    """What the first of so many processes says, started without a launcher: one import of torch less."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mvgamba", "train", "plan", "--trial", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": str(i), "LOCAL_RANK": str(i)},
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(count)
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in started]
    assert all(process.returncode == 0 for process in started), said
    return json.loads(said[0][0].splitlines()[-1])
