"""What is kept: jobs in the database, files by their content."""

import contextlib
import hashlib
import importlib.resources
import os
import sqlite3
from dataclasses import replace

import pytest

from mvgamba.errors import DiskFull, OutputFailed
from mvgamba_backend.errors import BlobMismatch
from mvgamba_backend.record import AssetRecord, JobFailure, JobRecord, JobState, ProgressRecord
from mvgamba_backend.spec import ImageSource, JobSpec, Options, TextSource
from mvgamba_backend.store import ContentFolder, DataFolderLock, JobDatabase
from mvgamba_backend.store.database import SCHEMAS


def job(number: int = 0, **more) -> JobRecord:
    spec = JobSpec(TextSource(f"prompt {number}"), Options(seed=number))
    return JobRecord(f"id {number}", f"request {number}", spec.digest(), spec, created=float(number), **more)


def test_a_job_reads_as_it_was_written_also_by_the_next_service(tmp_path):
    database = JobDatabase(tmp_path / "jobs.sqlite3")
    database.insert(job())
    ended = job(
        state=JobState.FAILED,
        progress=ProgressRecord("mesh", 0.5, message="half way"),
        failure=JobFailure("DISK_FULL", "full", {"stage": "mesh"}),
        assets=(AssetRecord("b", "mesh", "x/y", 3, "1" * 64), AssetRecord("a", "preview", "x/y", 3, "2" * 64)),
        started=1.0,
        ended=2.0,
        sequence=12,
        attempt=1,
    )
    database.update(ended)
    database.close()
    database = JobDatabase(tmp_path / "jobs.sqlite3")
    assert database.get("id 0") == ended
    assert database.by_request_id("request 0") == ended
    assert database.unfinished() == []
    assert database.assets_in_use() == {"1" * 64, "2" * 64}
    database.delete("id 0")
    assert database.get("id 0") is None
    assert database.assets_in_use() == set()
    database.close()


def test_unfinished_jobs_come_back_in_their_order(tmp_path):
    database = JobDatabase(tmp_path / "jobs.sqlite3")
    for i in range(4):
        database.insert(job(i))
    database.update(replace(job(1), state=JobState.SUCCEEDED))
    database.update(replace(job(2), state=JobState.RUNNING))
    assert [j.id for j in database.unfinished()] == ["id 0", "id 2", "id 3"]
    page, following = database.page(before=None, size=3)
    assert [j.id for j in page] == ["id 3", "id 2", "id 1"]
    page, following = database.page(before=following, size=3)
    assert ([j.id for j in page], following) == (["id 0"], None)
    database.close()


def test_a_request_id_is_taken_once(tmp_path):
    database = JobDatabase(tmp_path / "jobs.sqlite3")
    database.insert(job(0))
    with pytest.raises(sqlite3.IntegrityError):
        database.insert(replace(job(1), request_id="request 0"))
    assert database.get("id 1") is None
    database.close()


def test_blobs_of_a_job_are_in_use_until_it_is_deleted(tmp_path):
    database = JobDatabase(tmp_path / "jobs.sqlite3")
    spec = JobSpec(ImageSource("3" * 64))
    database.insert(replace(job(), spec=spec))
    assert database.blobs_in_use() == {"3" * 64}
    database.delete("id 0")
    assert database.blobs_in_use() == set()
    database.close()


def test_a_database_of_a_newer_service_is_left_alone(tmp_path):
    JobDatabase(tmp_path / "jobs.sqlite3").close()
    connection = sqlite3.connect(tmp_path / "jobs.sqlite3")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(SCHEMAS),)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutputFailed, match="newer version"):
        JobDatabase(tmp_path / "jobs.sqlite3")


def test_a_database_of_the_first_version_is_read_and_brought_up_to_date(tmp_path):
    schema = importlib.resources.files("mvgamba_backend.store").joinpath(SCHEMAS[0]).read_text()
    old = JobSpec(TextSource("a barrel"), Options(seed=7))
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as connection:
        connection.executescript(f"{schema} PRAGMA user_version = 1;")
        spec = (
            '{"kind":"text","label":"","options":{"device":"auto","quality":"standard","reconstructor":"auto","refine":true,'
            '"seconds":null,"seed":7,"target_faces":20000,"texture_size":1024},"source":{"negative_prompt":"","prompt":"a barrel"}}'
        )
        values = ("id", "request", old.digest(), spec, "queued", 1.0)
        columns = "id, request_id, request_digest, spec, state, created"
        connection.execute(f"INSERT INTO jobs ({columns}) VALUES (?,?,?,?,?,?)", values)
        connection.commit()
    database = JobDatabase(tmp_path / "jobs.sqlite3")
    assert database.version == len(SCHEMAS)
    (found,) = database.unfinished()
    assert (found.spec, found.request_digest) == (old, old.digest())
    database.close()


