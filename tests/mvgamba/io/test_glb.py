import dataclasses
import errno
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
import trimesh

from mvgamba.errors import DiskFull, InvalidInput, OutputFailed
from mvgamba.io.glb import glb_bytes, read_glb, write_glb
from mvgamba.types import TexturedMesh


def quad(*, far=0.0, cells=1) -> TexturedMesh:
    """A square in the plane z = 0 that looks along +Z, with its upper left quarter red."""
    at = np.linspace(0.0, 1.0, cells + 1)
    x, y = np.meshgrid(at, at, indexing="xy")
    vertices = np.stack([x.ravel() + far, y.ravel(), np.zeros(x.size)], axis=1)
    first = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).ravel()
    faces = np.concatenate(
        [np.stack([first, first + 1, first + cells + 2], 1), np.stack([first, first + cells + 2, first + cells + 1], 1)]
    )
    albedo = np.full((8, 8, 3), 200, np.uint8)
    albedo[:4, :4] = (250, 10, 20)
    normals = np.tile([0.0, 0.0, 1.0], (len(vertices), 1))
    uvs = np.stack([x.ravel(), 1.0 - y.ravel()], axis=1)
    return TexturedMesh(vertices, faces, normals, uvs, albedo, roughness=0.7, metallic=0.1)


def test_a_mesh_comes_back_as_it_was(tmp_path):
    mesh = quad(cells=3)
    write_glb(mesh, tmp_path / "quad.glb", extras={"mvgamba": {"views": 8}})
    back = read_glb(tmp_path / "quad.glb")
    np.testing.assert_allclose(back.vertices, mesh.vertices, atol=1e-7)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    np.testing.assert_allclose(back.normals, mesh.normals, atol=1e-7)
    np.testing.assert_allclose(back.uvs, mesh.uvs, atol=1e-7)
    np.testing.assert_array_equal(back.albedo, mesh.albedo)
    assert (back.roughness, back.metallic) == (0.7, 0.1)


@pytest.mark.parametrize("cells,kind", [(2, "uint16"), (260, "uint32")])
def test_another_reader_sees_the_same(tmp_path, cells, kind):
    mesh = quad(cells=cells)
    path = tmp_path / "quad.glb"
    write_glb(mesh, path)
    other = trimesh.load(path, process=False, force="mesh")
    np.testing.assert_allclose(other.vertices, mesh.vertices, atol=1e-7)
    np.testing.assert_array_equal(other.faces, mesh.faces)
    # trimesh counts v from below; the red quarter is at the upper left of the picture all the same
    corner = int(np.argmin(np.abs(mesh.vertices - [0.0, 1.0, 0.0]).sum(1)))
    np.testing.assert_allclose(other.visual.uv[corner], [0.0, 1.0], atol=1e-7)
    assert other.visual.material.baseColorTexture.getpixel((1, 1)) == (250, 10, 20)
    assert other.visual.material.roughnessFactor == pytest.approx(0.7)
    size = path.read_bytes()
    document = json.loads(size[20 : 20 + int.from_bytes(size[12:16], "little")])
    assert document["accessors"][0]["componentType"] == {"uint16": 5123, "uint32": 5125}[kind]
    assert document["accessors"][1]["min"] == [0, 0, 0]
    assert document["asset"]["generator"].startswith("MVGamba")
    assert "matrix" not in document["nodes"][0] and "translation" not in document["nodes"][0]
    assert not document["materials"][0].get("doubleSided", False)


def test_world_coordinates_keep_float32_precision_far_away(tmp_path):
    mesh = quad(far=1000.0, cells=2)
    write_glb(mesh, tmp_path / "far.glb")
    error = np.abs(read_glb(tmp_path / "far.glb").vertices - mesh.vertices).max()
    assert error <= 1000.0 * 2**-23


def _validator() -> tuple[str, str] | None:
    node = shutil.which("node")
    folder = os.environ.get("GLTF_VALIDATOR_MODULES", "")
    return (node, folder) if node and (Path(folder) / "gltf-validator").is_dir() else None


