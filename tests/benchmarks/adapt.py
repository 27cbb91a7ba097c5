"""What a word for one object and score distillation are worth, on objects that the training did not contain: figures and sheets of pictures.

    python tests/benchmarks/adapt.py personalise OBJECT.glb --noun crate --weights FILE -o FOLDER
    python tests/benchmarks/adapt.py distil OBJECT.glb [...] --weights FILE -o FOLDER

Writes `NAME.json` (figures with date, device and seed) and `NAME.png` into the folder.

`personalise`: pictures of the object from five sides; sets of views of `a sks NOUN` before and after, and of `a NOUN`, which should stay. A front view is
held against the picture that is most like it, both framed alike: PSNR on grey, IoU of the silhouettes, shared part of the colour histograms (8 x 8 x 8).

`distil`: views made from the front picture, their painted visual hull, and that after score distillation; held against twelve photographs from directions
between the views. `gap`: how far the views are from what the network takes them for, at noises that the fit has not seen.
"""

import argparse
import json
import math
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from mvgamba.cameras import orbit_cameras
from mvgamba.data.prompted_samples import NUM_TURNS, CaptionedGlbs, make_prompted_sample, places
from mvgamba.distilling import DistilOptions, distil, expectation_gap, placed, views_of
from mvgamba.evaluation.rig import DISTANCE, FOVY
from mvgamba.multiview.consistency import hull_agreement
from mvgamba.multiview.distillation import GuidanceOptions, StarterPrior
from mvgamba.multiview.lora import fingerprint
from mvgamba.multiview.protocol import ViewsRequest
from mvgamba.multiview.starter_generator import StarterGenerator
from mvgamba.multiview.starter_model import StarterModel, load_starter
from mvgamba.multiview.starter_network import from_signal
from mvgamba.reconstructor.hull import HullReconstructor
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.refinement.colors import painted
from mvgamba.training.personalise import PersonaliseOptions, framed_signal, personalise
from mvgamba.types import PosedViews, SourceImage, Surfels

IDENTITY = [(0, 0), (1, 1), (11, 1), (2, 0), (10, 2)]
"""Turn (of twelve) and elevation (0, 15, 30 degrees) of the pictures that are learned: front and sides, as a person walks about a thing."""
BETWEEN = [(turn, ring) for ring in (0, 1) for turn in range(NUM_TURNS) if turn % 3 and (ring == 0 or turn % 3 == 1)]
"""Of the photographs that results of distillation are held against; the made views stand at every third turn."""
SIZE = 64


def photographs(path: Path, where: list[tuple[int, int]], *, size: int) -> PosedViews:
    """Of a GLB, from some of the places that the network was taught with."""
    source = CaptionedGlbs(path.parent)
    sample = make_prompted_sample(source, source.names.index(path.name), 0, size=size)
    index = [ring * NUM_TURNS + turn for turn, ring in where]
    rgba = torch.from_numpy(sample.rgba[index]).float().permute(0, 3, 1, 2) / 255
    angles = [places()[i] for i in index]
    cameras = orbit_cameras(
        [a for a, _ in angles], [e for _, e in angles], radius=DISTANCE, fovy=FOVY, height=size, width=size
    )
    return PosedViews(rgba[:, :3], rgba[:, 3:], cameras)


def likeness(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float, float]:
    """PSNR on grey, IoU and shared colours of two signals (4, S, S)."""
    (rgb1, alpha1), (rgb2, alpha2) = from_signal(one), from_signal(other)
    error = float((alpha1 * (rgb1 - 0.5) - alpha2 * (rgb2 - 0.5)).square().mean())
    iou = float(torch.minimum(alpha1, alpha2).sum() / torch.maximum(alpha1, alpha2).sum().clamp_min(1e-6))
    shared = float(torch.minimum(colors_of(rgb1, alpha1), colors_of(rgb2, alpha2)).sum())
    return -10 * math.log10(max(error, 1e-10)), iou, shared


