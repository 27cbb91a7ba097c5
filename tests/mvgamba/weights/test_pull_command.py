"""`mvgamba weights pull` as a script meets it, with a manifest whose entry has a URL on this machine."""

import json
import re

import pytest

from mvgamba import weights
from mvgamba.__main__ import main
from tests.mvgamba.weights.mirror import Mirror


@pytest.fixture
def mine(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The package lists weights that it does not hold; a server has them. Gives the server and the entry."""
    source = weights.shipped()[0]
    data = source.path.read_bytes()
    package = tmp_path / "package"
    package.mkdir()
    with Mirror({"ray-more.safetensors": data}) as mirror:
        entry = source.as_entry() | {"name": "ray-more", "file": "ray-more.safetensors", "licence": "CC-BY-4.0"}
        entry["url"] = mirror.url("ray-more.safetensors")
        (package / "manifest.json").write_text(json.dumps([entry]))
        monkeypatch.setattr(weights, "folder", lambda: package)
        yield mirror, entry


def run(capsys, *arguments):
    status = main(["weights", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_pulled_weights_are_listed_whole_and_used(published, mine, capsys):
    assert run(capsys, "verify") == (0, "ray-more: not pulled yet\n", "")
    assert "not pulled yet" in run(capsys, "list")[1]
    status, out, _ = run(capsys, "pull", "ray-more", "--accept-licence", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and lines[-1]["event"] == "done" and lines[-2]["bytes"] == lines[-2]["of"]
    assert sorted(p.name for p in mine.iterdir()) == [
        "accepted-licences.json", "manifest.json", "ray-more.json", "ray-more.md", "ray-more.safetensors",
    ]  # fmt: skip
    assert run(capsys, "verify") == (0, "ray-more: whole\n", "")
    listed, *models = [json.loads(line) for line in run(capsys, "list", "--json")[1].splitlines()]
    assert [model["state"] for model in models] == ["absent", "absent"] and listed["state"] == "there"
    assert listed["is_default"] and listed["origin"] == "user" and listed["path"] == str(mine / "ray-more.safetensors")
    assert "CC-BY-4.0, used by default" in run(capsys, "list")[1]
    (mine / "ray-more.safetensors").write_bytes(b"?")
    status, out, _ = run(capsys, "verify")
    assert status == 1 and "not those that were imported" in out


def test_the_licence_is_accepted_once(published, mine, capsys):
    mirror, _ = published
    status, _, errors = run(capsys, "pull", "ray-more")  # nobody can be asked
    assert status == 1 and "CC-BY-4.0" in errors and "--accept-licence" in errors and mirror.asked == []
    assert run(capsys, "pull", "ray-more", "--accept-licence")[0] == 0
    (mine / "ray-more.safetensors").unlink()
    assert run(capsys, "pull", "ray-more")[0] == 0
    # another licence is another question
    (mine / "accepted-licences.json").write_text('{"ray-more": "MIT"}')
    assert run(capsys, "pull", "ray-more")[0] == 1


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_a_person_is_asked(published, mine, capsys, monkeypatch, answer, status):
    class Terminal:
        isatty = staticmethod(lambda: True)
        readline = staticmethod(lambda: answer)

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    got, _, errors = run(capsys, "pull", "ray-more")
    assert got == status and "Do you accept it?" in errors
    assert ("was not accepted" in errors) == (status == 1)


def test_a_name_that_is_not_known_gets_the_nearest(published, mine, capsys):
    status, _, errors = run(capsys, "pull", "raymore")
    assert status == 2 and "No weights are named 'raymore'. Nearest: ray-more." in errors
    assert "There are: ray-more." in run(capsys, "pull", "zzz")[2]


def test_a_folder_serves_where_there_is_no_network(published, mine, capsys, tmp_path):
    mirror, entry = published
    (tmp_path / "stick").mkdir()
    arguments = ("pull", "ray-more", "--from", tmp_path / "stick", "--accept-licence")
    assert "There is no file" in run(capsys, *arguments)[2]
    (tmp_path / "stick" / entry["file"]).write_bytes(b"something else")
    status, _, errors = run(capsys, *arguments)
    assert status == 1 and "expected " + entry["sha256"][:12] in errors
    (tmp_path / "stick" / entry["file"]).write_bytes(mirror.files[entry["file"]])
    assert run(capsys, *arguments)[0] == 0 and mirror.asked == []
    assert weights.default("reconstructor", "ray", mine).name == "ray-more"


def test_weights_without_a_url_are_not_pulled(mine, capsys, tmp_path):
    status, _, errors = run(capsys, "pull", weights.shipped()[0].name, "--accept-licence")
    assert status == 2 and "comes with the package" in errors
    assert not mine.exists()
    entry = weights.shipped()[0].as_entry() | {"name": "elsewhere"}
    mine.mkdir()
    (mine / "manifest.json").write_text(json.dumps([entry]))
    status, _, errors = run(capsys, "pull", "elsewhere", "--accept-licence")
    assert status == 1 and "published at no URL" in errors
    assert [p.name for p in mine.iterdir()] == ["manifest.json"]  # nobody was asked for a licence


def test_a_url_needs_a_hash_and_becomes_an_entry(published, mine, capsys):
    mirror, entry = published
    url = mirror.url("ray-more.safetensors")
    status, _, errors = run(capsys, "pull", url, "--accept-licence")
    assert status == 2 and "64 hexadecimal digits" in errors
    arguments = ("--sha256", entry["sha256"], "--licence", "MIT", "--name", "theirs", "--default", "--accept-licence")
    status, out, errors = run(capsys, "pull", url, *arguments)
    assert status == 0, errors
    assert "Used from now on." in out
    found = weights.default("reconstructor", "ray", mine)
    assert (found.name, found.licence, found.preferred) == ("theirs", "MIT", True)
    assert url in (mine / "theirs.md").read_text() and list((mine / "arrived").iterdir()) == []
    status, _, errors = run(capsys, "pull", "http://example.org/x.safetensors", *arguments)
    assert status == 2 and re.search(r"example\.org.* is not fetched", errors)
