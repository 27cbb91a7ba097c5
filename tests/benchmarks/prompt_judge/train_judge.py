"""Trains the judge and says how far it can be trusted.

    python tests/benchmarks/prompt_judge/train_judge.py --objects PROPS [-o FOLDER] [--steps 3200] [--reconstructed 12]

First without a tenth of the families and without one object of each family of six or more, to measure on these; then a quarter as long again
with all of the training split, which gives the judge. That one is measured on the validation split, whose families it has never seen, on
the objects themselves, and, for what it can say of things it knows, on training objects in other colours; and on meshes that some of both
became when they were reconstructed from six small views.

FOLDER gets `judge.safetensors`, `colour_samples.json` and `judge.json` with the figures. One thread, about five minutes.
"""

import argparse
import dataclasses
import datetime
import json
import math
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mvgamba.evaluation.drawable import Drawable, Material, read_drawable
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import cameras_around
from mvgamba.pipeline import generate
from mvgamba.types import GenerateOptions, GenerateRequest, Similarity
from tests.benchmarks.prompt_judge.colours import ColourNames, fit_colour_samples, naming_agreement
from tests.benchmarks.prompt_judge.corpus import Item, judged_categories, read_items
from tests.benchmarks.prompt_judge.judge import Judge, Verdict, write_judge
from tests.benchmarks.prompt_judge.network import JudgeNetwork, shapes_of, varied
from tests.benchmarks.prompt_judge.pictures import planes_of, stretched, take_views

SHAPES, PICTURES = 4, 4
"""Of each training object so many differently stretched shapes, and so many pictures of each."""
STRETCH = 0.25
"""The most, as a logarithm, along each axis."""
BATCH, RATE, DECAY, SMOOTHING = 64, 4e-3, 0.05, 0.05
FAMILY_WEIGHT = 0.5
FINISH, FINISH_RATE = 0.25, 0.25
"""Steps and rate of the last part, on everything, relative to the first."""
HELD_FAMILIES = 0.1
SEED = 0
SIX_VIEWS = [(0, 15), (90, 15), (180, 15), (270, 15), (45, 65), (225, -35)]
"""Azimuth and elevation in degrees, for the reconstructions."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Of the training split, in bytes, with what they show."""

    shapes: Tensor
    """(objects, pictures, 3, s, s), as `shapes_of` has them."""
    items: list[Item]


@dataclass(frozen=True)
class Classes:
    """What the network tells apart."""

    categories: list[str]
    families: list[str]


def draw_pictures(items: list[Item]) -> Pictures:
    """From anywhere around, between 5 degrees below the horizon and 55 above."""
    chance = np.random.default_rng(SEED)
    drawn = []
    for item in items:
        thing = read_drawable(item.file)
        mine = []
        for shape in range(SHAPES):
            factors = np.exp(chance.uniform(-STRETCH, STRETCH, 3)) if shape else np.ones(3)
            turns, heights = chance.uniform(0, 2 * math.pi, PICTURES), chance.uniform(-5, 55, PICTURES)
            angles = list(zip(turns.tolist(), np.radians(heights).tolist(), strict=True))
            mine.append(shapes_of(planes_of(take_views(stretched(thing, factors), angles))))
        drawn.append(torch.cat(mine))
    return Pictures(torch.stack(drawn), items)


