"""The network's codes, and what may and may not depend on what."""

import math

import pytest
import torch

from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.multiview.starter_generator import rig_cameras
from mvgamba.multiview.starter_model import load_starter, save_starter
from mvgamba.multiview.starter_network import StarterConfig, camera_code, from_signal, ray_code, to_signal
from tests.mvgamba.multiview.tiny import tiny_model

SENTENCES = ["a red barrel", "a barrel"]


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    cameras = rig_cameras(size=16)
    return {
        "noisy": torch.randn(2, 5, 4, 16, 16),
        "time": torch.tensor([0.2, 0.7]),
        "cameras": camera_code(cameras).expand(2, -1, -1),
        "rays": ray_code(cameras, 2).expand(2, -1, -1, -1),
        "sentences": SENTENCES,
    }


def test_a_camera_is_coded_by_its_matrix_with_its_place_on_the_unit_sphere():
    code = camera_code(rig_cameras(size=16)).unflatten(-1, (4, 4))
    # front on +Z, right on +X, back on -Z, left on -X; each looks at the origin, up is +Y
    places = torch.tensor(
        [[0.0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0], [math.sqrt(0.125), math.sqrt(0.75), math.sqrt(0.125)]]
    )
    torch.testing.assert_close(code[:, :3, 3], places)
    torch.testing.assert_close(code[:, :3, 2], places)
    torch.testing.assert_close(code[:4, :3, 1], torch.tensor([0.0, 1, 0]).expand(4, 3))


def test_rays_pass_the_middle_of_their_patch():
    rays = ray_code(rig_cameras(size=16), 2)[0]
    # upper left patch of the front view: to the left of the axis, above it, away from the camera
    assert rays[0, 0] < 0 and rays[0, 1] > 0 and rays[0, 2] < 0
    tangent = math.tan(math.radians(49.1) / 2) / 2
    torch.testing.assert_close(rays[0, :2] / -rays[0, 2], torch.tensor([-tangent, tangent]))
    torch.testing.assert_close(rays[:, 3:], torch.linalg.cross(torch.tensor([0.0, 0, 1]).expand(4, 3), rays[:, :3]))


def test_signals_turn_back_into_colours_and_alpha():
    rgb, alpha = torch.rand(3, 4, 4), 0.1 + 0.9 * torch.rand(1, 4, 4)
    colors, coverage = from_signal(to_signal(rgb, alpha))
    torch.testing.assert_close(coverage, alpha)
    torch.testing.assert_close(colors, rgb, atol=1e-5, rtol=1e-4)


def test_pictures_come_back_from_patches():
    model = tiny_model().network
    views = torch.randn(2, 3, 4, 16, 16)
    assert torch.equal(model._pixels(model._patches(views)), views)
    # a patch is a square of the picture, its channels together
    assert torch.equal(model._patches(views)[0, 0, 1], views[0, 0, :, :8, 8:].flatten())


def test_rows_of_a_batch_know_nothing_of_each_other(inputs):
    model = tiny_model()
    both = model(**inputs)
    one = model(**{name: value[1:] for name, value in inputs.items()})
    torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=1e-4)


def test_views_in_another_order_give_the_same_views(inputs):
    model, order = tiny_model(), [3, 0, 4, 1, 2]
    moved = {**inputs, **{name: inputs[name][:, order] for name in ("noisy", "cameras", "rays")}}
    torch.testing.assert_close(model(**moved), model(**inputs)[:, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("joint", [True, False])
def test_views_see_each_other_only_when_they_are_joint(inputs, joint):
    model = tiny_model()
    changed = {**inputs, "noisy": inputs["noisy"].clone()}
    changed["noisy"][:, 3] += 1
    away = (model(**changed, joint=joint) - model(**inputs, joint=joint)).abs().amax((0, 2, 3, 4))
    assert bool((away[[0, 1, 2, 4]] > 1e-4).all()) if joint else bool((away[[0, 1, 2, 4]] < 1e-6).all())
    assert away[3] > 1e-4


def test_words_time_cameras_and_picture_each_change_what_is_said(inputs):
    model = tiny_model()
    picture = torch.randn(2, 4, 16, 16)
    plain = model(**inputs)
    for change in (
        {"sentences": ["a barrel", "a red barrel"]},
        {"time": inputs["time"] + 0.1},
        {"cameras": inputs["cameras"].roll(1, 1)},
        {"rays": inputs["rays"].roll(1, 1)},
        {"picture": picture},
    ):
        assert (model(**{**inputs, **change}) - plain).abs().amax((1, 2, 3, 4)).min() > 1e-4, change.keys()


def test_a_row_without_a_picture_is_as_in_a_batch_without_pictures(inputs):
    model, picture = tiny_model(), torch.randn(2, 4, 16, 16)
    mixed = model(**inputs, picture=picture, has_picture=torch.tensor([True, False]))
    torch.testing.assert_close(mixed[1], model(**inputs)[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mixed[0], model(**inputs, picture=picture)[0], atol=1e-5, rtol=1e-4)


def test_a_new_model_says_nothing_yet(inputs):
    assert not bool(tiny_model(said_at_once=False)(**inputs).any())


def test_a_file_gives_the_model_back(tmp_path, inputs):
    model = tiny_model()
    save_starter(model, tmp_path / "starter.safetensors")
    again = load_starter(tmp_path / "starter.safetensors")
    assert again.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float()), name
    torch.testing.assert_close(again(**inputs), model(**inputs), atol=0.01, rtol=0.01)


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "starter.safetensors"
    with pytest.raises(WeightsMissing, match=r"starter\.safetensors does not exist"):
        load_starter(path)
    save_starter(tiny_model(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsCorrupt):
        load_starter(path)
    path.write_bytes(b"not weights")
    with pytest.raises(WeightsCorrupt):
        load_starter(path)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInput, match="image_size is 60"):
        StarterConfig(image_size=60)
    with pytest.raises(InvalidInput, match="width is 30"):
        StarterConfig(width=30)
