"""Commands from templates: what they are told, what is kept of them, what is not made twice."""

import shlex
from pathlib import Path

import pytest

from mvgamba.errors import InvalidInput
from tests.benchmarks.made_by_command import evenly, filled, make, spread_seconds
from tests.benchmarks.simple_objects import copying, failing

SAY = """
import sys, time
time.sleep(0.3)  # memory is looked at while it runs
print('loading')
print('{"event": "done", "words": %d}' % len(sys.argv[2].split()))
open(sys.argv[1], 'wb').write(b'glTF')
"""


def test_a_prompt_stays_one_argument_whatever_is_in_it() -> None:
    words = filled("tool {prompt} -o {out}", {"prompt": "a red; rm -rf 'barrel'", "out": "x y.glb"})
    assert words == ["tool", "a red; rm -rf 'barrel'", "-o", "x y.glb"]


@pytest.mark.parametrize("template", ["tool {prompt}", "tool {out} {image}", "tool {out} {"])
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(InvalidInput, match="The command"):
        filled(template, {"prompt": "a", "out": "b"})


def test_what_was_made_has_time_memory_and_the_last_words_of_the_command(tmp_path: Path) -> None:
    template = f"python -c {shlex.quote(SAY.replace('{', '{{').replace('}', '}}'))} {{out}} {{prompt}}"
    made = make({"a": {"prompt": "one two"}, "b": {"prompt": "three"}}, template, tmp_path, at_once=2)
    assert [one.facts["words"] for one in made] == [2, 1]
    assert all(one.error is None and one.glb.read_bytes() == b"glTF" for one in made)
    figures = spread_seconds(made)
    assert 0 < figures["seconds_median"] <= figures["seconds_max"]  # type: ignore[operator]
    # a bare interpreter, without the pages of this process, in which torch is loaded
    assert 1 < figures["peak_memory_mib"] < 100  # type: ignore[operator]


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    source = tmp_path / "source.glb"
    source.write_bytes(b"first")
    before = make({"a": {}}, copying(source), tmp_path / "out")[0]
    again = make({"a": {}}, failing(), tmp_path / "out")[0]
    assert again == before and again.glb.read_bytes() == b"first"


def test_a_command_that_fails_or_takes_too_long_leaves_no_glb(tmp_path: Path) -> None:
    failed = make({"a": {}}, failing(), tmp_path)[0]
    assert failed.error == "ended with 1: no such luck"
    slow = make({"b": {}}, "python -c 'import time; time.sleep(60)' {out}", tmp_path, timeout=0.3)[0]
    assert slow.error is not None and slow.error.startswith("took more than")
    assert slow.seconds is not None and slow.seconds < 30
    assert not list(tmp_path.glob("*.glb"))


def test_a_limit_is_spread_over_the_whole_list() -> None:
    names = [str(i) for i in range(10)]
    assert evenly(names, 0) == evenly(names, 12) == names
    assert evenly(names, 3) == ["0", "3", "6"]
