"""How well one picture becomes an object: front view -> GLB -> scores against the true object from all around.

    python tests/benchmarks/eval_single_image.py --objects PROPS --training-objects PROPS -o OUT [--limit 8] [--elevation 0]
    python tests/benchmarks/eval_single_image.py ... --command "python other.py {image} --write {out}"

The objects are those of the split `val` of PROPS/index.jsonl (all GLBs of a folder without one). Each is photographed once, from azimuth 0, with
the distance and field of view of `mvgamba.evaluation.rig`, as an RGBA PNG of 256 x 256. The command gets that picture. What comes back is moved
and scaled, not turned, until its outline in the input camera fits (`place_by_front.py`), and so is what it is compared with:

| beside it | |
|---|---|
| `one-view` | `mvgamba views` with this one posed view: hull and refinement, nothing guessed |
| `nearest` | the training object of the same category that looks most like the picture, best of eight turns; needs `--training-objects` |

Scores are those of `mvgamba eval` from its sixteen cameras, without those that look from within 35 degrees of where the input was taken (they would
mostly score the input again), and `input_psnr` of the input view itself. OUT gets pictures, GLBs, `sheet.png`, `table.md` and
`single_image.json`; GLBs that are there are not made again. What gave nothing is scored as an empty picture.
"""

import argparse
import dataclasses
import datetime
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mvgamba.errors import InvalidInput, MVGambaError
from mvgamba.evaluation.drawable import Drawable, read_drawable
from mvgamba.evaluation.image_scores import image_scores, on_white
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import cameras_around, scored_angles
from mvgamba.io.images import encode_png
from mvgamba.pipeline import generate
from mvgamba.types import GenerateOptions, GenerateRequest, PosedViews, Similarity
from tests.benchmarks.made_by_command import Made, circumstances, evenly, make, spread_seconds
from tests.benchmarks.nearest_front import nearest_front
from tests.benchmarks.place_by_front import placed_by_front
from tests.benchmarks.prompt_judge.corpus import Item, read_items
from tests.benchmarks.sheet_tiles import sheet, tile

COMMAND = "python -m mvgamba image {image} -o {out} --seed {seed} --json"
SIZE = 256
NEIGHBOURHOOD = math.radians(35)
SHOWN = ("psnr", "psnr_foreground", "ssim", "iou", "input_psnr")
SHEET_SIZE = 96


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A true object, the one picture of it, and how it looks from the cameras that score."""

    item: Item
    drawable: Drawable
    front: PosedViews
    truth: PosedViews


def kept_angles(elevation: float) -> list[tuple[float, float]]:
    """The scored angles of the rig that are not near the input's."""

    def direction(azimuth: float, height: float) -> np.ndarray:
        across = math.cos(height)
        return np.array([across * math.sin(azimuth), math.sin(height), across * math.cos(azimuth)])

    front = direction(0.0, elevation)
    return [angle for angle in scored_angles() if direction(*angle) @ front < math.cos(NEIGHBOURHOOD)]


def photograph_subject(item: Item, elevation: float, size: int = SIZE) -> Subject:
    """From the front and from the cameras that score. Raises: InvalidInput."""
    thing = read_drawable(item.file)
    still = Similarity.identity()
    front = photograph(thing, cameras_around(thing, still, [(0.0, elevation)], size))
    truth = photograph(thing, cameras_around(thing, still, kept_angles(elevation), size))
    return Subject(item, thing, front, truth)


def write_picture(front: PosedViews, path: Path) -> None:
    """The input, straight alpha."""
    pixels = torch.cat([front.rgb[0], front.alpha[0]]).permute(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png((pixels * 255).round().byte().contiguous().numpy()))


def scored(
    subject: Subject, result: Drawable | None, *, is_posed: bool = False
) -> tuple[dict[str, Any], PosedViews, PosedViews]:
    """Scores of a result in any place and size, and its pictures from the front and from the cameras that score.

    Args:
        is_posed: The result was made in the world of the cameras.
    """
    error = None
    if result is not None:
        try:
            result = placed_by_front(result, subject.drawable, subject.front.cameras, is_posed=is_posed)
        except InvalidInput as problem:
            result, error = None, str(problem)
    if result is None:
        front, around = _blank(subject.front), _blank(subject.truth)
    else:
        front, around = photograph(result, subject.front.cameras), photograph(result, subject.truth.cameras)
    inputs = {
        f"input_{name}": value for name, value in image_scores(subject.front, front).items() if "worst" not in name
    }
    scores: dict[str, Any] = image_scores(subject.truth, around) | inputs
    return scores | ({"error": error} if error else {}), front, around


