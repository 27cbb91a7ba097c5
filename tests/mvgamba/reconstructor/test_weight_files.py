"""Files of weights from elsewhere: taken in, converted, listed, loaded, and refused where they are not what they should be."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from mvgamba import weights
from mvgamba.__main__ import main
from mvgamba.cameras import orbit_cameras
from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.reconstructor.checkpoint import load_checkpoint, network_from_weights, save_safetensors
from mvgamba.reconstructor.mvgamba_reconstructor import mvgamba_from_settings
from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.presets import PRESETS
from mvgamba.reconstructor.protocol import ReconstructorSettings
from mvgamba.reconstructor.ray_network import RayConfig, RayNetwork
from mvgamba.reconstructor.ray_reconstructor import ray_from_settings, save_ray_network
from mvgamba.reconstructor.weight_files import import_weights
from tests.mvgamba.conftest import box, photograph, write_capture
from tests.mvgamba.reconstructor.test_checkpoint import Boom, published, surfels

FIELDS = ("means", "quats", "scales", "opacities", "colors")


def write_released(path, values, **more):
    """As the released code writes it: weights of the loss, the optimiser and the epoch are there too."""
    torch.save({"model": values, "optimizer": {"state": {}}, "scheduler": {}, "epoch": 3, **more}, path)
    return path


@pytest.mark.parametrize(("scale", "hard"), [(3, False), (2, True)])
def test_a_released_checkpoint_gives_the_same_surfels_after_import(tmp_path, scale, hard, monkeypatch, capsys):
    mine = tmp_path / "mine"
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(mine))
    file = write_released(tmp_path / "mvgamba.pth", published(scale=scale, hard=hard))
    assert main(["weights", "import", str(file), "--licence", "MIT"]) == 0
    assert "--reconstructor mvgamba" in capsys.readouterr().out
    assert main(["weights", "list", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (listed,) = [line for line in lines if line["name"] == "mvgamba"]
    assert (listed["name"], listed["model"], listed["licence"]) == ("mvgamba", "mvgamba", "MIT")
    assert listed["is_default"] and listed["path"] == str(mine / "mvgamba.safetensors")
    assert main(["weights", "verify"]) == 0
    assert "mvgamba: whole" in capsys.readouterr().out

    before = surfels(network_from_weights(published(scale=scale, hard=hard)))
    loaded = mvgamba_from_settings(ReconstructorSettings(weights_folder=mine))
    named = load_checkpoint(mine / "mvgamba.safetensors")
    for field in FIELDS:
        for network in (loaded.network, named):
            torch.testing.assert_close(getattr(surfels(network), field), getattr(before, field), rtol=0, atol=1e-6)
    assert json.loads((mine / "mvgamba.json").read_text())["config"]["scale_width"] == scale
    card = (mine / "mvgamba.md").read_text()
    assert "| learned from | unknown |" in card and "| licence | MIT |" in card and listed["sha256"] in card


def test_views_become_a_mesh_by_an_imported_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MVGAMBA_WEIGHTS", str(tmp_path / "mine"))
    turns = [i * math.pi / 2 for i in range(4)]
    cameras = orbit_cameras(turns, [0.0] * 4, radius=2.4, fovy=0.8, height=64, width=64)
    write_capture(tmp_path / "capture", photograph(*box(torch.zeros(3), torch.tensor([0.6, 0.4, 0.3])), cameras))
    quick = ("--quality", "draft", "--faces", "500", "--texture", "128", "--no-refine", "--json")
    command = ["views", str(tmp_path / "capture"), "-o", str(tmp_path / "o.glb"), "--reconstructor", "mvgamba", *quick]
    assert main(command) == 1
    assert "WEIGHTS_MISSING" in capsys.readouterr().out
    assert main(["weights", "import", str(write_released(tmp_path / "mvgamba.pth", published()))]) == 0
    for more in ([], ["--weights", str(tmp_path / "mine" / "mvgamba.safetensors")]):
        assert main(command + more) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["reconstructor"] == "mvgamba"


def test_the_whole_network_of_the_paper_is_taken_in(tmp_path):
    with torch.device("meta"):
        network = MVGambaNetwork(PRESETS["paper"].replace(scale_width=3))
    # zeros that take no room: one number seen from everywhere
    values = {f"model.{name}": torch.zeros(1).expand(v.shape) for name, v in network.state_dict().items()}
    values["model.decoder.coords"] = torch.linspace(-1, 1, 21).repeat(3, 1)
    file = write_released(tmp_path / "mvgamba.pth", values, config={"scan_order": "paper"})
    assert file.stat().st_size < 200_000
    taken = import_weights(file, tmp_path / "mine")
    assert "35,178,086 parameters" in taken.about
    assert taken.path.stat().st_size > 4 * 35_178_086
    header = json.loads((tmp_path / "mine" / "mvgamba.json").read_text())
    wanted = PRESETS["paper"].replace(scale_width=3)
    assert header == {"kind": "mvgamba", "config": json.loads(json.dumps(wanted.__dict__))}
    assert load_checkpoint(taken.path).config == wanted


def test_safetensors_of_the_published_layout_need_no_header(tmp_path):
    file = tmp_path / "theirs.safetensors"
    save_file({name: v for name, v in published().items() if not name.startswith("lpips")}, file)
    taken = import_weights(file, tmp_path / "mine", name="mine")
    assert taken.model == "mvgamba" and taken.licence == "unknown"
    torch.testing.assert_close(
        surfels(load_checkpoint(taken.path)).means, surfels(network_from_weights(published())).means
    )
    # and what was written once can be written again without change (the file's header has no fixed order)
    before = load_file(taken.path)
    again = load_file(import_weights(taken.path, tmp_path / "mine", name="mine").path)
    assert before.keys() == again.keys() and all(torch.equal(before[name], again[name]) for name in before)


def test_ray_weights_are_copied_and_used_when_preferred(tmp_path):
    network = RayNetwork(RayConfig(width=32, num_layers=1))
    file = tmp_path / "small.safetensors"
    save_ray_network(network, file)
    mine = tmp_path / "mine"
    taken = import_weights(file, mine)
    assert taken.model == "ray" and taken.path.read_bytes() == file.read_bytes()
    assert ray_from_settings(ReconstructorSettings(weights_folder=mine)).network.config.width > 32
    import_weights(file, mine, preferred=True)
    assert ray_from_settings(ReconstructorSettings(weights_folder=mine)).network.config == network.config
    taken.path.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsCorrupt, match="small"):
        ray_from_settings(ReconstructorSettings(weights_folder=mine))


def test_weights_of_one_network_are_not_taken_for_those_of_the_other(tmp_path):
    save_ray_network(RayNetwork(RayConfig(width=32, num_layers=1)), tmp_path / "ray.safetensors")
    with pytest.raises(WeightsCorrupt, match="of the model 'ray', expected 'mvgamba'"):
        load_checkpoint(tmp_path / "ray.safetensors")
    save_safetensors(network_from_weights(published()), tmp_path / "published.safetensors")
    with pytest.raises(WeightsCorrupt, match="ray network"):
        ray_from_settings(ReconstructorSettings(weights=tmp_path / "published.safetensors"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"model": published() | {"model.x": Boom()}},
            r"holds more than tensors: to read it, \S*print would .* called",
        ),
        ({"model": published() | {"model.epoch": 3}}, "holds 'model.epoch' of type int among the weights"),
        ({"state": torch.zeros(2), "epoch": 3}, "of type int among the weights"),
        ([torch.zeros(2)], "holds a list, expected a dictionary of tensors"),
        ({"model": {"w": torch.zeros(2)}}, "no map_image.weight"),
    ],
)
def test_a_pickle_that_is_not_of_tensors_is_refused(tmp_path, values, words, capsys):
    torch.save(values, tmp_path / "evil.pth")
    with pytest.raises(WeightsCorrupt, match=words):
        import_weights(tmp_path / "evil.pth", tmp_path / "mine")
    assert capsys.readouterr().out == "" and not (tmp_path / "mine").exists()


def test_what_cannot_be_imported_is_said(tmp_path):
    mine, file = tmp_path / "mine", write_released(tmp_path / "a.pth", published())
    with pytest.raises(WeightsMissing, match=r"no file .*nowhere\.pth"):
        import_weights(tmp_path / "nowhere.pth", mine)
    with pytest.raises(InvalidInput, match=r"'\.\./a' cannot be used; give --name"):
        import_weights(file, mine, name="../a")
    with pytest.raises(InvalidInput, match="come with the package"):
        import_weights(file, mine, name=weights.shipped()[0].name)
    with pytest.raises(InvalidInput, match="kind is 'generator'; it must be one of reconstructor"):
        import_weights(file, mine, kind="generator")
    (tmp_path / "b.safetensors").write_bytes(b"not one")
    with pytest.raises(WeightsCorrupt, match=r"b\.safetensors is not a \.safetensors file"):
        import_weights(tmp_path / "b.safetensors", mine)
    save_file({"w": torch.zeros(2)}, tmp_path / "c.safetensors")
    with pytest.raises(WeightsCorrupt, match="What can be imported"):
        import_weights(tmp_path / "c.safetensors", mine)
    assert not mine.exists()


def test_the_file_holds_the_weights_without_those_of_a_loss(tmp_path):
    taken = import_weights(write_released(tmp_path / "a.pth", published(hard=True)), tmp_path / "mine")
    expected = {n.removeprefix("model."): v for n, v in published(hard=True, lpips=False).items()}
    found = load_file(taken.path)
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
