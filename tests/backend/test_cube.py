"""The playing pipeline's result is a mesh like any other."""

import io

import numpy as np
import pytest
from PIL import Image

from mvgamba_backend.engine.cube import checker_png, cube_glb
from mvgamba_backend.engine.fake import region_of, script_of, seed_color
from mvgamba_backend.spec import CameraSpec, CaptureSource, JobSpec, TextSource, ViewSpec

trimesh = pytest.importorskip("trimesh")


def test_the_cube_is_closed_and_faces_outwards():
    glb = cube_glb(np.array([1.0, 2.0, 3.0]), 0.25, texture=checker_png(64, (200, 100, 50)))
    mesh = trimesh.load(io.BytesIO(glb), file_type="glb", force="mesh")
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces)
    solid.merge_vertices()
    assert solid.is_watertight
    assert solid.volume == pytest.approx(0.125)
    assert solid.bounds == pytest.approx(np.array([[0.75, 1.75, 2.75], [1.25, 2.25, 3.25]]))
    assert (np.einsum("fi,fi->f", mesh.face_normals, mesh.vertex_normals[mesh.faces[:, 0]]) > 0.99).all()
    assert mesh.visual.uv.min() == 0
    assert mesh.visual.uv.max() == 1


def test_the_checker_is_a_picture_of_eight_by_eight_fields():
    pixels = np.asarray(Image.open(io.BytesIO(checker_png(64, (200, 100, 50)))))
    assert pixels.shape == (64, 64, 3)
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert pixels[0, 8].tolist() == pixels[8, 0].tolist() == [100, 50, 25]


def test_the_same_seed_gives_the_same_colour():
    assert seed_color(3) == seed_color(3) != seed_color(4)


def test_the_prompt_or_the_label_directs():
    assert script_of(JobSpec(TextSource("a barrel #fail:DISK_FULL #log"))) == {"fail": "DISK_FULL", "log": ""}
    assert script_of(JobSpec(CaptureSource(()), label="Barrel #slow:2")) == {"slow": "2"}


def test_the_region_of_parallel_cameras_lies_before_them():
    c2w = (1.0, 0, 0, 4.0, 0, 1.0, 0, 5.0, 0, 0, 1.0, 6.0, 0, 0, 0, 1.0)
    view = ViewSpec("", CameraSpec(c2w, 32.0, 32.0, 8.0, 8.0, 16, 16))
    center, half = region_of(JobSpec(CaptureSource((view, view))))
    assert np.isfinite(center).all()
    assert half > 0
    assert center[:2] == pytest.approx([4, 5])
