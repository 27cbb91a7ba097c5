"""A corrupt object is skipped, counted and reported; nothing takes its place."""

import itertools
import logging

import pytest

from mvgamba.data.capture_folders import CaptureFolders
from mvgamba.data.usable import usable
from mvgamba.errors import InvalidInput, Unavailable
from tests.mvgamba.conftest import write_capture


@pytest.fixture
def source(tmp_path, box_views):
    for name in ("a", "b", "c"):
        write_capture(tmp_path / name, box_views)
    (tmp_path / "b" / "transforms.json").write_text("{")
    return CaptureFolders(tmp_path)


def test_a_broken_object_is_left_out_and_counted(source, caplog):
    skipped: dict[str, str] = {}
    jobs = [(i, v) for v in range(2) for i in range(3)]
    with caplog.at_level(logging.WARNING):
        given = [(u.index, u.variant) for u in usable(source, jobs, size=24, skipped=skipped)]
    assert given == [(0, 0), (2, 0), (0, 1), (2, 1)]
    assert list(skipped) == ["b, variant 0", "b, variant 1"] and "is not JSON" in skipped["b, variant 0"]
    assert [r.getMessage().split(" is left out")[0] for r in caplog.records] == ["b"]


def test_a_source_with_nothing_to_use_is_an_error_even_when_it_never_ends(source):
    with pytest.raises(InvalidInput, match="No object could be used, .* is not JSON"):
        list(usable(source, [(1, 0)], size=24, skipped={}))
    skipped: dict[str, str] = {}
    endless = ((1, v) for v in itertools.count())
    with pytest.raises(InvalidInput, match="5 objects in a row"):
        list(usable(source, endless, size=24, skipped=skipped, most_in_a_row=5))
    assert len(skipped) == 5


def test_what_is_not_the_objects_fault_is_not_skipped(source):
    class NeedsMore:
        names = source.names

        def views(self, index, variant, *, size):
            raise Unavailable("pip install something")

    with pytest.raises(Unavailable):
        list(usable(NeedsMore(), [(0, 0)], size=24, skipped={}))
