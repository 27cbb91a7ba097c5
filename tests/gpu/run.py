"""Everything that only a CUDA device can show, in small steps that can be taken up again: what `make gpu` runs.

Steps, in order of worth: every CUDA variant against the reference; what training needs (a gradient through network and rasterizer,
and a loss that falls); the starter weights of the ray network and of the generator, if there are objects (`--objects FOLDER` of GLBs,
with an `index.jsonl` of captions): samples made on all cores, then the presets `starter` and `generator` for `--minutes` a run, until they are done; timings of the scan, the rasterizer and the network beside the field's own packages where they are
installed; the whole job. Each writes `tests/gpu/results/<step>.json`; a step whose file is there is not run again unless
`--again` is given. At the end `table.md` has it all. Needs no network. Samples and checkpoints lie in
`out/gpu`. `--rehearse` runs every step in small on the CPU (without
writing results), to know that it will run when there is a device.
"""

import argparse
import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[2]
PEERS = ("mamba_ssm", "diff_surfel_rasterization", "gsplat", "nvdiffrast")


@dataclass(frozen=True)
class Setting:
    """Where the steps run, and whether in small."""

    device: str
    small: bool
    objects: Path | None = None
    minutes: float = 8.0

    def pick(self, full: Any, small: Any) -> Any:
        return small if self.small else full


def facts(setting: Setting) -> dict[str, Any]:
    """Which device the figures belong to, and which peers are installed."""
    peers = {name: importlib.util.find_spec(name) is not None for name in PEERS}
    about: dict[str, Any] = {"torch": torch.__version__, "date": date.today().isoformat(), "installed": peers}
    if setting.device == "cuda":
        p = torch.cuda.get_device_properties(0)
        about |= {"device": p.name, "sm": f"{p.major}{p.minor}"}
    return about


