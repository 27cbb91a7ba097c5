"""All benchmarks of this folder as one table of ratios against named peers: what `make bench` runs.

    python tests/benchmarks/run_bench.py [--quick] [--only scan rasterizer] [--out FOLDER]

Writes `latest.json` (rows of name, size, ours_s, peer, peer_s, ratio, bar, holds), `table.md` with date and machine, and
`curves.png`, which shows how cost grows. Every `bench_*.py` beside this file gives its rows; each runs in a process of
its own, so that one leaves no memory or threads to the next. Ends with 1 when a row misses its bar.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHILD = "--rows-of"


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    import torch

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": date.today().isoformat(),
        "processor": model,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_before": load,
    }


def rows_of(path: Path, quick: bool) -> list[dict[str, Any]]:
    """The rows of one benchmark, in this process."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    rows = []
    for row in module.rows(quick):
        entry = {
            "name": row.name,
            "size": row.size,
            "ours_s": round(row.ours_s, 6),
            "peer": row.peer,
            "peer_s": None if row.peer_s is None else round(row.peer_s, 6),
            "ratio": None if row.ratio is None else round(row.ratio, 4),
            "bar": row.bar,
            "holds": row.holds,
        }
        rows.append(entry | ({"curve": list(row.curve)} if row.curve else {}))
        print(line_of(entry), file=sys.stderr, flush=True)
    return rows


def line_of(row: dict[str, Any]) -> str:
    """One row for people."""
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
    holds = {None: "", True: "yes", False: "NO"}[row["holds"]]
    return f"| {row['name']} | {row['size']} | {duration(row['ours_s'])} | {row['peer']} | {duration(row['peer_s'])} | {ratio} | {row['bar'] or ''} | {holds} |"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.2f} ms"


def table(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    head = "| what | size | ours | peer | peer's time | ours / peer | bar | holds |\n|---|---|---|---|---|---|---|---|"
    where = f"{facts['date']}, {facts['processor']}, {facts['threads']} threads, torch {facts['torch']}."
    judged = [r for r in rows if r["holds"] is not None]
    verdict = f"{sum(r['holds'] for r in judged)} of {len(judged)} bars hold."
    return "\n".join([where, verdict, "", head, *(line_of(r) for r in rows), ""])


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Time against size on logarithmic axes, one panel for each axis; a dotted line grows in proportion."""
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed, so no curves are drawn (pip install matplotlib).", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if "curve" in row:
            axis, place = row["curve"]
            panels.setdefault(axis, {}).setdefault(row["name"], []).append((place, row["ours_s"]))
    if not panels:
        return
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(5 * columns, 4 * lines), squeeze=False)
    for place in axes.flat[len(panels) :]:
        place.axis("off")
    for place, (axis, curves) in zip(axes.flat, panels.items(), strict=False):
        for name, points in curves.items():
            xs, ys = zip(*sorted(points), strict=True)
            (drawn,) = place.loglog(xs, ys, "o-", label=name)
            place.loglog(xs, [ys[-1] * x / xs[-1] for x in xs], ":", color=drawn.get_color(), linewidth=1)
        place.set_xlabel(axis)
        place.set_ylabel("seconds")
        place.grid(True, which="both", alpha=0.2)
        place.legend(fontsize=7)
    figure.suptitle("How cost grows (dotted: in proportion)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--only", nargs="+", default=[], help="benchmarks whose file name contains one of these")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder for the results")
    parser.add_argument(CHILD, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rows_of:
        (args.out).write_text(json.dumps(rows_of(args.rows_of, args.quick)))
        return 0

    args.out.mkdir(parents=True, exist_ok=True)
    facts, rows, broken = machine(), [], []
    # as the command line and the service set them
    settings = {"OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "1"}
    environment = os.environ | settings | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE)))}
    for path in sorted(HERE.glob("bench_*.py")):
        if args.only and not any(word in path.stem for word in args.only):
            continue
        print(f"{path.stem} ...", file=sys.stderr, flush=True)
        part = args.out / f".{path.stem}.json"
        command = [sys.executable, "-P", __file__, CHILD, str(path), "--out", str(part)]
        done = subprocess.run([*command, *(["--quick"] if args.quick else [])], env=environment, cwd=ROOT, check=False)
        if done.returncode != 0 or not part.exists():
            broken.append(path.stem)
            continue
        rows += json.loads(part.read_text())
        part.unlink()
    (args.out / "latest.json").write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")
    (args.out / "table.md").write_text(table(facts, rows))
    draw_curves(rows, args.out / "curves.png")
    print(table(facts, rows))
    missed = [f"{r['name']} ({r['size']})" for r in rows if r["holds"] is False]
    for name in broken:
        print(f"{name} did not finish; its rows are missing.")
    for name in missed:
        print(f"Missed its bar: {name}")
    return int(bool(broken or missed))


if __name__ == "__main__":
    sys.exit(main())