def test_content_that_is_shared_outlives_the_folder_it_came_from(tmp_path):
    assets, blobs = ContentFolder(tmp_path / "assets"), ContentFolder(tmp_path / "blobs")
    sha256 = assets.put(b"mesh")
    blobs.share(assets, sha256)
    blobs.share(assets, sha256)
    assets.discard([sha256])
    assert blobs.path(sha256).read_bytes() == b"mesh"
    assert not any((tmp_path / "blobs" / "parts").iterdir())
    with pytest.raises(OutputFailed):
        blobs.share(assets, "5" * 64)


def test_content_is_copied_where_the_system_cannot_link(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assets, blobs = ContentFolder(tmp_path / "assets"), ContentFolder(tmp_path / "blobs")
    sha256 = assets.put(b"mesh")
    blobs.share(assets, sha256)
    assert blobs.path(sha256).read_bytes() == assets.path(sha256).read_bytes() == b"mesh"


def test_content_has_its_name_only_when_it_is_whole(tmp_path):
    folder = ContentFolder(tmp_path)
    data = os.urandom(1000)
    sha256 = hashlib.sha256(data).hexdigest()
    with pytest.raises(BlobMismatch, match="600 of the promised 1000"):
        folder.receive(iter([data[:600]]), sha256=sha256, size=1000, offset=0)
    assert not folder.has(sha256)
    assert folder.received(sha256) == 600
    folder.receive(iter([data[500:]]), sha256=sha256, size=1000, offset=500)
    assert folder.head(sha256, 5) == (1000, data[:5])
    assert folder.received(sha256) == 0
    assert not any((tmp_path / "parts").iterdir())


def test_of_two_broken_uploads_the_longer_is_kept(tmp_path):
    folder = ContentFolder(tmp_path)
    data = os.urandom(1000)
    sha256 = hashlib.sha256(data).hexdigest()
    for length in (700, 300):
        with pytest.raises(BlobMismatch):
            folder.receive(iter([data[:length]]), sha256=sha256, size=1000, offset=0)
    assert folder.received(sha256) == 700
    assert len(list((tmp_path / "parts").iterdir())) == 1


def test_a_result_is_moved_in_under_its_content(tmp_path):
    folder = ContentFolder(tmp_path / "assets")
    (tmp_path / "result").write_bytes(b"result")
    sha256, size = folder.adopt(tmp_path / "result")
    assert (sha256, size) == (hashlib.sha256(b"result").hexdigest(), 6)
    assert folder.path(sha256).read_bytes() == b"result"
    assert not (tmp_path / "result").exists()


def test_a_sweep_takes_only_what_is_old_and_unused(tmp_path):
    folder = ContentFolder(tmp_path)
    used, old, new = (folder.put(data) for data in (b"used", b"old", b"new"))
    for sha256 in (used, old):
        os.utime(folder.path(sha256), (1, 1))
    assert folder.sweep({used}, older_than=3600) == 1
    assert [folder.has(sha256) for sha256 in (used, old, new)] == [True, False, True]
    folder.discard([new, "4" * 64])
    assert not folder.has(new)


def test_no_room_is_said_before_anything_is_written(tmp_path):
    folder = ContentFolder(tmp_path, min_free_bytes=1 << 60)
    with pytest.raises(DiskFull, match="MiB are free"):
        folder.put(b"data")


def test_a_folder_has_one_service_at_a_time(tmp_path):
    first = DataFolderLock.take(tmp_path)
    assert first is not None
    assert DataFolderLock.take(tmp_path) is None
    second = DataFolderLock.take_first_free(tmp_path)
    assert second is not None
    assert second.folder == tmp_path / "instance-2"
    first.release()
    again = DataFolderLock.take_first_free(tmp_path)
    assert again is not None
    assert again.folder == tmp_path
    again.release()
    second.release()