def milliseconds(setting: Setting, call: Callable[[], object], repeats: int = 10) -> float:
    """Median wall time of a call, after two to warm up."""

    def wait() -> None:
        if setting.device == "cuda":
            torch.cuda.synchronize()

    times = []
    for _ in range(setting.pick(repeats, 1) + 2):
        wait()
        begin = time.perf_counter()
        call()
        wait()
        times.append(1000 * (time.perf_counter() - begin))
    kept = sorted(times[2:])
    return round(kept[len(kept) // 2], 3)


def conformance(setting: Setting) -> dict[str, Any]:
    """All tests that are marked cuda; on a device they are not skipped."""
    extra = ["--collect-only"] if setting.small else []
    command = [sys.executable, "-m", "pytest", "tests/mvgamba", "-m", "cuda", "-q", "-p", "no:cacheprovider", *extra]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {"passed": done.returncode == 0, "tail": done.stdout[-3000:] + done.stderr[-1000:]}


def numbers(setting: Setting) -> dict[str, Any]:
    """The largest difference of each kernel variant on the device to the float64 reference on the CPU, outputs and gradients."""
    from mvgamba.kernels.rasterize_surfels import rasterize_surfels
    from mvgamba.kernels.selective_scan import selective_scan

    worst: dict[str, Any] = {}
    scan_inputs = scan_tensors(setting.pick(2000, 70), setting.pick(256, 32), "cpu", torch.float64)
    want = with_gradients(lambda *t: selective_scan(*t, delta_softplus=True), scan_inputs, selective_scan, "reference")
    for variant in variants_on(selective_scan, setting, {"mamba-ssm", "warp-cuda", "reference"}):
        got = with_gradients(
            lambda *t: selective_scan(*t, delta_softplus=True),
            [t.float().to(setting.device) for t in scan_inputs],
            selective_scan,
            variant,
        )
        worst[f"selective_scan {variant}"] = difference(got, want)
    surfels, cameras = ball(setting.pick(2000, 60), "cpu"), ring(2, setting.pick(96, 24), "cpu")
    size = {"height": setting.pick(96, 24), "width": setting.pick(96, 24)}

    def draw(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        w2c, k = (c.to(tensors[0]) for c in cameras)
        p = rasterize_surfels(*tensors, w2c, k, **size)
        return p.rgb, p.alpha, p.depth, p.normals, p.distortion

    exact = with_gradients(draw, [t.double() for t in surfels], rasterize_surfels, "reference")
    for variant in variants_on(rasterize_surfels, setting, {"warp-cuda", "reference"}):
        got = with_gradients(draw, [t.to(setting.device) for t in surfels], rasterize_surfels, variant)
        worst[f"rasterize_surfels {variant}"] = difference(got, exact)
    return {"passed": all(v < 2e-3 for v in worst.values()), "worst relative difference": worst}


def training(setting: Setting) -> dict[str, Any]:
    """A network that fits one ball of surfels through the rasterizer: the loss before and after, and the time of a step."""
    from mvgamba.kernels.rasterize_surfels import rasterize_surfels
    from mvgamba.reconstructor.network import MVGambaNetwork
    from mvgamba.reconstructor.presets import PRESETS

    torch.manual_seed(0)
    config = PRESETS["paper"].replace(**setting.pick({"image_size": 224}, {"image_size": 28, "num_layers": 1}))
    network = MVGambaNetwork(config).to(setting.device)
    w2c, k = ring(4, 64, setting.device)
    with torch.no_grad():
        goal = rasterize_surfels(*(t.to(setting.device) for t in ball(2000, "cpu")), w2c, k, height=64, width=64).rgb
    images = torch.randn(1, config.num_views, 9, config.image_size, config.image_size, device=setting.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-4)
    losses = []

    def step() -> None:
        optimiser.zero_grad()
        made = network(images)
        tensors = [t[0].float() for t in (made.means, made.quats, made.scales, made.opacities, made.colors)]
        loss = (rasterize_surfels(*tensors, w2c, k, height=64, width=64).rgb - goal).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))

    for _ in range(setting.pick(60, 4)):
        step()
    ms = milliseconds(setting, step, 5)
    return {
        "passed": losses[-1] < losses[0],
        "loss": [losses[0], losses[-1]],
        "ms a step": ms,
        "tokens": config.num_tokens,
    }


def starter(setting: Setting) -> dict[str, Any]:
    """Weights for the ray network by the preset `starter`; taken up again until its steps are done."""
    import os

    from mvgamba.data import GlbFolder
    from mvgamba.data.shards import write_shards
    from mvgamba.data.variation import VariedGlbs
    from mvgamba.training.config import PRESETS as RUNS

    if setting.objects is None:
        return {"passed": False, "error": "No objects to learn from: give --objects FOLDER with GLB files."}
    begin = time.perf_counter()
    place = ROOT / "out" / ("gpu-rehearsal" if setting.small else "gpu")
    if setting.small:
        shutil.rmtree(place, ignore_errors=True)
    shards = (place / "turned", GlbFolder(setting.objects)), (place / "varied", VariedGlbs(GlbFolder(setting.objects)))
    size, workers = setting.pick(128, 32), setting.pick(max(1, (os.cpu_count() or 2) - 1), 1)
    for (folder, source), variants in zip(shards, setting.pick((4, 12), (2, 2)), strict=True):
        write_shards(source, folder, variants=variants, size=size, workers=workers)
    data = os.pathsep.join(str(folder) for folder, _ in shards)
    small = {
        "network": dataclasses.replace(RUNS["starter"].network, width=32, num_layers=2),
        "steps": 4,
        "batch_size": 2,
    }
    config = dataclasses.replace(RUNS["starter"], data=data, **setting.pick({"precision": "bf16"}, small))
    return trained(setting, config, place / "starter", begin, loss="depth_error")


def generator(setting: Setting) -> dict[str, Any]:
    """Weights for the starter generator by the preset `generator`; taken up again until its steps are done.

    Captions are read from `index.jsonl` in the folder of the objects or above it.
    """
    import os

    from mvgamba.data.prompted_samples import CaptionedGlbs, write_prompted_shards
    from mvgamba.training.config import PRESETS as RUNS

    if setting.objects is None:
        return {"passed": False, "error": "No objects to learn from: give --objects FOLDER with GLB files."}
    begin = time.perf_counter()
    place = ROOT / "out" / ("gpu-rehearsal" if setting.small else "gpu")
    if setting.small:
        shutil.rmtree(place, ignore_errors=True)
    size, workers = setting.pick(64, 16), setting.pick(max(1, (os.cpu_count() or 2) - 1), 1)
    shards = place / "prompted"
    write_prompted_shards(
        CaptionedGlbs(setting.objects), shards, variants=setting.pick(4, 2), size=size, workers=workers
    )
    network = dataclasses.replace(RUNS["generator"].network, image_size=16, width=32, num_layers=2, num_heads=2)
    small = {"network": network, "steps": 4, "batch_size": 2, "precision": "fp32"}
    config = dataclasses.replace(RUNS["generator"], data=str(shards), **setting.pick({}, small))
    return trained(setting, config, place / "generator", begin, loss="total")


def trained(setting: Setting, config: Any, folder: Path, begin: float, *, loss: str) -> dict[str, Any]:
    """A run as far as the minutes of this call take it, from where the last one left it."""
    from mvgamba.training.trainer import Trainer

    trainer = Trainer(config, folder, cpu=setting.device == "cpu")
    losses: list[float] = []
    while trainer.step < config.steps and time.perf_counter() - begin < 60 * setting.minutes:
        trainer.run(until=trainer.step + 100, report=lambda step, mean, left: losses.append(mean[loss]))
    facts = {"step": trainer.step, "of": config.steps, loss: losses[-1:]}
    weights = trainer.write_weights()
    trainer.close()
    # a run that is not at its end counts as failed, so that the next call goes on
    return facts | {"passed": trainer.step >= config.steps, "weights": str(weights)}


def scan(setting: Setting) -> dict[str, Any]:
    """Forward and backward of the selective scan in each variant, in milliseconds."""
    from mvgamba.kernels.selective_scan import selective_scan

    rows = []
    for length, channels in setting.pick(((1024, 256), (4096, 1024), (16384, 1024), (16384, 1536)), ((128, 32),)):
        leaves = [t.requires_grad_() for t in scan_tensors(length, channels, setting.device, torch.float32)]
        for variant in variants_on(selective_scan, setting, {"mamba-ssm", "warp-cuda", "reference"}):
            if variant == "reference" and length > 4096:
                continue
            with forced(selective_scan, variant):

                def forward() -> torch.Tensor:
                    return selective_scan(*leaves, delta_softplus=True).y  # noqa: B023

                def both() -> None:
                    y = forward()  # noqa: B023
                    y.backward(torch.ones_like(y))

                with torch.no_grad():
                    first = milliseconds(setting, forward)
                rows.append(
                    {"size": f"{length} x {channels}", "variant": variant, "forward ms": first}
                    | {"forward + backward ms": milliseconds(setting, both)}
                )
    return {"rows": rows}


def rasterizer(setting: Setting) -> dict[str, Any]:
    """Forward and backward of all planes in each variant, milliseconds a view of four."""
    from mvgamba.kernels.rasterize_surfels import rasterize_surfels

    rows = []
    sizes = setting.pick(((16_384, 256), (16_384, 512), (262_144, 512), (1_000_000, 1024)), ((200, 32),))
    for count, side in sizes:
        surfels = [t.to(setting.device).requires_grad_() for t in ball(count, "cpu")]
        w2c, k = ring(4, side, setting.device)
        for variant in variants_on(
            rasterize_surfels, setting, {"warp-cuda", "warp-cpu-copied", "diff-surfel-rasterization", "gsplat"}
        ):
            if variant == "warp-cpu-copied" and count > 20_000:
                continue
            with forced(rasterize_surfels, variant):

                def forward() -> Any:
                    return rasterize_surfels(*surfels, w2c, k, height=side, width=side)  # noqa: B023

                def both() -> None:
                    p = forward()  # noqa: B023
                    (p.rgb.sum() + p.alpha.sum() + p.depth.sum() + p.normals.sum() + p.distortion.sum()).backward()

                with torch.no_grad():
                    first = milliseconds(setting, forward) / 4
                rows.append(
                    {"size": f"{count} surfels, {side}^2", "variant": variant, "forward ms": round(first, 3)}
                    | {"forward + backward ms": round(milliseconds(setting, both) / 4, 3)}
                )
    return {"rows": rows}


def network(setting: Setting) -> dict[str, Any]:
    """Forward of the preset `paper`, random weights, in float32, tf32 and bfloat16 (bar on an H200: 25 ms)."""
    from mvgamba.reconstructor.network import MVGambaNetwork
    from mvgamba.reconstructor.presets import PRESETS

    torch.manual_seed(0)
    config = PRESETS["paper"].replace(**setting.pick({}, {"image_size": 28, "num_layers": 1}))
    model = MVGambaNetwork(config).to(setting.device).eval()
    images = torch.randn(1, config.num_views, 9, config.image_size, config.image_size, device=setting.device)
    times: dict[str, float] = {}
    kept = torch.backends.cuda.matmul.allow_tf32
    for name, tf32, half in (("float32", False, False), ("tf32", True, False), ("bfloat16", True, True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        with torch.inference_mode(), torch.autocast(setting.device, torch.bfloat16, enabled=half):
            times[name] = milliseconds(setting, lambda: model(images))
    torch.backends.cuda.matmul.allow_tf32 = kept
    return {"tokens": config.num_tokens, "ms": times}


def job(setting: Setting) -> dict[str, Any]:
    """Views to a textured mesh on the device and on the CPU: seconds by stage (bar on an H200: 3 s in all)."""
    from mvgamba.pipeline import generate
    from mvgamba.render import render_surfels
    from mvgamba.types import GenerateOptions, GenerateRequest, PosedViews, Surfels
    from tests.gpu.scene import orbit

    cameras = orbit(8, setting.pick(256, 64))
    shown = render_surfels(Surfels(*ball(20_000, "cpu")), cameras)
    rgb = (shown.rgb / shown.alpha.clamp_min(1e-4)).clamp(0, 1)
    views = PosedViews(rgb, shown.alpha.clamp(0, 1), cameras)
    rows = []
    for device in dict.fromkeys((setting.device, "cpu")):
        for turn in ("first", "second"):
            options = GenerateOptions(
                quality=setting.pick("standard", "draft"), device=device, texture_size=setting.pick(1024, 128)
            )
            begin = time.perf_counter()
            result = generate(GenerateRequest(views, options))
            rows.append(
                {"device": device, "run": turn, "seconds": round(time.perf_counter() - begin, 2)}
                | {"input PSNR": result.facts.get("input_psnr"), **{k: round(v, 2) for k, v in result.seconds.items()}}
            )
            if setting.small:
                return {"rows": rows}
    return {"rows": rows}


def variants_on(kernel: Any, setting: Setting, wanted: set[str]) -> list[str]:
    """Those that run here. In a rehearsal the CUDA body runs as fibers, and packages that are not here are left out."""
    if setting.small:
        return [v for v in kernel.variants if v in wanted and v in ("warp-cuda", "reference")]
    return [v for v, reason in kernel.explain(setting.device).items() if v in wanted and reason is None]


class forced:  # noqa: N801
    """`kernel.use(variant)`, and in a rehearsal the CUDA body in spite of the device."""

    def __init__(self, kernel: Any, variant: str) -> None:
        self.kernel, self.variant = kernel, variant

    def __enter__(self) -> None:
        kept = self.kernel.variants[self.variant]
        self.kept = kept
        self.kernel.variants[self.variant] = type(kept)(kept.name, kept.function, lambda device: None)
        self.context = self.kernel.use(self.variant)
        self.context.__enter__()

    def __exit__(self, *exc: object) -> None:
        self.context.__exit__(*exc)
        self.kernel.variants[self.variant] = self.kept


def with_gradients(
    call: Callable[..., Any], inputs: list[torch.Tensor], kernel: Any, variant: str
) -> list[torch.Tensor]:
    """Outputs and the gradients of their weighted sum, in float64 on the CPU."""
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    with forced(kernel, variant):
        outputs = [o for o in call(*leaves) if o.requires_grad]
        g = torch.Generator().manual_seed(1)
        weights = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(o) for o in outputs]
        torch.autograd.backward(outputs, weights)
    return [t.detach().double().cpu() for t in (*outputs, *(leaf.grad for leaf in leaves if leaf.grad is not None))]


def difference(got: list[torch.Tensor], want: list[torch.Tensor]) -> float:
    """Largest difference, relative to the largest value of each tensor."""
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in zip(got, want, strict=False))


def scan_tensors(length: int, channels: int, device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """u, delta, A, B, C, D."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(device, dtype)

    a = -torch.rand(channels, 16, generator=g, dtype=torch.float64).to(device, dtype) - 0.1
    return [
        normal(1, length, channels),
        normal(1, length, channels),
        a,
        normal(1, length, 16),
        normal(1, length, 16),
    ] + [normal(channels)]


def ball(count: int, device: str) -> list[torch.Tensor]:
    """A bumpy ball of surfels that cover it whatever their number."""
    from tests.gpu.scene import bumpy_ball

    return [t.to(device) for t in bumpy_ball(count)]


def ring(views: int, side: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """w2c and intrinsics of cameras around it."""
    from mvgamba.cameras import c2w_to_w2c_opencv
    from tests.gpu.scene import orbit

    cameras = orbit(views, side)
    return c2w_to_w2c_opencv(cameras.c2w).float().to(device), cameras.intrinsics.float().to(device)


STEPS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "conformance": conformance,
    "numbers": numbers,
    "training": training,
    "starter": starter,
    "generator": generator,
    "scan": scan,
    "rasterizer": rasterizer,
    "network": network,
    "job": job,
}


def table() -> str:
    """All results as Markdown."""
    lines = []
    for name in STEPS:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        lines += [f"## {name}", "", f"{result.get('device')}, torch {result['torch']}, {result['date']}", ""]
        rows = result.get("rows")
        if rows:
            heads = list(dict.fromkeys(k for row in rows for k in row))
            lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
            lines += ["| " + " | ".join(str(row.get(h, "")) for h in heads) + " |" for row in rows]
        else:
            skip = {"device", "sm", "torch", "date", "installed", "tail"}
            lines += [f"- {k}: {v}" for k, v in result.items() if k not in skip]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="run steps whose result is there already")
    parser.add_argument("--only", nargs="+", choices=tuple(STEPS), default=[])
    parser.add_argument("--rehearse", action="store_true", help="every step in small on the CPU, nothing written")
    parser.add_argument(
        "--objects", type=Path, help="GLBs to train the starter weights on; without, that step is left out"
    )
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="of each step that trains weights, a run (default 8)"
    )
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if not args.rehearse and not torch.cuda.is_available():
        print("torch sees no CUDA device here, so there is nothing to run. No figure was made.")
        return 3
    setting = Setting("cpu" if args.rehearse else "cuda", args.rehearse, args.objects, args.minutes)
    RESULTS.mkdir(exist_ok=True)
    failed = []
    for name, step in STEPS.items():
        path = RESULTS / f"{name}.json"
        if (args.only and name not in args.only) or (path.exists() and not (args.again or args.rehearse)):
            continue
        if name in ("starter", "generator") and args.objects is None:
            print(f"{name}: left out, there is no --objects FOLDER to learn from", flush=True)
            continue
        print(f"{name} ...", flush=True)
        begin = time.perf_counter()
        try:
            result = facts(setting) | step(setting) | {"took_s": round(time.perf_counter() - begin, 1)}
        except Exception as error:  # noqa: BLE001  a step that fails must not keep the others from the device
            result = facts(setting) | {"passed": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result, indent=1), flush=True)
        if result.get("passed") is False:
            failed.append(name)
        if not args.rehearse:
            # a failed step is written beside its place, so that the next run tries it again
            (path if name not in failed else path.with_suffix(".failed.json")).write_text(
                json.dumps(result, indent=1) + "\n"
            )
            (RESULTS / "table.md").write_text(table())
    for name in failed:
        print(f"Failed: {name}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
