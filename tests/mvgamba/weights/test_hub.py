"""Models of many files, from a server on this machine that answers as the hub does."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mvgamba.__main__ import main
from mvgamba.errors import Unavailable, WeightsCorrupt
from mvgamba.weights import hub
from mvgamba.weights.hub import HUB_MODELS, RECORD, pull_model, wanted
from tests.mvgamba.multiview.mvdream.checkpoints import published_folder
from tests.mvgamba.weights.hub_server import REVISION, answers
from tests.mvgamba.weights.mirror import Mirror

MODEL = HUB_MODELS["mvdream"]
TREE = f"api/models/{MODEL.repository}/tree/{REVISION}?recursive=true"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = published_folder(tmp_path_factory.mktemp("hub") / "mvdream", images=False)
    # what else lies in such a repository
    (made / "unet" / "mv_unet.py").write_text("raise SystemExit('code of a folder of weights was run')")
    (made / "README.md").write_text("# card")
    return made


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(tmp_path / "mine"))
    return tmp_path / "mine"


@pytest.fixture
def server(folder, monkeypatch):
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    files = answers(MODEL.repository, files)
    with Mirror(files) as mirror:
        monkeypatch.setattr(hub, "ENDPOINT", mirror.url("").rstrip("/"))
        yield mirror


def at(path):
    return f"{MODEL.repository}/resolve/{REVISION}/{path}"


def run(capsys, *arguments):
    status = main(["weights", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_a_model_is_pulled_whole_without_its_code_and_is_verified(server, mine, folder, capsys):
    assert "--accept-licence" in run(capsys, "pull", "mvdream")[2] and server.asked == []
    status, out, errors = run(capsys, "pull", "mvdream", "--accept-licence", "--json")
    assert status == 0, errors
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["event"] == "done" and lines[-1]["revision"] == REVISION
    assert lines[-2]["bytes"] == lines[-2]["of"] == lines[-1]["bytes"]
    there = {p.relative_to(mine / "mvdream").as_posix() for p in (mine / "mvdream").rglob("*") if p.is_file()}
    given = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == given - {"unet/mv_unet.py", "README.md"} | {RECORD}
    assert all((mine / "mvdream" / p).read_bytes() == (folder / p).read_bytes() for p in there - {RECORD})
    record = json.loads((mine / "mvdream" / RECORD).read_text())
    assert all(len(file["sha256"]) == 64 for file in record["files"])
    assert run(capsys, "verify")[1].endswith("mvdream: whole\n")
    assert "mvdream  (generator" in run(capsys, "list")[1]
    asked = len(server.asked)
    assert run(capsys, "pull", "mvdream")[0] == 0 and len(server.asked) == asked  # accepted once, fetched once
    (mine / "mvdream" / "vae" / "config.json").write_text("{}")
    status, out, _ = run(capsys, "verify")
    assert status == 1 and "vae/config.json is not what came" in out


def test_a_pull_that_is_cut_goes_on_with_the_same_revision(server, mine, monkeypatch):
    size = len(server.files[at(UNET)])
    real, lengths = server._answer, [1000, 0, 0, 0]

    def answer(request):
        if request.path.endswith(UNET) and lengths:
            server.cut_after = [lengths.pop(0)]
        real(request)

    monkeypatch.setattr(server, "_answer", answer)
    with pytest.raises(Unavailable, match="broke off after 1000 bytes.*run the same command again"):
        pull_model(MODEL, mine, pause=0.0)
    assert not (mine / "mvdream").exists() and (mine / "mvdream.partial" / RECORD).is_file()
    assert "not pulled whole" in _listing(mine)
    del server.files[TREE]  # the revision is known by now
    server.asked.clear()
    record = pull_model(MODEL, mine, pause=0.0)
    assert record.revision == REVISION and "bytes=1000-" in server.asked
    assert (mine / "mvdream" / UNET).stat().st_size == size
    assert not list(mine.rglob("*.partial"))


def _listing(mine):
    return "".join(f"{p.name}: not pulled whole" for p in hub.models_there(mine) if p.suffix == ".partial")


@pytest.mark.parametrize(("path", "said"), [(UNET, "has the SHA-256"), ("model_index.json", "has the git hash")])
def test_other_bytes_than_were_listed_are_refused(server, mine, path, said):
    server.files[at(path)] = server.files[at(path)][:-1] + b"?"
    with pytest.raises(WeightsCorrupt, match=said):
        pull_model(MODEL, mine, pause=0.0)
    assert not (mine / "mvdream").exists() and not (mine / "mvdream.partial" / path).exists()


def test_a_repository_that_is_not_there_or_of_another_layout_is_named(server, mine):
    rows = json.loads(server.files[TREE])
    server.files[TREE] = json.dumps([row for row in rows if not row["path"].startswith("vae/")]).encode()
    with pytest.raises(WeightsCorrupt, match="no vae among the files of mvdream"):
        pull_model(MODEL, mine)
    server.files[TREE] = b'{"error": "gated"}'
    with pytest.raises(Unavailable, match="no list of files that is understood"):
        pull_model(MODEL, mine)
    del server.files[TREE]
    with pytest.raises(Unavailable, match="answered 404"):
        pull_model(MODEL, mine)
    assert not mine.exists()


def test_pickles_come_only_where_there_is_nothing_else_and_no_path_leads_out():
    base = ["model_index.json", *(f"{f}/config.json" for f in MODEL.folders)]
    both = [*base, "unet/a.safetensors", "unet/a.bin", "vae/a.bin", "vae/run.py", "other/a.safetensors"]
    chosen = wanted(both, MODEL)
    assert "vae/a.bin" in chosen and "unet/a.bin" not in chosen
    assert not {"vae/run.py", "other/a.safetensors"} & set(chosen)
    with pytest.raises(WeightsCorrupt, match="expected plain names"):
        wanted([*base, "unet/.x.json"], MODEL)
    assert wanted([*base, "unet/../../x.json", "/x.json"], MODEL) == sorted(base)


def test_what_is_damaged_is_fetched_anew_and_nothing_else(server, mine, folder):
    pull_model(MODEL, mine, pause=0.0)
    (mine / "mvdream" / UNET).write_bytes(b"?")
    (mine / "mvdream" / "vae" / "config.json").unlink()
    server.asked.clear()
    pull_model(MODEL, mine, pause=0.0)
    assert len(server.asked) == 2 and not list(mine.glob("*.partial"))
    assert (mine / "mvdream" / UNET).read_bytes() == (folder / UNET).read_bytes()


def test_a_damaged_model_from_a_folder_is_replaced_by_importing_it_again(server, mine, folder, capsys):
    assert run(capsys, "import-generator", folder, "--accept-licence")[0] == 0
    (mine / "mvdream" / UNET).write_bytes(b"?")
    with pytest.raises(WeightsCorrupt, match="import the model again"):
        pull_model(MODEL, mine)
    assert server.asked == []  # the hub may have another one
    assert run(capsys, "import-generator", folder)[0] == 0 and run(capsys, "verify", "mvdream")[0] == 0
    (mine / "mvdream" / RECORD).unlink()  # as if a person had put it there
    assert "is there already" in run(capsys, "import-generator", folder)[2]
    assert (mine / "mvdream" / UNET).is_file()


def test_a_folder_is_taken_in_after_its_keys_were_checked(folder, mine, capsys, tmp_path):
    status, out, errors = run(capsys, "import-generator", folder, "--accept-licence")
    assert status == 0, errors
    assert str(mine / "mvdream") in out and not list(mine.rglob("*.py"))
    assert run(capsys, "verify")[0] == 0
    assert "is there already" in run(capsys, "import-generator", folder, "--accept-licence")[2]
    assert "There is no folder" in run(capsys, "import-generator", tmp_path / "nowhere")[2]
    (tmp_path / "empty").mkdir()
    assert "no model_index.json" in run(capsys, "pull", "mvdream", "--from", tmp_path / "empty")[2]


def test_a_folder_with_other_keys_is_not_taken_in(mine, capsys, tmp_path):
    other = published_folder(tmp_path / "other", images=False)
    tensors = load_file(other / UNET)
    tensors["more"] = torch.ones(2)
    (other / UNET).unlink()
    save_file(tensors, other / UNET)
    status, _, errors = run(capsys, "import-generator", other, "--accept-licence")
    assert status == 1 and "the first: more (2,)" in errors and not mine.exists()
