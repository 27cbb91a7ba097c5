"""Every error that there is has a status, and every table says the same."""

import errno
import re
from pathlib import Path

import grpc
import pytest

import mvgamba_backend.errors  # its classes join the tree
from mvgamba.errors import DiskFull, MVGambaError, OutputFailed
from mvgamba_backend.errors import STATUS_OF_REASON, JobUnknown, output_error
from mvgamba_backend.servicer import status_of

ROOT = Path(__file__).parents[2]


def tree(root: type[MVGambaError]) -> set[type[MVGambaError]]:
    return {root}.union(*(tree(child) for child in root.__subclasses__()))


def test_the_table_covers_the_tree_and_nothing_else():
    ours = {c for c in tree(MVGambaError) if c.__module__ in ("mvgamba.errors", mvgamba_backend.errors.__name__)}
    assert {c.reason for c in ours} == set(STATUS_OF_REASON)


def test_every_status_is_one_of_grpc():
    for status in STATUS_OF_REASON.values():
        assert status in grpc.StatusCode.__members__


def test_only_one_status_invites_to_try_again():
    assert [r for r, status in STATUS_OF_REASON.items() if status == "UNAVAILABLE"] == ["SHUTTING_DOWN"]


def test_the_table_for_readers_is_the_table():
    text = (ROOT / "protos/README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \|", text, re.MULTILINE))
    assert rows == STATUS_OF_REASON


def test_reasons_are_words_that_error_info_takes():
    for reason in STATUS_OF_REASON:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]", reason)


def test_a_status_says_code_message_and_reason():
    status = status_of(JobUnknown("no such job"))
    assert (status.code, status.details) == (grpc.StatusCode.NOT_FOUND, "no such job")
    assert dict(status.trailing_metadata)["mvgamba-reason"] == "JOB_UNKNOWN"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is how Linux plays a full disk")
def test_a_full_disk_is_told_from_other_failures():
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    assert type(output_error(caught.value, "writing")) is DiskFull
    other = output_error(OSError(errno.EACCES, "denied"), "writing")
    assert type(other) is OutputFailed
    assert "denied" in str(other)
