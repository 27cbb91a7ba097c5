"""The steps for a CUDA device run in small on the CPU, so that they are ready when there is a device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mvgamba.data.objects import write_corpus

RUN = Path(__file__).parent / "run.py"
STEPS = ("conformance", "numbers", "training", "starter", "generator", "scan", "rasterizer", "network", "job")


@pytest.mark.parametrize("step", STEPS)
def test_step_runs_in_small_on_the_cpu(step, tmp_path):
    command = [sys.executable, str(RUN), "--rehearse", "--only", step]
    if step in ("starter", "generator"):
        command += ["--objects", str(write_corpus(tmp_path, 2))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(done.stdout.split("...\n", 1)[1])
    assert result.get("passed", True)
    for row in result.get("rows", []):
        assert row.get("forward ms", 1) > 0
    if step == "numbers":
        assert {"selective_scan warp-cuda", "rasterize_surfels warp-cuda"} <= result["worst relative difference"].keys()


def test_without_a_device_nothing_is_claimed():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    done = subprocess.run([sys.executable, str(RUN)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3 and "No figure was made" in done.stdout
