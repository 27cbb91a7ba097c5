"""What each decision of the ray network is worth: small networks that differ in one thing, taught the same, held against each other.

    python tests/benchmarks/ablate_ray.py --train SHARDS --val SHARDS --objects GLBS/ -o OUT/ [--steps 400] [--only base "no positions"]

All have the same seed, the same batches in the same order and as many steps. OUT gets `NAME.json` with the losses on validation
samples and the scores of meshes from four views without refinement, `NAME.png` with those meshes, and `ablation.md`. A variant
whose file is there is not run again.
"""

import argparse
import json
import math
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from mvgamba.data.samples import RaySample
from mvgamba.data.shards import ShardSamples, read_shards
from mvgamba.evaluation.drawable import read_drawable
from mvgamba.evaluation.report import overview_sheet
from mvgamba.evaluation.run import EvaluationSettings, glbs_of, object_seed, photograph_subject, score_result
from mvgamba.reconstructor.network import parameter_groups
from mvgamba.reconstructor.ray_network import LOCAL, Packed, RayConfig, RayNetwork, RayOutput
from mvgamba.training.ray_batches import make_batch, patches_met
from mvgamba.training.ray_loss import RayLossWeights, ray_losses
from mvgamba.training.task import SampleOrder

WIDTH, LAYERS = 96, 6
RATE, WARM_UP, BATCH = 2e-3, 60, 8
BINS = 21


class NoPlaces(RayNetwork):
    """A token knows its rays alone."""

    def places(self, index: Tensor, grid: int) -> Tensor:
        return self.place.bias.expand(*index.shape, -1)


class TableOfPlaces(RayNetwork):
    """A learned row for every patch of every view, as the published network has."""

    def __init__(self, config: RayConfig) -> None:
        super().__init__(config)
        self.table = nn.Embedding(10 * 16 * 16, config.width)
        nn.init.normal_(self.table.weight, std=config.width**-0.5)

    def places(self, index: Tensor, grid: int) -> Tensor:
        return self.table(index)


