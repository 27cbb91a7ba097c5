"""How often a prompt gives what it asks for: prompts -> GLBs -> the judge -> rates.

    python tests/benchmarks/eval_prompts.py -o OUT [--limit 12] [--jobs 1] [--seed 0] [--results FILE]
    python tests/benchmarks/eval_prompts.py -o OUT --command "python other.py {prompt} --write {out}"

Each prompt runs the command in a process of its own. OUT gets `glb/ID.glb`, `sheet.png`, `table.md` and `prompts.json`; `--results` names
another place for the last. A GLB that is in OUT already is judged as it is: take another folder for another generator or seed.

| rate | share of the prompts |
|---|---|
| `category`, `category_top3` | whose category the judge puts first, or among the first three |
| `noun_top5` | of whose noun a family is among the five that the judge finds most alike |
| `colour` | that name a colour, and it covers more of the result than any other |
| `colour_shown` | that name a colour, and it is one of the two largest with a fifth or more |
| `both` | whose category comes first and, where they name a colour, whose colour is the largest |

A prompt that gave nothing counts as missed. The judge is wrong at times too: how often stands in `prompt_judge/judge.json`.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import read_drawable
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import cameras_around
from mvgamba.types import Similarity
from tests.benchmarks.made_by_command import Made, circumstances, evenly, make, spread_seconds
from tests.benchmarks.prompt_judge.judge import Judge, Verdict
from tests.benchmarks.sheet_tiles import sheet, tile

HERE = Path(__file__).parent
COMMAND = "python -m mvgamba text {prompt} -o {out} --seed {seed} --json"
SHEET_ANGLES = [(0.35, 0.35), (3.5, 0.35)]
"""Azimuth and elevation of the two pictures of a result on the sheet."""
SHEET_SIZE, SHEET_COLUMNS, SHEET_GREY = 112, 6, 0.88
RATES = ("category", "category_top3", "noun_top5", "colour", "colour_shown", "both")


def judged_row(prompt: dict[str, Any], made: Made, verdict: Verdict | None) -> dict[str, Any]:
    """What was asked for, what came, and which of it is right; a colour that was not asked for is neither."""
    row: dict[str, Any] = prompt | {
        "seconds": made.seconds,
        "peak_memory_mib": made.peak_memory_mib,
        "error": made.error,
    }
    asked = prompt["colour"]
    if verdict is None:
        hits: dict[str, bool | None] = dict.fromkeys(RATES, False)
        if asked is None:
            hits |= {"colour": None, "colour_shown": None}
        return row | {"judged": None, "hits": hits}
    row["judged"] = {
        "categories": {name: round(verdict.categories[name], 4) for name in verdict.top(3)},
        "families": {name: round(share, 4) for name, share in verdict.families.items()},
        "colour": verdict.colour,
        "colours": {name: round(share, 4) for name, share in list(verdict.colour_shares.items())[:4]},
    }
    category = verdict.category == prompt["category"]
    row["hits"] = {
        "category": category,
        "category_top3": prompt["category"] in verdict.top(3),
        "noun_top5": any(family in verdict.families for family in prompt["families"]),
        "colour": None if asked is None else verdict.colour == asked,
        "colour_shown": None if asked is None else verdict.shows(asked),
        "both": category and (asked is None or verdict.colour == asked),
    }
    return row


def rates(rows: list[dict[str, Any]]) -> dict[str, float | int | None]:
    """Of each kind of hit, over the rows that it is asked of."""
    given: dict[str, float | int | None] = {"prompts": len(rows)}
    for name in RATES:
        values = [row["hits"][name] for row in rows if row["hits"][name] is not None]
        given[name] = sum(values) / len(values) if values else None
    return given


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates over all, over seen and unseen combinations apart, and by category."""
    categories = sorted({row["category"] for row in rows})
    return {
        "all": rates(rows),
        "seen": rates([row for row in rows if row["seen"]]),
        "unseen": rates([row for row in rows if not row["seen"]]),
        "by_category": {name: rates([row for row in rows if row["category"] == name]) for name in categories},
    }