def train(
    network: JudgeNetwork, pictures: Pictures, chosen: list[int], classes: Classes, *, steps: int, rate: float
) -> None:
    """On the pictures of the chosen objects; the same on every run of one machine."""
    chance = torch.Generator().manual_seed(SEED)
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    of_category = torch.tensor([classes.categories.index(pictures.items[i].category) for i in chosen])
    of_family = torch.tensor([classes.families.index(pictures.items[i].family) for i in chosen])
    # between each object once and each category once
    often = (1 / torch.bincount(of_category, minlength=len(classes.categories)).clamp_min(1).float().sqrt())[
        of_category
    ]
    index = torch.tensor(chosen)
    begin = time.perf_counter()
    for step in range(steps):
        rows = torch.multinomial(often, BATCH, replacement=True, generator=chance)
        which = torch.randint(pictures.shapes.shape[1], (BATCH,), generator=chance)
        shapes = varied(pictures.shapes[index[rows], which], chance)
        category, family = network(shapes.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(category, of_category[rows], label_smoothing=SMOOTHING)
        loss = loss + FAMILY_WEIGHT * F.cross_entropy(family, of_family[rows], label_smoothing=SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 250 == 249:
            print(f"step {step + 1}: loss {float(loss.detach()):.3f}, {time.perf_counter() - begin:.0f} s", flush=True)
    network.eval()


def split_for_measuring(items: list[Item]) -> tuple[list[int], list[int], list[int]]:
    """Numbers of training objects: to learn from, of families held out, and single ones held out of families that stay."""
    chance = random.Random(SEED)
    families = sorted({item.family for item in items})
    away = set(chance.sample(families, round(HELD_FAMILIES * len(families))))
    whole = [i for i, item in enumerate(items) if item.family in away]
    single: list[int] = []
    for family in families:
        members = [i for i, item in enumerate(items) if item.family == family]
        if family not in away and len(members) >= 6:
            single.append(chance.choice(members))
    learn = [i for i in range(len(items)) if i not in {*whole, *single}]
    return learn, whole, single


def negative(drawable: Drawable) -> Drawable:
    """The same thing in other colours: textures as a negative, red for green for blue in the rest."""
    materials = [
        Material(np.roll(m.factor, 1), None if m.texture is None else 255 - m.texture) for m in drawable.materials
    ]
    colors = np.roll(drawable.colors, 1, axis=1)
    return dataclasses.replace(drawable, colors=colors, materials=materials)


def write_report(report: dict[str, Any], out: Path) -> None:
    """What is known so far."""
    (out / "judge.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def accuracy(verdicts: list[tuple[Item, Verdict]], *, with_colour: bool = True) -> dict[str, Any]:
    """Shares of objects that are right, of those whose category is judged."""
    rows = [(item, verdict) for item, verdict in verdicts if item.category in verdict.categories]
    if not rows:
        return {"objects": 0}
    found: dict[str, Any] = {
        "objects": len(rows),
        "top1": float(np.mean([item.category == verdict.category for item, verdict in rows])),
        "top3": float(np.mean([item.category in verdict.top(3) for item, verdict in rows])),
    }
    if with_colour:
        found["main_colour"] = float(np.mean([item.colours[0][0] == verdict.colour for item, verdict in rows]))
        found["main_colour_in_two"] = float(np.mean([verdict.shows(item.colours[0][0]) for item, verdict in rows]))
    return found


def family_accuracy(verdicts: list[tuple[Item, Verdict]]) -> dict[str, float]:
    """Shares of objects whose family comes first, and among the first five."""
    return {
        "family_top1": float(np.mean([item.family == next(iter(verdict.families)) for item, verdict in verdicts])),
        "family_top5": float(np.mean([item.family in verdict.families for item, verdict in verdicts])),
    }


def reconstruct(item: Item, out: Path) -> None:
    """From six views of 64 x 64, as a generator makes them, in the quickest quality."""
    thing = read_drawable(item.file)
    angles = [(math.radians(a), math.radians(e)) for a, e in SIX_VIEWS]
    views = photograph(thing, cameras_around(thing, Similarity.identity(), angles, 64))
    generate(GenerateRequest(views, GenerateOptions(quality="draft", seed=SEED))).write_glb(out)


def reconstructed_accuracy(judge: Judge, items: list[Item], count: int) -> dict[str, Any]:
    """Of some of the objects after reconstruction, and as they were."""
    chosen = items[:: max(1, len(items) // count)][:count]
    before, after = [], []
    with tempfile.TemporaryDirectory() as folder:
        for item in chosen:
            path = Path(folder) / f"{item.name}.glb"
            reconstruct(item, path)
            before.append((item, judge.judge_glb(item.file)))
            after.append((item, judge.judge_glb(path)))
    return accuracy(after) | {"the_same_objects_themselves": accuracy(before)}


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description="Train the judge of prompts.")
    parser.add_argument("--objects", type=Path, required=True, help="folder with index.jsonl")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument(
        "--reconstructed", type=int, default=12, help="validation and training objects to judge after reconstruction"
    )
    parser.add_argument(
        "--known", type=int, default=120, help="training objects to judge, as they are and in other colours"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    args.out.mkdir(parents=True, exist_ok=True)
    everything = read_items(args.objects)
    categories = judged_categories(everything)
    items = [item for item in everything if item.category in categories]
    training = [item for item in items if item.split == "train"]
    validation = [item for item in items if item.split == "val"]
    families = sorted({item.family for item in training})

    samples = fit_colour_samples(everything)
    rows = ",\n  ".join(f"{json.dumps(word)}: {json.dumps(samples[word])}" for word in samples)
    (args.out / "colour_samples.json").write_text(f'{{"samples": {{\n  {rows}\n}}}}\n', encoding="utf-8")
    names = ColourNames(samples)

    begin = time.perf_counter()
    pictures = draw_pictures(training)
    seconds = {"pictures": time.perf_counter() - begin}
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "categories": categories,
        "left_out": sorted({item.category for item in everything} - set(categories)),
        "families": len(families),
        "steps": args.steps,
        "seconds": seconds,
        "naming": naming_agreement(names, [item for item in everything if item.split == "val"]),
    }

    def judged(judge: Judge, some: list[Item]) -> list[tuple[Item, Verdict]]:
        return [(item, judge.judge_glb(item.file)) for item in some]

    torch.manual_seed(SEED)
    classes = Classes(categories, families)
    network = JudgeNetwork(len(categories), len(families)).to(memory_format=torch.channels_last)
    judge = Judge(network, categories, families, names)
    learn, whole, single = split_for_measuring(training)
    begin = time.perf_counter()
    train(network, pictures, learn, classes, steps=args.steps, rate=RATE)
    report["held_out_families"] = accuracy(judged(judge, [training[i] for i in whole]))
    of_single = judged(judge, [training[i] for i in single])
    report["held_out_objects"] = accuracy(of_single) | family_accuracy(of_single)

    last = round(FINISH * args.steps)
    train(network, pictures, list(range(len(training))), classes, steps=last, rate=FINISH_RATE * RATE)
    seconds["training"] = time.perf_counter() - begin
    write_judge(network, categories, families, args.out / "judge.safetensors")
    known = training[:: max(1, len(training) // args.known)]
    report["known"] = accuracy(judged(judge, known))
    negatives = [(item, judge.judge(negative(read_drawable(item.file)))) for item in known]
    report["known_in_other_colours"] = accuracy(negatives, with_colour=False) | family_accuracy(negatives)
    of_validation = judged(judge, validation)
    report["validation"] = accuracy(of_validation)
    report["mistakes"] = [
        f"{item.name}: {item.category} as {verdict.category}"
        for item, verdict in of_validation
        if item.category != verdict.category
    ]
    write_report(report, args.out)
    if args.reconstructed:
        report["validation_reconstructed"] = reconstructed_accuracy(judge, validation, args.reconstructed)
        report["known_reconstructed"] = reconstructed_accuracy(judge, training, args.reconstructed)
        write_report(report, args.out)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
