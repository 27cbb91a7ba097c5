"""Times of the surfel rasterizer per view, and of the reference at a small size.

    python tests/benchmarks/bench_rasterize_surfels.py --views 4 --repeats 10

The scene is a bumpy ball of discs with standard deviations of 0.008 to 0.03, seen from 1.5 away. Least of several runs. Without
gradients (forward), with those of colour and coverage (color), and with those of all planes (all).
"""

import argparse
import math
import os
import time
from collections.abc import Callable

import torch

from mvgamba.cameras import c2w_to_w2c_opencv, orbit_cameras
from mvgamba.kernels.rasterize_surfels import rasterize_surfels


def bumpy_ball(n: int) -> list[torch.Tensor]:
    """Surfels on a ball with bumps, with some disorder in their directions."""
    g = torch.Generator().manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1)
    radius = 0.45 + 0.08 * torch.sin(5 * d[:, 0]) * torch.sin(6 * d[:, 1]) * torch.sin(4 * d[:, 2] + 1)
    quats = torch.stack([1 + d[:, 2], -d[:, 1], d[:, 0], torch.zeros(n)], 1)
    quats = torch.nn.functional.normalize(quats, dim=1) + 0.05 * torch.randn(n, 4, generator=g)
    scales = 0.008 + 0.022 * torch.rand(n, 2, generator=g)
    return [d * radius[:, None], quats, scales, 0.3 + 0.7 * torch.rand(n, generator=g), d * 0.5 + 0.5]


def measure(n: int, size: int, views: int, repeats: int) -> list[float]:
    """Milliseconds per view: forward, forward and backward of colour and coverage, of all planes."""
    surfels = [t.requires_grad_() for t in bumpy_ball(n)]
    angles = [0.3 + 2 * math.pi * i / views for i in range(views)]
    cameras = orbit_cameras(angles, [0.3] * views, radius=1.5, fovy=math.radians(49.1), height=size, width=size)
    w2c, k = c2w_to_w2c_opencv(cameras.c2w).float(), cameras.intrinsics.float()

    def forward() -> None:
        with torch.no_grad():
            rasterize_surfels(*surfels, w2c, k, height=size, width=size)

    def backward(names: list[str]) -> None:
        planes = rasterize_surfels(*surfels, w2c, k, height=size, width=size)
        outputs = [getattr(planes, name) for name in names]
        torch.autograd.backward(outputs, [torch.ones_like(o) for o in outputs])

    everything = ["rgb", "alpha", "depth", "normals", "median_depth", "distortion"]
    runs: list[Callable[[], None]] = [forward, lambda: backward(everything[:2]), lambda: backward(everything)]
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