def table(found: dict[str, Any]) -> str:
    """The summary as Markdown."""
    lines = [["", "prompts", *RATES], ["---", *("---:" for _ in (0, *RATES))]]
    parts = {name: found[name] for name in ("all", "seen", "unseen")} | found["by_category"]
    for name, part in parts.items():
        cells = ["" if part[rate] is None else f"{100 * part[rate]:.0f} %" for rate in RATES]
        lines.append([name, str(part["prompts"]), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _picture(row: dict[str, Any], made: Made) -> Image.Image:
    colour = {True: "#107010", False: "#b01010", None: "#606060"}
    if made.error is None:
        thing = read_drawable(made.glb)
        seen = photograph(thing, cameras_around(thing, Similarity.identity(), SHEET_ANGLES, SHEET_SIZE))
        pictures = seen.rgb * seen.alpha + SHEET_GREY * (1 - seen.alpha)  # white things show too
        judged = row["judged"]
        lines = [
            (f"{row['category']}: {next(iter(judged['categories']))}", colour[row["hits"]["category"]]),
            (f"{row['colour'] or '-'}: {judged['colour']}", colour[row["hits"]["colour"]]),
        ]
    else:
        pictures = torch.ones(len(SHEET_ANGLES), 3, SHEET_SIZE, SHEET_SIZE)
        lines = [("nothing came", colour[False]), (made.error, colour[False])]
    mark = "" if row["seen"] else "* "
    return tile(pictures, [(mark + row["text"], "black"), *lines])


def evaluate(
    prompts: list[dict[str, Any]],
    out: Path,
    *,
    command: str,
    judge: Judge,
    seed: int = 0,
    at_once: int = 1,
    timeout: float = 1800.0,
) -> dict[str, Any]:
    """Run the command for each prompt, judge what came, and write sheet, table and report into `out`."""
    jobs = {prompt["id"]: {"prompt": prompt["text"], "seed": str(seed)} for prompt in prompts}

    def tell(one: Made) -> None:
        print(f"{one.name} {jobs[one.name]['prompt']}: {one.error or _seconds(one)}", flush=True)

    made = make(jobs, command, out / "glb", at_once=at_once, timeout=timeout, tell=tell)
    rows, tiles = [], []
    for prompt, one in zip(prompts, made, strict=True):
        verdict = None
        if one.error is None:
            try:
                verdict = judge.judge_glb(one.glb)
            except InvalidInput as error:
                one = Made(one.name, one.glb, one.seconds, one.peak_memory_mib, str(error))
        rows.append(judged_row(prompt, one, verdict))
        tiles.append(_picture(rows[-1], one))
    found = summary(rows)
    report = {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "seed": seed,
        "machine": circumstances(),
        "at_once": at_once,
        **spread_seconds(made),
        "failed": [row["id"] for row in rows if row["error"]],
        **found,
        "prompts": rows,
    }
    sheet(tiles, columns=SHEET_COLUMNS).save(out / "sheet.png")
    (out / "table.md").write_text(table(found), encoding="utf-8")
    (out / "prompts.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _seconds(made: Made) -> str:
    return "was there" if made.seconds is None else f"{made.seconds:.1f} s"


def main() -> None:
    """Run, judge, write, and print the table."""
    parser = argparse.ArgumentParser(description="Judge what prompts give.")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for GLBs, sheet, table and report")
    parser.add_argument("--prompts", type=Path, default=HERE / "prompts.json")
    parser.add_argument("--command", default=COMMAND, help="with {prompt}, {out} and {seed} in braces")
    parser.add_argument("--limit", type=int, default=0, help="so many prompts, spread over all; 0 means all")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one prompt")
    parser.add_argument("--results", type=Path, help="write the report here too, and the sheet beside it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(args.prompts.read_text(encoding="utf-8"))["prompts"]
    chosen = set(evenly([prompt["id"] for prompt in known], args.limit))
    prompts = [prompt for prompt in known if prompt["id"] in chosen]
    report = evaluate(
        prompts,
        args.out,
        command=args.command,
        judge=Judge.with_own_weights(),
        seed=args.seed,
        at_once=args.jobs,
        timeout=args.timeout,
    )
    if args.results is not None:
        args.results.parent.mkdir(parents=True, exist_ok=True)
        args.results.write_bytes((args.out / "prompts.json").read_bytes())
        args.results.with_suffix(".png").write_bytes((args.out / "sheet.png").read_bytes())
    print((args.out / "table.md").read_text(encoding="utf-8"))
    print(f"seconds: median {report['seconds_median']}, most {report['seconds_max']}; failed: {report['failed']}")


if __name__ == "__main__":
    main()