@pytest.mark.skipif(
    _validator() is None, reason="node, or GLTF_VALIDATOR_MODULES with the npm package gltf-validator, is missing"
)
@pytest.mark.parametrize("cells", [1, 260])
def test_the_khronos_validator_is_content(tmp_path, cells):
    node, folder = _validator()
    write_glb(quad(cells=cells), tmp_path / "quad.glb", extras={"name": "Kästchen"})
    script = (
        "const v = require('gltf-validator'), fs = require('fs');"
        "v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1]))).then(r => console.log(JSON.stringify(r)));"
    )
    run = subprocess.run(
        [node, "-e", script, str(tmp_path / "quad.glb")],
        env={**os.environ, "NODE_PATH": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    issues = json.loads(run.stdout)["issues"]
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def _changed(**changes):
    return dataclasses.replace(quad(), **changes)


@pytest.mark.parametrize(
    "mesh,words",
    [
        (lambda: _changed(faces=np.zeros((0, 3), np.int64)), "at least one face"),
        (lambda: _changed(vertices=np.full((4, 3), np.nan)), "vertices hold numbers that are not finite"),
        (lambda: _changed(vertices=np.full((4, 3), 1e39)), "not finite in float32"),
        (lambda: _changed(uvs=np.full((4, 2), np.inf)), "uvs hold numbers"),
        (lambda: _changed(faces=np.array([[0, 1, 4]])), "0 to 4, but there are 4"),
        (lambda: _changed(roughness=1.5), "roughness"),
        (lambda: _changed(albedo=np.zeros((0, 0, 3), np.uint8)), "albedo"),
    ],
)
def test_a_broken_mesh_is_refused_and_nothing_is_written(tmp_path, mesh, words):
    with pytest.raises(InvalidInput, match=words):
        write_glb(mesh(), tmp_path / "bad.glb")
    assert list(tmp_path.iterdir()) == []


def test_extras_that_json_does_not_know_are_refused():
    with pytest.raises(InvalidInput, match="extras"):
        glb_bytes(quad(), extras={"a": object()})
    with pytest.raises(InvalidInput, match="extras"):
        glb_bytes(quad(), extras={"a": float("nan")})


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputFailed, match="nowhere.*was not written"):
        write_glb(quad(), tmp_path / "nowhere" / "a.glb")


def test_a_folder_in_the_place_of_the_file_is_named_and_nothing_is_left_behind(tmp_path):
    (tmp_path / "a.glb").mkdir()
    with pytest.raises(OutputFailed, match="was not written"):
        write_glb(quad(), tmp_path / "a.glb")
    assert [p.name for p in tmp_path.iterdir()] == ["a.glb"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full to run out of space on")
def test_a_full_disk_is_told_apart_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.glb"
    write_glb(quad(), path)
    before = path.read_bytes()
    fdopen = os.fdopen

    def onto_a_full_device(handle, mode):  # the real error of a real device, where the temporary file would be
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, handle)
        os.close(full)
        return fdopen(handle, mode)

    monkeypatch.setattr("mvgamba.io.glb.os.fdopen", onto_a_full_device)
    with pytest.raises(DiskFull, match="no room is left") as caught:
        write_glb(quad(cells=4), path)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.glb"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    write_glb(quad(), tmp_path / "a.glb")
    (tmp_path / "plain").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "a.glb").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("content", [b"", b"hello", b"glTF" + bytes(40)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.glb").write_bytes(content)
    with pytest.raises(InvalidInput, match="not a GLB"):
        read_glb(tmp_path / "a.glb")


def test_a_file_cut_short_is_refused(tmp_path):
    (tmp_path / "a.glb").write_bytes(glb_bytes(quad())[:-7])
    with pytest.raises(InvalidInput, match="not a GLB"):
        read_glb(tmp_path / "a.glb")
