"""The whole way of words through worker, wire and service, with the pipeline that plays; no Blender in it."""

import dataclasses
import sys
from pathlib import Path

import pytest

from blender_addon.client.backend_process import BackendProcess
from blender_addon.client.generation_client import connect
from blender_addon.client.worker import JobWorker
from blender_addon.core.backend import BackendCommand
from blender_addon.core.history import read_history
from blender_addon.core.jobs import JobBoard, JobState, wait_until
from blender_addon.core.request import (
    ImageInput,
    JobOptions,
    JobRequest,
    Target,
    TextInput,
    VariationInput,
    approved_request,
)

pytest.importorskip("mvgamba_backend", reason="the service is not importable here")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ":".join(map(str, (ROOT, ROOT / "protos", ROOT / "backend"))))
        folder = tmp_path_factory.mktemp("backend")
        command = BackendCommand(
            (sys.executable, "-m", "mvgamba_backend"), folder / "data", folder / "log", ("--pipeline", "fake")
        )
        process = BackendProcess(command)
        process.ensure()
        yield process
        process.stop()


@pytest.fixture
def run(backend, tmp_path):
    board = JobBoard()

    def run(source, views=(), request=None, **options):
        request = request or JobRequest("barrel", views, JobOptions(**options), Target("", "", (), ()), source=source)
        row = board.add(request)
        worker = JobWorker(
            request,
            connect=lambda: connect(backend.ensure()),
            post=board.post,
            result_path=tmp_path / row.id / "mesh.glb",
        )
        worker.start()
        ended = (JobState.READY, JobState.VIEWS_READY, JobState.FAILED)
        assert wait_until(board.pump, lambda: row.state in ended, timeout=60)
        worker.join(5)
        return row

    return run


def test_words_become_pictures_and_several_results(run):
    row = run(TextInput("#preview:3 #log a barrel"), variants=2, seed=1)
    assert row.state is JobState.READY, row.text
    assert sorted(row.previews) == [(v, i) for v in range(2) for i in range(4)]
    assert all(p.data.startswith(b"\x89PNG") for p in row.previews.values())
    assert row.log_lines == ["This result is a cube, whatever was asked for."]
    first, second = row.result_path, *row.more_result_paths
    assert (first.name, second.name) == ("mesh.glb", "mesh_2.glb")
    assert first.read_bytes()[:4] == second.read_bytes()[:4] == b"glTF"
    assert first.read_bytes() != second.read_bytes()


def test_a_result_is_remembered_on_the_disk_with_what_it_was_made_with(run, tmp_path):
    row = run(TextInput("#preview a barrel"), variants=2, seed=5, generator="starter")
    assert [(f.asset_name, f.seed, f.generator) for f in row.facts] == [
        ("mesh.glb", 5, "starter"),
        ("mesh_2.glb", 6, "starter"),
    ]
    assert row.facts[0].backend_version
    (entry,) = [entry for entry in read_history(tmp_path).entries if entry.request_id == row.id]
    assert (entry.prompt, entry.seed, entry.job_id) == ("#preview a barrel", 5, row.job_id)
    assert entry.meshes == (row.result_path, *row.more_result_paths) and len(entry.views(1)) == 4
    assert entry.preview.read_bytes().startswith(b"\x89PNG") and entry.facts() == row.facts
    assert entry.request().options == row.request.options


def test_a_review_ends_with_views_and_goes_on_with_those_that_were_approved(run, tmp_path):
    row = run(TextInput("a barrel"), review_views=True, variants=2)
    assert row.state is JobState.VIEWS_READY, row.text
    assert row.result_path is None and len(row.views) == 2
    views = list(row.views[1])
    assert [v.image_path.stem for v in views] == ["front_2", "right_2", "back_2", "left_2"]
    replaced = tmp_path / "mended.png"
    replaced.write_bytes(row.views[0][0].image_path.read_bytes())
    views[0] = dataclasses.replace(views[0], image_path=replaced)
    after = run(None, request=approved_request(row.request, tuple(views)))
    assert after.state is JobState.READY, after.text
    assert after.result_path.read_bytes()[:4] == b"glTF"


def test_a_result_can_be_varied(run):
    first = run(TextInput("a barrel"))
    row = run(VariationInput("#log of stone", strength=0.3, job_id=first.job_id))
    assert row.state is JobState.READY and row.log_lines
    row = run(VariationInput("of stone", job_id=first.job_id, asset_name="mesh_9.glb"))
    assert row.state is JobState.FAILED and row.reason == "ASSET_UNKNOWN"


def test_the_service_knows_words_and_says_what_it_can_make(backend):
    client = connect(backend.ensure())
    assert client.look_up_words("a red barel", prefix="ba").suggestions == ("barrel", "barrier")
    info = client.describe(wait_until_ready=True)
    client.close()
    assert {"text", "image", "variation"} <= set(info.sources)
    assert {g.name: g.is_available for g in info.generators} == {"starter": True, "imagedream": False}


def test_pictures_of_several_sides_arrive_with_their_sides(run, tmp_path):
    from mvgamba_backend.engine.cube import checker_png

    pictures = []
    for side, size in (("back", 16), ("auto", 24), ("auto", 32)):
        path = tmp_path / f"{size}.png"
        path.write_bytes(checker_png(size, (200, 100, 50)))
        pictures.append((path, side))
    row = run(ImageInput.of_sides(pictures, prompt="a crate #log", background="remove"), recall=False)
    assert row.state is JobState.READY, row.message
    assert "Pictures: front, right, back." in row.log_lines


def test_the_service_says_what_a_word_is_taken_for_and_all_that_it_knows(backend):
    client = connect(backend.ensure())
    found = client.look_up_words("a red cask", list_all=True)
    client.close()
    assert [(one.word, one.taken_for) for one in found.taken] == [("cask", "barrel")] and found.unknown == {}
    assert {"barrel", "cask", "stool"} <= {one.word for one in found.vocabulary}
