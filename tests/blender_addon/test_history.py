"""Results on the disk, written and read without Blender."""

import json
import os
import time

import numpy as np
import pytest

from blender_addon.core.facts import ResultFacts
from blender_addon.core.history import (
    read_history,
    remove_entry,
    remove_old_captures,
    remove_unfinished,
    write_entry,
)
from blender_addon.core.jobs import PreviewPicture
from blender_addon.core.request import (
    CapturedView,
    ImageInput,
    JobOptions,
    JobRequest,
    SidePicture,
    Target,
    TextInput,
)

TARGET = Target("Scene", "", (), ())


def finish(root, *, source=None, views=(), request_id, label="barrel", **extra):
    request = JobRequest(label, views, JobOptions(seed=4), TARGET, request_id=request_id, source=source)
    folder = root / request_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mesh.glb").write_bytes(b"glTF")
    write_entry(folder, request, job_id="jobs/1", meshes=[folder / "mesh.glb"], **extra)
    return folder


def captured(folder, count=2):
    folder.mkdir(parents=True)
    paths = [folder / f"view_{k:02d}.png" for k in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode())
        path.with_name(path.name.replace("view", "depth").replace("png", "npy")).write_bytes(b"depth")
    return tuple(CapturedView(path, np.eye(4), 0.8, 64, 64) for path in paths)


def test_a_finished_job_is_an_entry(tmp_path):
    finish(tmp_path, source=TextInput("ein altes Faß ☃"), request_id="a", facts=(ResultFacts(seed=9),))
    (entry,) = read_history(tmp_path).entries
    assert (entry.title, entry.kind, entry.seed, entry.job_id) == ("ein altes Faß ☃", "text", 9, "jobs/1")
    assert entry.meshes[0].read_bytes() == b"glTF" and entry.preview is None
    assert entry.request().source == TextInput("ein altes Faß ☃")


def test_the_captures_of_an_entry_can_be_sent_again(tmp_path):
    views = captured(tmp_path / "a")
    finish(tmp_path, views=views, request_id="a")
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "a").rename(moved / "a")
    (entry,) = read_history(moved).entries
    assert entry.title == "barrel"
    assert [view.image_path.read_bytes() for view in entry.request().views] == [b"view_00.png", b"view_01.png"]
    assert entry.preview.read_bytes() == b"view_00.png"
    assert [path.name for path in entry.views()] == ["view_00.png", "view_01.png"]


def test_the_picture_that_was_given_is_kept(tmp_path):
    picture = tmp_path / "temporary.png"
    picture.write_bytes(b"picture")
    other = tmp_path / "other.png"
    other.write_bytes(b"other")
    given = ImageInput(picture, "a barrel", others=(SidePicture(other, "back"),), background="none")
    finish(tmp_path / "jobs", source=given, request_id="a")
    picture.unlink()
    other.unlink()
    (entry,) = read_history(tmp_path / "jobs").entries
    source = entry.request().source
    assert [path.read_bytes() for path in source.image_paths] == [b"picture", b"other"]
    assert (source.prompt, source.others[0].side, source.background) == ("a barrel", "back", "none")


def test_pictures_of_the_job_are_kept_and_the_first_is_the_preview(tmp_path):
    pictures = [PreviewPicture(bytes([v, i]), "image/png", i, 4, v) for v in (1, 0) for i in (3, 0, 1, 2)]
    finish(tmp_path, source=TextInput("x"), request_id="a", pictures=pictures)
    (entry,) = read_history(tmp_path).entries
    for variant in range(2):
        assert [path.read_bytes() for path in entry.views(variant)] == [bytes([variant, i]) for i in range(4)]
    assert entry.preview.read_bytes() == b"\0\0"