def colors_of(rgb: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Shares of 512 colours, of what is covered."""
    bins = (rgb * 7.999).long()
    number = (bins[0] * 64 + bins[1] * 8 + bins[2]).flatten()
    counts = torch.zeros(512).index_add_(0, number, alpha.flatten())
    return counts / counts.sum().clamp_min(1e-6)


def made_sets(model: StarterModel, prompt: str, seeds: int, steps: int) -> list[PosedViews]:
    """Views of a prompt, one set a seed."""
    generator = StarterGenerator(model)
    return [generator.generate(ViewsRequest(prompt=prompt, steps=steps, seed=seed)).views for seed in range(seeds)]


def scores_of(sets: list[PosedViews], pictures: list[SourceImage]) -> dict[str, float]:
    """Likeness of front views to the most similar picture, and how well each set agrees; means over sets."""
    wanted = [framed_signal(picture, SIZE) for picture in pictures]
    rows = []
    for views in sets:
        if bool((views.alpha[0] > 0.5).any()):
            front = framed_signal(SourceImage(views.rgb[0], views.alpha[0]), SIZE)
            best = max((likeness(front, picture) for picture in wanted), key=lambda row: row[0])
        else:
            best = (0.0, 0.0, 0.0)
        rows.append((*best, float(hull_agreement(views).mean())))
    means = np.mean(rows, 0)
    return {name: round(float(v), 4) for name, v in zip(("psnr", "iou", "colors", "hull"), means, strict=True)}


def run_personalise(args: argparse.Namespace) -> None:
    """See the module."""
    model = load_starter(args.weights)
    seen = photographs(args.objects[0], IDENTITY, size=2 * SIZE)
    pictures = [SourceImage(seen.rgb[i], seen.alpha[i]) for i in range(seen.num_views)]
    mine, plain = f"a sks {args.noun}", f"a {args.noun}"
    before = {p: made_sets(model, p, args.seeds, args.sampling_steps) for p in (mine, plain)}
    rows: dict[str, Any] = {f"before, {p}": scores_of(sets, pictures) for p, sets in before.items()}
    sheet = [("pictures", [seen])] + [(f"before: {p}", sets) for p, sets in before.items()]
    for variant in args.variants:
        options = PersonaliseOptions(**({"steps": args.steps, "seed": args.seed, "prior_sets": 2} | VARIANTS[variant]))
        begin = time.process_time()
        learned = personalise(model, pictures, word="sks", noun=args.noun, options=options, report=tell)
        seconds = time.process_time() - begin
        after = {p: made_sets(learned.model, p, args.seeds, args.sampling_steps) for p in (mine, plain)}
        for p, sets in after.items():
            rows[f"{variant}, {p}"] = scores_of(sets, pictures)
            sheet.append((f"{variant}: {p}", sets))
        rows[f"{variant}, cpu seconds"] = round(seconds, 1)
        print(json.dumps(rows, indent=1), flush=True)
        write(args, model, f"personalise_{args.objects[0].stem}", rows, sheet)


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no prior": {"prior": 0.0},
    "neither": {"prior": 0.0, "keep": 0.0},
    "strong prior": {"prior": 4.0},
    "guessed cameras": {"cameras": "guess"},
    "full": {"full": True},
}
"""Of personalising."""


def tell(step: int, losses: dict[str, float], left: float) -> None:
    """Progress."""
    words = ", ".join(f"{name} {value:.5f}" for name, value in losses.items())
    print(f"step {step}: {words}, {left:.0f} s left", flush=True)


def run_distil(args: argparse.Namespace) -> None:
    """See the module."""
    model = load_starter(args.weights)
    rows: dict[str, Any] = {}
    sheet: list[tuple[str, list[PosedViews]]] = []
    for path in args.objects:
        front = photographs(path, [(0, 0)], size=2 * SIZE)
        truth = photographs(path, BETWEEN, size=SIZE)
        picture = SourceImage(front.rgb[0], front.alpha[0])
        # as a person's picture is framed
        rgb, alpha = from_signal(framed_signal(picture, 2 * SIZE))
        picture = SourceImage(rgb, alpha)
        request = ViewsRequest(image=picture, elevation=0.0, steps=args.sampling_steps, seed=args.seed)
        made = StarterGenerator(model).generate(request).views
        normal = normalise_views(made)
        hull = HullReconstructor(resolution=48, faces=4000).reconstruct(normal)
        start = placed(painted(hull, normal.views), normal.to_world)
        asked = StarterPrior(model, "", picture=picture)
        guidance = GuidanceOptions(args.guidance, 0.5)
        sheet += [
            (f"{path.stem}: made", [made]),
            ("truth", [truth]),
            ("hull", [views_of(start, truth.cameras, size=SIZE)]),
        ]
        rows[path.stem] = {"hull": judged(start, truth, asked, guidance) | {"made_hull": agreement(made)}}
        for name in args.variants:
            variant = DISTIL_VARIANTS[name]
            prior = StarterPrior(model, "", picture=picture, turned=variant["turned"])
            options = DistilOptions(steps=args.steps, guidance=guidance, first_noise=variant["first_noise"])
            begin = time.process_time()
            fitted = distil(start, prior, options, seed=args.seed)
            seconds = round(time.process_time() - begin, 1)
            rows[path.stem][name] = judged(fitted.surfels, truth, asked, guidance) | {"cpu_seconds": seconds}
            sheet.append((name, [views_of(fitted.surfels, truth.cameras, size=SIZE)]))
            print(json.dumps({path.stem: rows[path.stem]}, indent=1), flush=True)
            write(args, model, "distil", rows, sheet)


DISTIL_VARIANTS: dict[str, dict[str, float]] = {
    "paper's noise": {"turned": 0.0, "first_noise": 0.929},
    "less noise": {"turned": 0.0, "first_noise": 0.5},
    "less noise, half turned": {"turned": 0.5, "first_noise": 0.5},
    "half turned": {"turned": 0.5, "first_noise": 0.929},
}
"""Of score distillation."""


def agreement(views: PosedViews) -> float:
    """Mean of `hull_agreement`."""
    return round(float(hull_agreement(views).mean()), 4)


def judged(surfels: Surfels, truth: PosedViews, prior: StarterPrior, guidance: GuidanceOptions) -> dict[str, float]:
    """PSNR on white and IoU of unseen views, and `expectation_gap`."""
    drawn = views_of(surfels, truth.cameras, size=SIZE)
    white = lambda v: v.rgb * v.alpha + 1 - v.alpha  # noqa: E731
    errors = (white(drawn) - white(truth)).square().mean((1, 2, 3))
    both = torch.minimum(drawn.alpha, truth.alpha).sum((1, 2, 3))
    either = torch.maximum(drawn.alpha, truth.alpha).sum((1, 2, 3))
    return {
        "psnr": round(float((-10 * errors.log10()).mean()), 3),
        "iou": round(float((both / either).mean()), 4),
        "gap": round(expectation_gap(surfels, prior, guidance, groups=1), 5),
    }


def write(args: argparse.Namespace, model: StarterModel, name: str, rows: dict[str, Any], sheet: list[tuple[str, list[PosedViews]]]) -> None:  # fmt: skip
    """Figures and pictures."""
    args.out.mkdir(parents=True, exist_ok=True)
    facts = {
        "date": date.today().isoformat(),
        "device": f"cpu, {platform.processor() or platform.machine()}, {torch.get_num_threads()} thread",
        "weights": fingerprint(model),
        "seed": args.seed,
        "steps": args.steps,
        "sampling_steps": args.sampling_steps,
        "objects": [path.name for path in args.objects],
    }
    (args.out / f"{name}.json").write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
    draw_sheet(sheet).save(args.out / f"{name}.png")


def draw_sheet(rows: list[tuple[str, list[PosedViews]]]) -> Image.Image:
    """A row of pictures for each entry, its name above it."""
    strips = []
    for name, sets in rows:
        pictures = []
        for views in sets:
            small = torch.nn.functional.interpolate(
                torch.cat([views.rgb * views.alpha, views.alpha], 1), (SIZE, SIZE), mode="area"
            )
            pictures += [
                (255 * (p[:3] + (1 - p[3:]) * 0.85)).clamp(0, 255).byte().permute(1, 2, 0).numpy() for p in small
            ]
        strips.append((name, np.concatenate(pictures, 1)))
    width = max(strip.shape[1] for _, strip in strips)
    page = Image.new("RGB", (width, len(strips) * (SIZE + 14)), "white")
    pen = ImageDraw.Draw(page)
    for k, (name, strip) in enumerate(strips):
        pen.text((2, k * (SIZE + 14) + 1), name, fill="black")
        page.paste(Image.fromarray(strip), (0, k * (SIZE + 14) + 14))
    return page


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Personalising and score distillation, measured.")
    parser.add_argument("what", choices=("personalise", "distil"))
    parser.add_argument("objects", type=Path, nargs="+", metavar="GLB", help="personalise takes the first")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--noun", default="crate")
    parser.add_argument("--variants", nargs="+", help=f"{', '.join(VARIANTS)}; or {', '.join(DISTIL_VARIANTS)}")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--sampling-steps", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--guidance", type=float, default=3.0, help="of distillation")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.what == "personalise":
        args.variants = args.variants or ["default"]
        run_personalise(args)
    else:
        args.variants = args.variants or list(DISTIL_VARIANTS)
        run_distil(args)


if __name__ == "__main__":
    main()
