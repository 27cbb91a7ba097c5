"""The command line as a person or a script meets it: in processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mvgamba.io.glb import read_glb
from mvgamba.reconstructor.ray_reconstructor import load_ray_network
from tests.mvgamba.data.objects import write_corpus

QUICK = ("--quality", "draft", "--faces", "1000", "--texture", "128")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mvgamba", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)


def test_views_become_a_glb_with_the_facts_inside(box_capture, tmp_path):
    done = run("views", box_capture, "-o", tmp_path / "box.glb", *QUICK, "--seconds", 100, "--memory", 8192, "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    fractions = [e["fraction"] for e in events if e["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert events[-1]["event"] == "done" and events[-1]["reconstructor"] == "hull" and events[-1]["faces"] <= 1000
    assert set(events[-1]["seconds"]) == {"prepare", "reconstruct", "refine", "mesh", "texture", "export"}
    assert len(read_glb(tmp_path / "box.glb").faces) == events[-1]["faces"]
    assert events[-1]["stopped"] in ("steps", "seconds") and events[-1]["reduced"] == []
    content = (tmp_path / "box.glb").read_bytes()
    assert b'"quality":"draft"' in content.replace(b'": "', b'":"')


def test_text_for_people_names_the_file_and_who_started(box_capture, tmp_path):
    done = run("views", box_capture, "-o", tmp_path / "box.glb", *QUICK, "--no-refine")
    assert done.returncode == 0, done.stderr
    assert "box.glb" in done.stdout and "faces" in done.stdout
    assert "Started from hull (" in done.stdout or "Started from ray (" in done.stdout


@pytest.mark.parametrize("arguments", [("vocabulary",), ("vocabulary", "barrel")], ids=["long", "short"])
def test_a_reader_who_leaves_early_gets_no_trace(arguments):
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 141


def test_an_interrupt_stops_soon_and_leaves_no_file(box_capture, tmp_path):
    out = tmp_path / "box.glb"
    process = subprocess.Popen(
        command("views", box_capture, "-o", out, "--quality", "high", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("stage") == "refine":
            break
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        time.monotonic() - begin < 20
    )  # a second on idle cores; generous, for a loaded machine must not fail the test
    assert "Stopped" in errors and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("--faces", "5"), ("--texture", "10"), ("--seed", "-3"), ("--seconds", "-1")])
def test_a_bad_option_is_bad_input(box_capture, tmp_path, arguments):
    done = run("views", box_capture, "-o", tmp_path / "box.glb", *arguments, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["reason"] == "INVALID_INPUT" and "must " in done.stderr


def test_a_missing_folder_is_bad_input(tmp_path):
    done = run("views", tmp_path / "nowhere", "-o", tmp_path / "box.glb")
    assert done.returncode == 2 and "is not a folder" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["missing/box.glb", "box.obj", "folder.glb"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(box_capture, tmp_path, name):
    (tmp_path / "folder.glb").mkdir()
    begin = time.monotonic()
    done = run("views", box_capture, "-o", tmp_path / name, "--quality", "high")
    assert done.returncode == 1 and "Traceback" not in done.stderr and time.monotonic() - begin < 60
    assert str(tmp_path) in done.stderr


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None,
    reason="needs root, to mount a small disk",
)
def test_a_full_disk_says_so_and_leaves_nothing_broken(box_capture, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        (small / "filler").write_bytes(b"x" * 60_000)
        done = run("views", box_capture, "-o", small / "box.glb", *QUICK, "--no-refine", "--json")
        assert done.returncode == 1, done.stdout
        assert json.loads(done.stdout.splitlines()[-1])["reason"] == "DISK_FULL"
        assert [p.name for p in small.iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_network_without_weights_says_what_to_do(box_capture, tmp_path):
    done = run("views", box_capture, "-o", tmp_path / "box.glb", "--reconstructor", "mvgamba", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["reason"] == "WEIGHTS_MISSING"


def test_objects_become_shards_and_shards_weights(tmp_path):
    write_corpus(tmp_path / "objects", 2)
    (tmp_path / "objects" / "broken.glb").write_bytes(b"glTF")
    made = run("prepare", tmp_path / "objects", "-o", tmp_path / "shards", "--variants", "1", "--size", "32", "--json")
    assert made.returncode == 0, made.stderr
    facts = json.loads(made.stdout)
    assert facts["written"] == 2 and list(facts["skipped"]) == ["broken.glb, variant 0"]
    network = {"width": 32, "num_layers": 1}
    config = {"data": str(tmp_path / "shards"), "network": network, "batch_size": 2, "steps": 10, "warm_up": 2}
    (tmp_path / "run.json").write_text(json.dumps(config))
    trained = run("train", "reconstructor", "--config", tmp_path / "run.json", "-o", tmp_path / "run", "--cpu")
    assert trained.returncode == 0, trained.stderr
    assert "step 10 of 10" in trained.stderr
    assert load_ray_network(tmp_path / "run" / "ray.safetensors").config.width == 32


def test_training_on_nothing_says_so(tmp_path):
    done = run("train", "reconstructor", "--config", tmp_path / "no.json", "-o", tmp_path / "run")
    assert done.returncode == 2 and "no.json is not a training configuration" in done.stderr
    done = run("prepare", tmp_path, "-o", tmp_path / "shards", "--size", "33")
    assert done.returncode == 2 and "multiple of 8" in done.stderr


def test_shipped_weights_are_listed_and_whole():
    listed = [json.loads(line) for line in run("weights", "list", "--json").stdout.splitlines()]
    names = ["ray-starter-cpu", "starter-memory", "starter-cpu"]
    assert [w["name"] for w in listed if w["is_there"]] == names
    others = {w["name"]: (w["state"], w["can_pull"], w["bytes"] > 1e9) for w in listed if not w["is_there"]}
    assert others == {name: ("absent", True, True) for name in ("mvdream", "imagedream")}
    done = run("weights", "verify")
    assert done.returncode == 0 and done.stdout.splitlines() == [f"{name}: whole" for name in names]


def test_doctor_tests_itself_and_explains_each_kernel():
    done = run("doctor", "--json")
    facts = json.loads(done.stdout)
    assert facts["self_test"]["passed"], facts["self_test"]
    assert facts["kernels"]["cpu"]["rasterize_surfels"]["uses"] == "warp-cpu"
    for row in facts["kernels"]["cpu"].values():
        assert row["uses"] is not None and all(row["why_not"].values())
    assert facts["weights"] == {"reconstructor": "ray-starter-cpu", "generator": "starter-cpu"}
    assert done.returncode == (0 if facts["healthy"] else 1)


def test_doctor_speaks_to_people_too():
    done = run("doctor", "--no-self-test")
    assert "Kernels on cpu" in done.stdout and "selective_scan" in done.stdout


def test_doctor_plans_a_job_without_running_it():
    done = run("doctor", "--plan", "--quality", "high", "--views", 24, "--image-size", 512, "--texture", 2048, "--json")
    facts = json.loads(done.stdout)
    assert facts["settings"] | {"quality": "high", "views": 24, "image_size": 512, "texture": 2048} == facts["settings"]
    assert set(facts["stages_gib"]) == {"prepare", "reconstruct", "refine", "mesh", "texture", "export"}
    assert done.returncode == (0 if facts["fits"] else 1)


def test_eval_writes_a_table_a_report_and_sheets(box_capture, tmp_path):
    made = run("views", box_capture, "-o", tmp_path / "box.glb", *QUICK, "--no-refine")
    assert made.returncode == 0, made.stderr
    glbs = tmp_path / "glbs"
    glbs.mkdir()
    shutil.move(tmp_path / "box.glb", glbs)
    done = run("eval", glbs, "-o", tmp_path / "report", "--views", 4, "--size", 96, *QUICK, "--no-refine", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (tmp_path / "report" / "table.md").exists() and (tmp_path / "report" / "sheet.png").exists()
    assert json.loads(done.stdout.splitlines()[-1]).keys() == report.keys()


def test_the_version_is_printed():
    assert run("--version").stdout.startswith("mvgamba 0.")