def test_the_newest_comes_first(tmp_path):
    for day in (2, 9, 5):
        folder = finish(tmp_path, request_id=f"r{day}")
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps(meta | {"created": f"2026-01-0{day}T00:00:00Z"}))
    assert [entry.request_id for entry in read_history(tmp_path).entries] == ["r9", "r5", "r2"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"label": 1, "meshes": []}', b'{"meshes": ["mesh.glb"]}']
)
def test_a_damaged_entry_is_passed_over_and_counted(tmp_path, data):
    finish(tmp_path, request_id="good")
    (finish(tmp_path, request_id="bad") / "meta.json").write_bytes(data)
    history = read_history(tmp_path)
    assert [entry.request_id for entry in history.entries] == ["good"] and history.num_skipped == 1


def test_a_half_written_result_is_counted_and_a_job_without_one_is_not(tmp_path):
    (finish(tmp_path, request_id="half") / "meta.json").unlink()
    (finish(tmp_path, request_id="lost") / "mesh.glb").unlink()
    captured(tmp_path / "failed")
    (tmp_path / "stray.txt").write_text("x")
    history = read_history(tmp_path)
    assert history.entries == () and history.num_skipped == 2
    assert read_history(tmp_path / "nowhere").entries == ()


def test_an_entry_never_names_what_lies_outside(tmp_path):
    (tmp_path / "mine.glb").write_bytes(b"mine")
    folder = finish(tmp_path / "jobs", request_id="a")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"meshes": ["../../mine.glb"]}))
    assert read_history(tmp_path / "jobs").num_skipped == 1


def test_a_deleted_entry_is_gone(tmp_path):
    finish(tmp_path, request_id="a")
    kept = finish(tmp_path, request_id="b")
    remove_entry(tmp_path / "a")
    assert [entry.folder for entry in read_history(tmp_path).entries] == [kept] and not (tmp_path / "a").exists()


def test_only_jobs_without_a_result_are_cleared(tmp_path):
    captured(tmp_path / "failed")
    assert remove_unfinished(tmp_path / "failed") and not (tmp_path / "failed").exists()
    folder = finish(tmp_path, views=captured(tmp_path / "a"), request_id="a")
    assert not remove_unfinished(folder) and len(read_history(tmp_path).entries) == 1


def test_old_captures_go_and_results_stay(tmp_path):
    for name in ("old", "used", "new"):
        finish(tmp_path, views=captured(tmp_path / name), request_id=name)
    captured(tmp_path / "failed")
    now = time.time()
    for folder in ("old", "used", "failed"):
        for path in (tmp_path / folder).iterdir():
            os.utime(path, (now - 40 * 86_400,) * 2)
    assert remove_old_captures(tmp_path, days=0, now=now) == 0
    assert remove_old_captures(tmp_path, days=30, keep=["used"], now=now) == 2
    left = {f.name: len([*f.glob("view_*"), *f.glob("depth_*")]) for f in tmp_path.iterdir()}
    assert left == {"old": 0, "used": 4, "new": 4}
    history = read_history(tmp_path)
    assert len(history.entries) == 3 and all(entry.preview is not None for entry in history.entries)


def test_what_a_clock_that_was_wrong_has_dated_is_kept_and_listed(tmp_path):
    finish(tmp_path, views=captured(tmp_path / "future"), request_id="future")
    meta = tmp_path / "future" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"created": "2101-01-01T00:00:00Z"}))
    for path in meta.parent.iterdir():
        os.utime(path, (4_133_980_800,) * 2)
    finish(tmp_path, request_id="now")
    assert remove_old_captures(tmp_path, days=1) == 0
    assert [entry.request_id for entry in read_history(tmp_path).entries] == ["future", "now"]


def test_thousands_of_entries_are_read_at_once(tmp_path):
    for k in range(2000):
        folder = tmp_path / f"r{k:04d}"
        folder.mkdir()
        (folder / "mesh.glb").touch()
        meta = {"label": "x", "prompt": "", "kind": "text", "created": f"{k:04d}", "seed": 0, "job_id": ""}
        (folder / "meta.json").write_text(json.dumps(meta | {"meshes": ["mesh.glb"]}))
    began = time.perf_counter()
    history = read_history(tmp_path)
    print(f"2000 entries in {time.perf_counter() - began:.2f} s")
    assert [entry.request_id for entry in history.entries[:2]] == ["r1999", "r1998"] and len(history.entries) == 2000
