"""The table of features says nothing that no test shows."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "blender_addon" / "docs" / "FEATURES.md"


def rows():
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in TABLE.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| \d+ \|", line)
    ]


def is_shown(name):
    module, test = name.split("::")
    folder = ROOT / "tests" if "/" in module else ROOT / "tests" / "blender_addon"
    path = folder / f"{module}.py"
    return path.is_file() and re.search(rf"^\s*def test_{test}\(", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_yes_names_a_test_that_exists():
    wrong = []
    for number, *_, ours, shown in rows():
        names = re.findall(r"`([\w/]+::\w+)`", shown)
        if ours == "**Y**" and not names:
            wrong.append(f"{number}: no test")
        wrong += [f"{number}: {name}" for name in names if not is_shown(name)]
    assert not wrong


def test_all_that_was_compared_is_there():
    assert [int(row[0]) for row in rows()] == list(range(1, 57))
    assert all(len(row) == 13 and row[-2] and row[-1] for row in rows())