class FreePoints(RayNetwork):
    """The decoder of the published network, for every pixel: a point in a box, each coordinate the mean of 21 bins."""

    def __init__(self, config: RayConfig) -> None:
        super().__init__(config)
        self.points = nn.Sequential(nn.Linear(config.pixel_width + LOCAL, 64), nn.SiLU(), nn.Linear(64, 3 * BINS))
        self.register_buffer("bins", torch.linspace(-1.05, 1.05, BINS))
        self.frame: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))

    def forward(self, planes: Tensor) -> tuple[RayOutput, Packed]:
        direction, moment = planes[:, :, 8:11].flatten(3), planes[:, :, 11:14].flatten(3)
        axis = nn.functional.normalize(direction.mean(-1), dim=-1)
        # the camera is the point that all rays meet: (1 - d d^T) o = d x m
        eye = torch.eye(3, device=planes.device)
        left = eye * direction.shape[-1] - direction @ direction.transpose(-1, -2)
        right = torch.linalg.cross(direction, moment, dim=-2).sum(-1)
        origin = torch.linalg.solve(left, right)
        self.frame = axis, (origin * axis).sum(-1) + origin.norm(dim=-1)
        self.num_patches = (planes.shape[-1] // self.config.patch_size) ** 2
        return super().forward(planes)

    def decode(self, tokens: Tensor, packed: Packed) -> RayOutput:
        said = super().decode(tokens, packed)
        features = self.spread(tokens).unflatten(-1, (self.config.patch_size**2, self.config.pixel_width))
        logits = self.points(torch.cat([features, packed.pixels[..., :LOCAL]], -1)).float()
        point = (logits.unflatten(-1, (3, BINS)).softmax(-1) * self.bins).sum(-1)
        view = packed.index // self.num_patches
        axis = self.frame[0].gather(1, view[..., None].expand(-1, -1, 3))
        offset = self.frame[1].gather(1, view)
        return RayOutput((point * axis[:, :, None]).sum(-1) - offset[..., None], said.log_error, said.solid, said.rgb)


class ColoursAnew(RayNetwork):
    """Colours are said from nothing, not as corrections of the guess."""

    def decode(self, tokens: Tensor, packed: Packed) -> RayOutput:
        said = super().decode(tokens, packed)
        return RayOutput(said.depth, said.log_error, said.solid, 0.5 + said.rgb - packed.pixels[..., :3])


VARIANTS: dict[str, tuple[type[RayNetwork], dict[str, object], dict[str, float]]] = {
    "base": (RayNetwork, {}, {}),
    "free points (21 bins)": (FreePoints, {}, {}),
    "colours anew": (ColoursAnew, {}, {}),
    "rows, one way": (RayNetwork, {"scans": ("views",)}, {}),
    "rows, both ways": (RayNetwork, {"scans": ("views", "views back")}, {}),
    "cross-scan, no bands": (RayNetwork, {"scans": ("views", "views back", "columns", "columns back")}, {}),
    "bands, both ways": (RayNetwork, {"scans": ("bands", "bands back")}, {}),
    "no positions": (NoPlaces, {}, {}),
    "table of positions": (TableOfPlaces, {}, {}),
    "no slope loss": (RayNetwork, {}, {"slope": 0.0}),
    "no expected error": (RayNetwork, {}, {"error": 0.0}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--objects", type=Path, help="GLBs to make meshes of")
    parser.add_argument("--limit", type=int, default=4, help="of these")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("medium")
    train, val = read_shards(args.train), read_shards(args.val, most=64)
    for name in args.only:
        path = args.out / f"{slug(name)}.json"
        if path.exists():
            continue
        begin = time.perf_counter()
        network = taught(name, train, steps=args.steps, seed=args.seed)
        row = {"name": name, "steps": args.steps, "seed": args.seed} | validation(network, val)
        row["parameters"] = sum(p.numel() for p in network.parameters())
        if args.objects:
            row |= meshes(network, args.objects, args.limit, args.out / f"{slug(name)}.png")
        row["minutes"] = (time.perf_counter() - begin) / 60
        path.write_text(json.dumps(row, indent=1))
        print(row, flush=True)
        write_table(args.out)


def slug(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def taught(name: str, samples: ShardSamples[RaySample], *, steps: int, seed: int) -> RayNetwork:
    kind, changes, losses = VARIANTS[name]
    torch.manual_seed(seed)
    network = kind(RayConfig(width=WIDTH, num_layers=LAYERS, **changes))  # type: ignore[arg-type]
    average = kind(network.config)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(parameter_groups(network, weight_decay=0.05), lr=RATE, betas=(0.9, 0.95))
    every = range(len(samples))
    sizes = [patches_met(samples.field(i, "hit"), 8) for i in every]
    order = SampleOrder(sizes, [int(samples.field(i, "num_given")) for i in every], batch_size=BATCH, seed=seed)
    weights = RayLossWeights(**losses)
    for step in range(steps):
        share = min((step + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.005)
        for group in optimiser.param_groups:
            group["lr"] = RATE * share
        batch = make_batch([samples[i] for i in order.at(step)], generator=np.random.default_rng([seed, 1, step]))
        output, packed = network(batch.planes)
        total = ray_losses(output, packed, batch.targets, num_given=batch.num_given, weights=weights)["total"]
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        keep = min(0.99, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, now in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        if step % 100 == 99:
            print(f"{name}: step {step + 1}, loss {float(total.detach()):.4f}", flush=True)
    return average.eval()


@torch.no_grad()
def validation(network: RayNetwork, samples: ShardSamples) -> dict[str, float]:
    """Depth error in radii, bend between neighbours, error of the guessed silhouettes and colours: all without weights."""
    sums: dict[str, float] = {}
    plain = RayLossWeights(depth=1.0, slope=1.0, error=1.0, solid=1.0, rgb=1.0)
    batches = range(0, len(samples) - BATCH + 1, BATCH)
    for begin in batches:
        batch = make_batch([samples[i] for i in range(begin, begin + BATCH)])
        output, packed = network(batch.planes)
        losses = ray_losses(output, packed, batch.targets, num_given=batch.num_given, weights=plain)
        for name in ("depth_error", "slope", "solid", "rgb"):
            sums[name] = sums.get(name, 0.0) + float(losses[name]) / len(batches)
    return sums


def meshes(network: RayNetwork, folder: Path, limit: int, sheet: Path) -> dict[str, float]:
    """Means over objects, from four level views, draft quality, without refinement."""
    from mvgamba.evaluation.drawable import drawable_of
    from mvgamba.pipeline import generate
    from mvgamba.types import GenerateOptions, GenerateRequest

    rows, strips = [], []
    options = GenerateOptions(quality="draft", reconstructor="ray", refine=False)
    for path in glbs_of(folder)[:limit]:
        settings = EvaluationSettings(num_views=4, seed=object_seed(path.stem, 0))
        subject = photograph_subject(read_drawable(path), settings)
        with mock.patch("mvgamba.reconstructor.ray_reconstructor.load_ray_network", lambda _: network):
            mesh = generate(GenerateRequest(subject.inputs, options)).mesh
        scores, pictures = score_result(subject, drawable_of(mesh))
        rows.append((scores["psnr"], scores["iou"], scores["f_score_0.02"]))
        strips.append((path.stem, subject.truth, pictures))
    overview_sheet(strips).save(sheet)
    mean = np.mean(rows, 0)
    return {"psnr": float(mean[0]), "iou": float(mean[1]), "f_score": float(mean[2])}


def write_table(out: Path) -> None:
    """All variants that are there, in their order."""
    rows = [json.loads(p.read_text()) for n in VARIANTS if (p := out / f"{slug(n)}.json").exists()]
    lines = ["| | depth error | bend | silhouette | colour | PSNR | IoU | F@.02 |", "|---|" + "---|" * 7]
    for r in rows:
        cells = [f"{r[k]:.4f}" for k in ("depth_error", "slope", "solid", "rgb")]
        cells += [f"{r[k]:{f}}" if k in r else "" for k, f in (("psnr", ".2f"), ("iou", ".3f"), ("f_score", ".3f"))]
        lines.append(f"| {r['name']} | " + " | ".join(cells) + " |")
    (out / "ablation.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
