"""Scanned objects in the layouts of their publishers."""

import io
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mvgamba.errors import InvalidInput
from mvgamba.evaluation.objects import object_name, objects_of, read_object
from mvgamba.evaluation.photograph import photograph
from mvgamba.evaluation.rig import cameras_around
from mvgamba.evaluation.run import EvaluationSettings, evaluate_folder
from mvgamba.evaluation.scanned import read_scanned, scanned_mesh
from mvgamba.types import Similarity, TexturedMesh

# a poster that faces -Y of a Z-up world, 2 wide and 1 high, with a thin rod behind it
OBJ = """mtllib model.mtl
v -1 0 0
v 1 0 0
v 1 0 1
v -1 0 1
v 0.5 0.5 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl material_0
f 1/1 2/2 3/3
f 1/1 3/3 4/4
f 1/1 2/2 5/3
"""


def poster() -> bytes:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4], pixels[:4, 4:], pixels[4:, :4], pixels[4:, 4:] = (
        (250, 0, 0),
        (0, 250, 0),
        (0, 0, 250),
        (250, 250, 0),
    )
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_gso(folder, *, texture: bytes | None = None):
    (folder / "meshes").mkdir(parents=True)
    (folder / "materials" / "textures").mkdir(parents=True)
    (folder / "meshes" / "model.obj").write_text(OBJ)
    (folder / "meshes" / "model.mtl").write_text("newmtl material_0\nmap_Kd texture.png\n")
    (folder / "materials" / "textures" / "texture.png").write_bytes(texture or poster())
    return folder


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(folder))
    return path


def test_what_faces_minus_y_of_a_z_up_file_faces_the_front_upright_and_unmirrored(tmp_path):
    drawable = read_scanned(write_gso(tmp_path / "Poster"))
    low, high = drawable.bounds
    np.testing.assert_allclose([low, high], [[-1, 0, -0.5], [1, 1, 0]], atol=1e-12)
    view = photograph(drawable, cameras_around(drawable, Similarity.identity(), [(0.0, 0.0)], 64))
    rows, cols = (view.alpha[0, 0] > 0.99).nonzero().T
    top, bottom, left, right = rows.min() + 1, rows.max() - 1, cols.min() + 1, cols.max() - 1
    corners = torch.stack([view.rgb[0, :, y, x] for y in (top, bottom) for x in (left, right)])
    expected = torch.tensor([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]]) / 255
    torch.testing.assert_close(corners, expected, atol=0.01, rtol=0)


def test_a_zip_and_the_ycb_layout_give_the_same(tmp_path):
    folder = write_gso(tmp_path / "Poster")
    direct, packed = read_scanned(folder), read_scanned(zipped(folder, tmp_path / "Poster.zip"))
    ycb = tmp_path / "004_poster" / "google_16k"
    ycb.mkdir(parents=True)
    (ycb / "textured.obj").write_text(OBJ.replace("model.mtl", "textured.mtl"))
    (ycb / "textured.mtl").write_text("newmtl material_0\n# shader_type beckmann\nmap_Kd texture_map.png \n")
    (ycb / "texture_map.png").write_bytes(poster())
    for other in (packed, read_scanned(ycb.parent)):
        assert np.array_equal(direct.vertices, other.vertices) and np.array_equal(direct.faces, other.faces)
        assert np.array_equal(direct.uvs, other.uvs)
        assert np.array_equal(direct.materials[0].texture, other.materials[0].texture)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("materials/textures/texture.png", "texture.png is missing"),
        ("meshes/model.mtl", "model.mtl is missing"),
        ("meshes/model.obj", "holds no scanned object"),
    ],
)
def test_a_missing_file_is_named(tmp_path, broken, message):
    folder = write_gso(tmp_path / "Poster")
    (folder / broken).unlink()
    with pytest.raises(InvalidInput, match=message):
        read_scanned(folder)


def test_broken_files_are_named_and_never_drawn_white(tmp_path):
    with pytest.raises(InvalidInput, match="texture.png is not an image"):
        read_scanned(write_gso(tmp_path / "a", texture=b"no image"))
    with pytest.raises(InvalidInput, match="texture that is damaged"):
        read_scanned(write_gso(tmp_path / "b", texture=poster()[:-40]))
    folder = write_gso(tmp_path / "c")
    (folder / "meshes" / "model.mtl").write_text("newmtl material_0\n")
    with pytest.raises(InvalidInput, match="neither texture nor colour"):
        read_scanned(folder)
    (folder / "meshes" / "model.mtl").write_text("newmtl material_0\nKd 0.25 0.5 1\n")
    assert read_scanned(folder).materials[0].factor.tolist() == [0.25, 0.5, 1]
    (tmp_path / "d.zip").write_bytes(b"no zip")
    assert scanned_mesh(tmp_path / "d.zip") is None
    with pytest.raises(InvalidInput, match="not a zip"):
        read_scanned(tmp_path / "d.zip")


def test_a_folder_of_scanned_objects_is_evaluated_like_one_of_glbs(tmp_path):
    folder = write_gso(tmp_path / "in" / "No.5_Poster")
    zipped(folder, tmp_path / "in" / "Other.zip")
    (tmp_path / "in" / "readme").mkdir()
    assert [object_name(p) for p in objects_of(tmp_path / "in")] == ["No.5_Poster", "Other"]
    assert objects_of(folder) == [folder]
    thing = read_object(folder)

    def unplaced(views):
        count = len(thing.vertices)
        normals, texture = np.tile([[0.0, 0, 1]], (count, 1)), np.zeros((4, 4, 3), np.uint8)
        return TexturedMesh(thing.vertices, thing.faces, normals, thing.uvs, texture)

    settings = EvaluationSettings(num_views=4, image_size=32)
    report = evaluate_folder(tmp_path / "in", tmp_path / "out", unplaced, settings, {})
    assert [row["name"] for row in report["objects"]] == ["No.5_Poster", "Other"]
    assert (tmp_path / "out" / "No.5_Poster.glb").is_file()


def test_two_objects_of_one_name_are_refused(tmp_path):
    folder = write_gso(tmp_path / "Poster")
    zipped(folder, tmp_path / "Poster.zip")
    with pytest.raises(InvalidInput, match="more than one object named Poster"):
        objects_of(tmp_path)
    shutil.rmtree(folder)
    assert [p.name for p in objects_of(tmp_path)] == ["Poster.zip"]
