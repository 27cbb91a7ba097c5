"""Downloads from a server on this machine: whole, cut, resumed, wrong, full, away."""

import collections
import hashlib
import os
import shutil

import pytest

from mvgamba.errors import DiskFull, InvalidInput, OutputFailed, Unavailable, WeightsCorrupt
from mvgamba.weights.download import check_url, download
from tests.mvgamba.weights.mirror import Mirror

DATA = bytes(range(256)) * 5000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def mirror():
    with Mirror({"x.safetensors": DATA}) as mirror:
        yield mirror


def fetch(mirror, target, **more):
    download(mirror.url("x.safetensors"), target, SHA, pause=0.0, **more)


def names(folder):
    return [p.name for p in folder.iterdir()]


def test_a_file_arrives_with_progress_and_nothing_beside_it(mirror, tmp_path):
    seen = []
    fetch(mirror, tmp_path / "new" / "x.safetensors", report=lambda done, of: seen.append((done, of)))
    assert (tmp_path / "new" / "x.safetensors").read_bytes() == DATA
    assert names(tmp_path / "new") == ["x.safetensors"]
    assert seen[0] == (0, len(DATA)) and seen[-1] == (len(DATA), len(DATA)) and seen == sorted(seen)


def test_a_cut_connection_is_taken_up_where_it_broke(mirror, tmp_path):
    mirror.cut_after = [300_000, 500_000]
    fetch(mirror, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == DATA
    assert mirror.asked == [None, "bytes=300000-", "bytes=800000-"]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(mirror, tmp_path):
    mirror.cut_after = [100_000, 0, 0, 0]
    with pytest.raises(Unavailable, match="broke off after 100000 bytes .*run the same command again"):
        fetch(mirror, tmp_path / "x.safetensors")
    assert names(tmp_path) == [f"x.safetensors.{SHA[:12]}.partial"]
    mirror.asked.clear()
    fetch(mirror, tmp_path / "x.safetensors")
    assert mirror.asked == ["bytes=100000-"]
    assert (tmp_path / "x.safetensors").read_bytes() == DATA


def test_a_server_without_ranges_begins_anew(mirror, tmp_path):
    mirror.ranges, mirror.cut_after = False, [400_000]
    fetch(mirror, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == DATA


def test_a_whole_partial_file_only_gets_its_name(mirror, tmp_path):
    (tmp_path / f"x.safetensors.{SHA[:12]}.partial").write_bytes(DATA)
    fetch(mirror, tmp_path / "x.safetensors")
    assert names(tmp_path) == ["x.safetensors"]


def test_another_hash_is_refused_and_nothing_stays(mirror, tmp_path):
    mirror.files["x.safetensors"] = DATA[:-1] + b"?"
    with pytest.raises(WeightsCorrupt, match=f"expected {SHA[:12]}"):
        fetch(mirror, tmp_path / "x.safetensors")
    assert names(tmp_path) == []


def test_what_is_not_there_and_who_does_not_answer_are_told_apart(mirror, tmp_path):
    with pytest.raises(Unavailable, match="answered 404"):
        download(mirror.url("y.safetensors"), tmp_path / "y", SHA)
    with Mirror({}) as gone:
        url = gone.url("x.safetensors")
    with pytest.raises(Unavailable, match="cannot be reached .*--from FOLDER"):
        download(url, tmp_path / "x", SHA)


def test_a_disk_without_room_is_noticed_before_the_download(mirror, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 5, 5))
    with pytest.raises(DiskFull, match="needs 1 MiB more, and 0 MiB are free"):
        fetch(mirror, tmp_path / "x.safetensors")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is how Linux plays a full disk")
def test_a_disk_that_fills_up_says_so(mirror, tmp_path):
    (tmp_path / f"x.safetensors.{SHA[:12]}.partial").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="MVGAMBA_WEIGHTS"):
        fetch(mirror, tmp_path / "x.safetensors")


def test_a_folder_that_cannot_be_made_says_so(mirror, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed, match="MVGAMBA_WEIGHTS"):
        fetch(mirror, tmp_path / "file" / "x.safetensors")


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "file:///etc/passwd", "ftp://localhost/x", "https:///x", "http://10.0.0.1/x"]
)
def test_only_https_and_this_machine_are_asked(url):
    with pytest.raises(InvalidInput, match="is not fetched"):
        check_url(url)


def test_https_and_this_machine_are_allowed():
    for url in ("https://example.org/x", "http://localhost:8/x", "http://[::1]/x", "http://127.9.9.9/x"):
        check_url(url)


def test_a_redirect_cannot_lead_where_a_url_may_not(mirror, tmp_path):
    mirror.redirects["away"] = "http://example.org/x.safetensors"
    with pytest.raises(InvalidInput, match=r"example\.org"):
        download(mirror.url("away"), tmp_path / "x.safetensors", SHA)
    mirror.redirects["here"] = mirror.url("x.safetensors")
    download(mirror.url("here"), tmp_path / "x.safetensors", SHA)
    assert (tmp_path / "x.safetensors").read_bytes() == DATA
