"""Everything that only a CUDA device can show, in small steps that can be taken up again: what `make gpu` runs.

Steps, in order of worth: the conformance of every kernel variant that runs on CUDA, and
timings beside the field's own packages where they are installed. Each step writes `tests/gpu/results/<step>.json`; a step
whose file is there is not run again unless `--again` is given. Needs no network.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[2]


def facts() -> dict[str, Any]:
    """Which device the figures belong to."""
    import torch

    p = torch.cuda.get_device_properties(0)
    return {"device": p.name, "sm": f"{p.major}{p.minor}", "torch": torch.__version__, "date": date.today().isoformat()}


def conformance() -> dict[str, Any]:
    """All tests that are marked cuda."""
    command = [sys.executable, "-m", "pytest", "tests/mvgamba", "-m", "cuda", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return {"passed": done.returncode == 0, "tail": done.stdout[-3000:] + done.stderr[-1000:]}


def scan() -> dict[str, Any]:
    """Forward of the selective scan in each variant that runs here, in milliseconds, and the peak in MiB."""
    import torch

    from mvgamba.kernels.selective_scan import selective_scan

    torch.manual_seed(0)
    rows = []
    for length, channels in ((1024, 256), (4096, 1024), (16384, 1024)):
        u, delta = (torch.randn(1, length, channels, device="cuda") for _ in range(2))
        a = -torch.rand(channels, 16, device="cuda") - 0.1
        b, c = (torch.randn(1, length, 16, device="cuda") for _ in range(2))
        for variant, why_not in selective_scan.explain("cuda").items():
            row: dict[str, Any] = {"length": length, "channels": channels, "variant": variant, "why_not": why_not}
            if why_not is None and not (variant == "reference" and length > 4096):
                with selective_scan.use(variant):
                    row["ms"] = milliseconds(lambda: selective_scan(u, delta, a, b, c, delta_softplus=True))  # noqa: B023
            rows.append(row)
    return {"selective_scan": rows, "peak_mib": torch.cuda.max_memory_allocated() / 2**20}


def milliseconds(call: Any, repeats: int = 10) -> float:
    """Median wall time of a call, after a warm-up."""
    import torch

    times = []
    for _ in range(repeats + 2):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - begin))
    return sorted(times[2:])[repeats // 2]


STEPS = {"conformance": conformance, "scan": scan}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="run steps whose result is there already")
    parser.add_argument("--only", choices=tuple(STEPS))
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("torch sees no CUDA device here, so there is nothing to run. No figure was made.")
        return 3
    RESULTS.mkdir(exist_ok=True)
    failed = False
    for name, step in STEPS.items():
        path = RESULTS / f"{name}.json"
        if (args.only and name != args.only) or (path.exists() and not args.again):
            continue
        print(f"{name} ...", flush=True)
        result = facts() | step()
        path.write_text(json.dumps(result, indent=1))
        failed |= result.get("passed") is False
        print(json.dumps(result, indent=1), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
