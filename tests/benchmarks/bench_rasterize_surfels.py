"""Times of the surfel rasterizer per view, of a loop over tiles in plain torch, and of the reference at a small size.

    python -m tests.benchmarks.bench_rasterize_surfels --views 4 --repeats 10

The scene is a bumpy ball of discs with standard deviations of 0.008 to 0.03, seen from 1.5 away. Least of several runs. Without
gradients (forward), with those of colour and coverage (color), and with those of all planes (all).
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from mvgamba.cameras import c2w_to_w2c_opencv, orbit_cameras
from mvgamba.kernels.rasterize_surfels import SurfelPlanes, rasterize_surfels
from mvgamba.kernels.rasterize_surfels_warp import count_entries
from tests.benchmarks.rows import Row, fastest
from tests.benchmarks.torch_tiles import rasterize_in_tiles

PLANES = ["rgb", "alpha", "depth", "normals", "median_depth", "distortion"]


def bumpy_ball(n: int, *, shrink: float = 1.0) -> list[torch.Tensor]:
    """Surfels on a ball with bumps, with some disorder in their directions. `shrink`: of their standard deviations."""
    g = torch.Generator().manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1)
    radius = 0.45 + 0.08 * torch.sin(5 * d[:, 0]) * torch.sin(6 * d[:, 1]) * torch.sin(4 * d[:, 2] + 1)
    quats = torch.stack([1 + d[:, 2], -d[:, 1], d[:, 0], torch.zeros(n)], 1)
    quats = torch.nn.functional.normalize(quats, dim=1) + 0.05 * torch.randn(n, 4, generator=g)
    scales = shrink * (0.008 + 0.022 * torch.rand(n, 2, generator=g))
    return [d * radius[:, None], quats, scales, 0.3 + 0.7 * torch.rand(n, generator=g), d * 0.5 + 0.5]


def ring(views: int, size: int) -> dict[str, Any]:
    """Cameras around the ball, as the rasterizer takes them."""
    angles = [0.3 + 2 * math.pi * i / views for i in range(views)]
    cameras = orbit_cameras(angles, [0.3] * views, radius=1.5, fovy=math.radians(49.1), height=size, width=size)
    w2c = c2w_to_w2c_opencv(cameras.c2w).float()
    return {"w2c": w2c, "intrinsics": cameras.intrinsics.float(), "height": size, "width": size}


def forward(surfels: list[torch.Tensor], cameras: dict[str, Any]) -> Callable[[], SurfelPlanes]:
    def run() -> SurfelPlanes:
        with torch.no_grad():
            return rasterize_surfels(*surfels, **cameras)

    return run


def forward_and_backward(surfels: list[torch.Tensor], cameras: dict[str, Any], names: list[str]) -> Callable[[], None]:
    leaves = [t.clone().requires_grad_() for t in surfels]

    def run() -> None:
        planes = rasterize_surfels(*leaves, **cameras)
        outputs = [getattr(planes, name) for name in names]
        torch.autograd.grad(outputs, leaves, [torch.ones_like(o) for o in outputs], allow_unused=True)

    return run


def rows(quick: bool) -> Iterator[Row]:
    """The rows of the benchmark table: against the loop over tiles, both passes, and how cost grows."""
    rounds = 2 if quick else 7
    n, views = (1024, 1) if quick else (16384, 4)
    tiles = "torch per-tile form"
    size = 64 if quick else 512
    ball, cameras = bumpy_ball(n, shrink=math.sqrt(16384 / n)), ring(views, size)
    one = ring(1, size)
    ours, peer = forward(ball, one)(), rasterize_in_tiles(*ball, **one)
    for plane in PLANES:
        off = (getattr(ours, plane) - getattr(peer, plane)).abs()
        # the peer multiplies in another order, so a pixel in a thousand may fall on the other side of a threshold
        assert (off > 1e-2).double().mean() < 1e-3, f"the two forms disagree about {plane}"
    what = f"{n} surfels, {size} x {size}, seven planes"
    best = fastest({"ours": forward(ball, cameras)}, rounds=2 * rounds)
    pair = fastest(
        {"ours": forward(ball, one), "peer": lambda: rasterize_in_tiles(*ball, **one)}, rounds=max(2, rounds // 2)
    )
    yield Row("rasterizer forward", what, pair["ours"], tiles, pair["peer"], bar="ratio <= 0.04")
    yield Row("rasterizer forward, a view of a call", what, best["ours"] / views, "none", bar="seconds <= 0.045")

    size = 64 if quick else 256
    cameras = ring(views, size)
    best = fastest({"ours": forward_and_backward(ball, cameras, PLANES)}, rounds=rounds)
    what = f"{n} surfels, {size} x {size}, all planes"
    yield Row("rasterizer forward + backward, a view", what, best["ours"] / views, "none", bar="seconds <= 0.060")

    counts = (1024, 4096) if quick else (1024, 4096, 16384, 65536, 262144, 1048576)
    for count in counts:
        ball, cameras = bumpy_ball(count, shrink=math.sqrt(16384 / count)), ring(1, size)
        seconds = fastest({"ours": forward(ball, cameras)}, rounds=2 if count > 1e5 else rounds)["ours"]
        yield Row(
            "rasterizer growth in surfels",
            f"{count} surfels, {size} x {size}",
            seconds,
            "none",
            curve=("surfels", count),
        )
    ball = bumpy_ball(n)
    for side in (64, 128) if quick else (64, 128, 256, 512, 1024):
        seconds = fastest({"ours": forward(ball, ring(1, side))}, rounds=rounds)["ours"]
        yield Row(
            "rasterizer growth in pixels", f"{n} surfels, {side} x {side}", seconds, "none", curve=("pixels", side)
        )
    ball = bumpy_ball(4096, shrink=2.0)
    for count in (1, 4) if quick else (1, 2, 4, 8, 16, 32, 64):
        seconds = fastest({"ours": forward(ball, ring(count, 128))}, rounds=rounds)["ours"]
        yield Row(
            "rasterizer growth in views",
            f"4096 surfels, 128 x 128, {count} views",
            seconds,
            "none",
            curve=("views", count),
        )
    yield _growth_in_entries(quick, rounds)
    print("gsplat, diff-surfel-rasterization: no row on a CPU, both are written for CUDA alone.")


def _growth_in_entries(quick: bool, rounds: int) -> Row:
    """The same picture of ever smaller surfels: four times as many of half the size have as many pairs with pixels each.

    Sizes are such that the discs, not the projection of surfels that no pixel shows, take the time; faint, so that none hides another.
    """
    small, large = (512, 2048) if quick else (8192, 65536)
    side = 128 if quick else 512
    cameras = ring(4, side)
    scenes = {}
    for count in (small, large):
        scene = bumpy_ball(count, shrink=1.0)
        scene[3] = torch.full_like(scene[3], 0.02)
        scenes[count] = scene
    calls = {str(count): forward(scene, cameras) for count, scene in scenes.items()}
    best = fastest(calls, rounds=rounds)
    entries = {count: count_entries(*scene, **cameras) for count, scene in scenes.items()}
    per_entry = {count: best[str(count)] / entries[count] for count in entries}
    return Row(
        "rasterizer growth in tile entries",
        f"seconds per entry, {entries[large]} entries against {entries[small]}",
        per_entry[large],
        "itself",
        per_entry[small],
        bar="ratio <= 1.1",
    )


def measure(n: int, size: int, views: int, repeats: int) -> list[float]:
    """Milliseconds per view: forward, forward and backward of colour and coverage, of all planes."""
    ball, cameras = bumpy_ball(n), ring(views, size)
    runs = [forward(ball, cameras), *(forward_and_backward(ball, cameras, names) for names in (PLANES[:2], PLANES))]
    best = []
    for run in runs:
        times = []
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
        best.append(1e3 * min(times[1:] or times) / views)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=4, help="views per call")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--surfels", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-reference", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name = rasterize_surfels.choose("cpu")
    print(f"{name}, {options.threads} threads, {options.views} views, load {os.getloadavg()[0]:.1f}; ms per view")
    print(f"{'surfels':>8} {'size':>5} {'forward':>9} {'+ color':>9} {'+ all':>9}")
    for n in options.surfels:
        for size in options.sizes:
            print(f"{n:8d} {size:5d}" + "".join(f"{t:10.2f}" for t in measure(n, size, options.views, options.repeats)))
    if not options.no_reference:
        fast = measure(1024, 64, 1, options.repeats)
        with rasterize_surfels.use("reference"):
            slow = measure(1024, 64, 1, 1)
        print(f"reference at 1024 surfels, 64 x 64: {slow[0]:.0f} / {slow[1]:.0f} / {slow[2]:.0f} ms, ", end="")
        print("times slower: " + " / ".join(f"{s / f:.0f}" for s, f in zip(slow, fast, strict=True)))


if __name__ == "__main__":
    main()