def _blank(views: PosedViews) -> PosedViews:
    return PosedViews(torch.ones_like(views.rgb), torch.zeros_like(views.alpha), views.cameras)


def one_view(subject: Subject, glb: Path, options: GenerateOptions) -> Drawable | None:
    """Hull and refinement from the input alone; kept as a GLB, and taken from there when it is there."""
    try:
        if not glb.is_file():
            glb.parent.mkdir(parents=True, exist_ok=True)
            generate(GenerateRequest(subject.front, options)).write_glb(glb)
        return read_drawable(glb)
    except MVGambaError as error:
        print(f"{subject.item.name}: no hull of one view: {error}", flush=True)
        return None


def subjects_of(folder: Path) -> list[Item]:
    """The validation objects of an index, or every GLB of a folder. Raises: InvalidInput if there are none."""
    if (folder / "index.jsonl").is_file():
        items = [item for item in read_items(folder) if item.split == "val"]
    else:
        items = [Item(path.stem, path, "val", "", "", (), ()) for path in sorted(folder.glob("*.glb"))]
    if not items:
        raise InvalidInput(f"{folder} holds no objects to score: an index.jsonl with a split `val`, or .glb files.")
    return items


def evaluate(
    items: list[Item],
    training: list[Item],
    out: Path,
    *,
    command: str,
    elevation: float,
    options: GenerateOptions,
    size: int = SIZE,
    at_once: int = 1,
    timeout: float = 1800.0,
) -> dict[str, Any]:
    """Photograph, run, place, score; write sheet, table and report into `out`.

    Args:
        options: Of the baseline `one-view`.
        size: Pixels of the picture and of the cameras that score.
    """
    jobs: dict[str, dict[str, str]] = {}
    for item in items:
        picture = out / "input" / f"{item.name}.png"
        write_picture(photograph_subject(item, elevation, size).front, picture)
        jobs[item.name] = {"image": str(picture), "seed": str(options.seed)}

    def tell(one: Made) -> None:
        said = "was there" if one.seconds is None else f"{one.seconds:.1f} s"
        print(f"{one.name}: {one.error or said}", flush=True)

    made = make(jobs, command, out / "glb", at_once=at_once, timeout=timeout, tell=tell)
    rows: list[dict[str, Any]] = []
    tiles: list[Image.Image] = []
    drawn: dict[str, Tensor] = {}
    for item, one in zip(items, made, strict=True):
        subject = photograph_subject(item, elevation, size)
        others: dict[str, Drawable | None] = {
            "one-view": one_view(subject, out / "one-view" / f"{item.name}.glb", options)
        }
        row: dict[str, Any] = {"name": item.name, "category": item.category, "error": one.error}
        row |= {"seconds": one.seconds, "peak_memory_mib": one.peak_memory_mib}
        alike = [other for other in training if other.category == item.category]
        if training:
            found = nearest_front(subject.front, elevation, alike, drawn) if alike else None
            others["nearest"] = found.drawable if found else None
            row["nearest_object"] = found.item.name if found else None
        result: Drawable | None = None
        if one.error is None:
            try:
                result = read_drawable(one.glb)
            except InvalidInput as error:
                row["error"] = str(error)
        scores, front, around = scored(subject, result)
        row["error"] = row["error"] or scores.pop("error", None)
        pictures = {"result": (front, around)}
        row["result"], row["baselines"] = scores, {}
        for name, other in others.items():
            row["baselines"][name], front, around = scored(subject, other, is_posed=name == "one-view")
            pictures[name] = (front, around)
        rows.append(row)
        tiles.append(_tile(subject, pictures, row))
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "seed": options.seed,
        "elevation_deg": math.degrees(elevation),
        "scored_cameras": len(kept_angles(elevation)),
        "neighbourhood_deg": math.degrees(NEIGHBOURHOOD),
        "quality_of_one_view": options.quality,
        "machine": circumstances(),
        "at_once": at_once,
        **spread_seconds(made),
        "failed": [row["name"] for row in rows if row["error"]],
        "mean": {"result": _mean([row["result"] for row in rows])}
        | {name: _mean([row["baselines"][name] for row in rows]) for name in rows[0]["baselines"]},
        "objects": rows,
    }
    sheet(tiles, columns=2).save(out / "sheet.png")
    (out / "table.md").write_text(table(report), encoding="utf-8")
    (out / "single_image.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _mean(rows: list[dict[str, Any]]) -> dict[str, float]:
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def _tile(subject: Subject, pictures: dict[str, tuple[PosedViews, PosedViews]], row: dict[str, Any]) -> Image.Image:
    """A line for the truth and for each result: the input view and three from around."""
    chosen = [len(subject.truth.rgb) * k // 3 for k in range(3)]

    def line(front: PosedViews, around: PosedViews) -> Tensor:
        shown = torch.cat([on_white(front), on_white(around)[chosen]])
        return torch.cat(list(torch.nn.functional.interpolate(shown, (SHEET_SIZE, SHEET_SIZE), mode="area")), -1)

    lines = [line(subject.front, subject.truth), *(line(*pair) for pair in pictures.values())]
    text = [(subject.item.name, "black")]
    for name in pictures:
        scores = row["result"] if name == "result" else row["baselines"][name]
        text.append(
            (
                f"{name}: {scores['psnr']:.1f} dB, IoU {scores['iou']:.2f}, input {scores['input_psnr']:.1f} dB",
                "#404040",
            )
        )
    return tile(torch.cat(lines, -2)[None], text)


def table(report: dict[str, Any]) -> str:
    """The means as Markdown."""
    lines = [["", *SHOWN], ["---", *("---:" for _ in SHOWN)]]
    for name, mean in report["mean"].items():
        lines.append([name, *(f"{mean[key]:.3f}" if key in ("ssim", "iou") else f"{mean[key]:.2f}" for key in SHOWN)])
    title = f"{len(report['objects'])} objects, one view from an elevation of {report['elevation_deg']:.0f} degrees, scored from "
    title += f"{report['scored_cameras']} cameras beyond {report['neighbourhood_deg']:.0f} degrees of it"
    return "\n".join([title, "", *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def main() -> None:
    """Run, score, write, and print the table."""
    parser = argparse.ArgumentParser(description="Score objects made from one picture.")
    parser.add_argument("--objects", type=Path, required=True, help="folder with index.jsonl, or with GLBs")
    parser.add_argument("--training-objects", type=Path, help="folder with index.jsonl, for the baseline nearest")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for pictures, GLBs, sheet, table and report"
    )
    parser.add_argument("--command", default=COMMAND, help="with {image}, {out} and {seed} in braces")
    parser.add_argument("--limit", type=int, default=0, help="so many objects, spread over all; 0 means all")
    parser.add_argument("--elevation", type=float, default=0.0, help="degrees, of the input view")
    parser.add_argument(
        "--quality", choices=("draft", "standard", "high"), default="draft", help="of the baseline one-view"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one object")
    parser.add_argument("--results", type=Path, help="write the report here too, and the sheet beside it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    items = subjects_of(args.objects)
    chosen = set(evenly([item.name for item in items], args.limit))
    training = (
        [item for item in read_items(args.training_objects) if item.split == "train"] if args.training_objects else []
    )
    report = evaluate(
        [item for item in items if item.name in chosen],
        training,
        args.out,
        command=args.command,
        elevation=math.radians(args.elevation),
        options=GenerateOptions(quality=args.quality, reconstructor="hull", seed=args.seed),
        at_once=args.jobs,
        timeout=args.timeout,
    )
    if args.results is not None:
        args.results.parent.mkdir(parents=True, exist_ok=True)
        args.results.write_bytes((args.out / "single_image.json").read_bytes())
        args.results.with_suffix(".png").write_bytes((args.out / "sheet.png").read_bytes())
    print((args.out / "table.md").read_text(encoding="utf-8"))
    print(f"seconds: median {report['seconds_median']}, most {report['seconds_max']}; failed: {report['failed']}")


if __name__ == "__main__":
    main()
