"""Renders of Objaverse: cameras and pictures as they were drawn, and nothing replaced in silence."""

import numpy as np
import pytest
import torch

from mvgamba.data import Source
from mvgamba.data.corpus_cameras import c2w_from_blender_opencv, c2w_from_blender_w2c
from mvgamba.data.renders import FOVY, ObjaverseRenders
from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput
from mvgamba.reconstructor.normalise import normalise_views
from mvgamba.types import PosedViews
from tests.mvgamba.data.layouts import (
    assert_pictures_show,
    drawn,
    drawn_number,
    lopsided,
    write_npy_layout,
    write_pose_layout,
)

ANGLES = [(15.0 * ((7 * i) % 24), 5.0 + 25 * i / 24) for i in range(25)]
"""As in the paper: azimuths by 15 degrees, elevations of 5 to 30."""
WRITERS = {"npy": write_npy_layout, "pose": write_pose_layout}


@pytest.fixture(scope="module")
def thing(tmp_path_factory):
    return lopsided(tmp_path_factory.mktemp("thing"))


@pytest.fixture(scope="module")
def views(thing):
    return drawn(thing, ANGLES, fovy=FOVY, size=64)


@pytest.fixture(params=list(WRITERS))
def source(request, views, tmp_path):
    WRITERS[request.param](tmp_path / "thing", views, ANGLES)
    return ObjaverseRenders(tmp_path, layout=request.param)


def test_hand_written_cameras_stand_where_they_should():
    # in Blender's world at (0, -2, 0), looking at the origin, upright: our front
    w2c = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, -2]])
    front = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])
    np.testing.assert_allclose(c2w_from_blender_w2c(w2c, "it"), front, atol=1e-12)
    opencv = np.array([[1.0, 0, 0, 0], [0, 0, 1, -2], [0, -1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(c2w_from_blender_opencv(opencv, "it"), front, atol=1e-12)
    # at (3, 0, 0): our +X, a quarter turn
    w2c = np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, -3]])
    side = np.array([[0.0, 0, 1, 3], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(c2w_from_blender_w2c(w2c, "it"), side, atol=1e-12)


def test_cameras_and_pictures_are_those_that_were_drawn(source, views, thing):
    assert isinstance(source, Source) and source.names == ["thing"]
    taken = source.views(0, 3, size=64)
    assert taken.draw is None and taken.inputs.num_views == 4 and taken.others.num_views == 6
    numbers = []
    for part in (taken.inputs, taken.others):
        for i in range(part.num_views):
            number = drawn_number(part.cameras.c2w[i], views)
            torch.testing.assert_close(part.alpha[i], views.alpha[number], atol=0.003, rtol=0)
            torch.testing.assert_close(part.rgb[i], views.rgb[number], atol=0.003, rtol=0)
            torch.testing.assert_close(part.cameras.intrinsics[i], views.cameras.intrinsics[number])
            numbers.append(number)
        assert_pictures_show(part, thing.vertices)
    assert len(set(numbers)) == 10
    turns = [(ANGLES[n][0] - ANGLES[numbers[0]][0]) % 360 for n in numbers[:4]]
    assert turns == pytest.approx([0, 90, 180, 270], abs=16)


def test_silhouettes_carve_the_object_where_it_is(source, thing):
    taken = source.views(0, 0, size=64)
    parts = zip((taken.inputs.rgb, taken.others.rgb), (taken.inputs.alpha, taken.others.alpha), strict=True)
    rgb, alpha = (torch.cat(x) for x in zip(*parts, strict=True))
    cameras = taken.inputs.cameras
    both = type(cameras)(
        torch.cat([cameras.c2w, taken.others.cameras.c2w]),
        torch.cat([cameras.intrinsics, taken.others.cameras.intrinsics]),
        64,
        64,
    )
    hull = normalise_views(PosedViews(rgb, alpha, both))
    low, high = (hull.to_world.apply(x.double()).numpy() for x in (hull.low, hull.high))
    # from level views the hull is tight at the sides, and never smaller than the object
    true_low, true_high = thing.bounds
    assert (low < true_low + 0.02).all() and (high > true_high - 0.02).all()
    assert np.abs(low - true_low)[[0, 2]].max() < 0.12 and np.abs(high - true_high)[[0, 2]].max() < 0.12


def test_variants_differ_and_repeat_and_sizes_are_resized(source, views):
    first, again, other = (source.views(0, v, size=32) for v in (5, 5, 6))
    assert torch.equal(first.inputs.rgb, again.inputs.rgb) and torch.equal(first.others.rgb, again.others.rgb)
    assert not torch.equal(first.inputs.cameras.c2w, other.inputs.cameras.c2w)
    assert first.inputs.rgb.shape == (4, 3, 32, 32)
    number = drawn_number(first.inputs.cameras.c2w[0], views)
    half = views.alpha[number].reshape(32, 2, 32, 2).mean((1, 3))[None]
    torch.testing.assert_close(first.inputs.alpha[0], half, atol=0.003, rtol=0)


@pytest.mark.parametrize(("layout", "wrong"), [("npy", {"opencv": True}), ("pose", {"opengl": True})])
def test_camera_axes_of_another_kind_are_refused(views, tmp_path, layout, wrong):
    WRITERS[layout](tmp_path / "thing", views, ANGLES, **wrong)
    with pytest.raises(InvalidCameras, match="looks away from the origin"):
        ObjaverseRenders(tmp_path, layout=layout).views(0, 0, size=32)


def test_what_is_missing_or_broken_is_named(source, tmp_path):
    image = "012.png" if source.layout == "npy" else "rgb/012.png"
    camera = "007.npy" if source.layout == "npy" else "pose/007.txt"
    numbers = (tmp_path / "thing" / camera).read_bytes()
    (tmp_path / "thing" / camera).write_bytes(numbers[:20])
    with pytest.raises(InvalidCameras, match="007"):
        source.views(0, 0, size=32)
    (tmp_path / "thing" / camera).write_bytes(numbers)
    whole = (tmp_path / "thing" / image).read_bytes()
    (tmp_path / "thing" / image).write_bytes(whole[: len(whole) // 2])
    everything = ObjaverseRenders(tmp_path, layout=source.layout, num_others=21)
    with pytest.raises(InvalidImage, match="012.png is damaged"):
        everything.views(0, 0, size=32)
    (tmp_path / "thing" / image).unlink()
    with pytest.raises(InvalidImage, match="012.png does not exist; every object must have 25 views"):
        source.views(0, 0, size=32)


def test_settings_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="must be one of npy, pose"):
        ObjaverseRenders(tmp_path, layout="exr")
    with pytest.raises(InvalidInput, match="radians"):
        ObjaverseRenders(tmp_path, fovy=49.1)
    with pytest.raises(InvalidInput, match="holds no folders"):
        _ = ObjaverseRenders(tmp_path).names
