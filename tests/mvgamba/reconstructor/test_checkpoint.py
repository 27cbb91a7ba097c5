"""Checkpoints of the published layout, made here at a small size, and files that are not what they should be."""

import pytest
import torch

from mvgamba.errors import WeightsCorrupt, WeightsMissing
from mvgamba.reconstructor.checkpoint import load_checkpoint, network_from_weights, save_checkpoint
from mvgamba.reconstructor.mvgamba_reconstructor import MVGambaReconstructor
from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.presets import NetworkConfig

C, LAYERS, PATCH, GRID, HIDDEN = 32, 2, 14, 2, 48


def published(*, scale: int = 3, hard: bool = False, lpips: bool = True) -> dict[str, torch.Tensor]:
    """Random weights with every name and shape that the released code saves, for a width of 32 and 2 layers."""
    e, r, n = 2 * C, C // 16, 16
    shapes: dict[str, tuple[int, ...]] = {
        "map_image.weight": (C, 9, PATCH, PATCH),
        "map_image.bias": (C,),
        "transformer.pos_embed": (16 * GRID * GRID, C),
        "transformer.norm_f.weight": (C,),
        "decoder.mlp_net.layers.0.weight": (HIDDEN, C),
        "decoder.mlp_net.layers.0.bias": (HIDDEN,),
        "decoder.mlp_net.layers.2.weight": (C, HIDDEN),
        "decoder.mlp_net.layers.2.bias": (C,),
    }
    for name, rows in {"xyz": 63, "opacity": 1, "scale": scale, "rot": 32, "rgb": 3}.items():
        shapes[f"decoder.gs_layer.{name}.weight"] = (rows, C)
        shapes[f"decoder.gs_layer.{name}.bias"] = (rows,)
    for i in range(LAYERS):
        block = f"transformer.layers.{i}.mamba_block."
        mixer = {
            "A_log": (e, n),
            "D": (e,),
            "in_proj.weight": (2 * e, C),
            "conv1d.weight": (e, 1, 4),
            "conv1d.bias": (e,),
            "x_proj.weight": (r + 2 * n, e),
            "dt_proj.weight": (e, r),
            "dt_proj.bias": (e,),
            "out_proj.weight": (C, e),
        }
        shapes |= {f"{block}mixer.{name}": shape for name, shape in mixer.items()} | {f"{block}norm.weight": (C,)}
    generator = torch.Generator().manual_seed(0)
    weights = {f"model.{name}": 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    weights["model.decoder.coords"] = torch.linspace(-0.8, 0.8, 21).repeat(3, 1)
    if hard:
        rows = torch.nn.functional.normalize(torch.randn(32, 4, generator=generator), dim=-1)
        weights["model.decoder.get_rot.canonical_quaternions"] = rows
    if lpips:
        weights["lpips_loss.net.slice1.0.weight"] = torch.zeros(3)
    return weights


def surfels(network: MVGambaNetwork):
    images = torch.randn(1, 4, 9, GRID * PATCH, GRID * PATCH, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return network(images)


@pytest.fixture
def checkpoint(tmp_path):
    def write(weights, **more):
        path = tmp_path / "mvgamba.pth"
        torch.save({"model": weights, "optimizer": {"state": {}}, "scheduler": {}, "epoch": 3, **more}, path)
        return path

    return write


def test_sizes_follow_from_the_shapes_of_a_published_checkpoint(checkpoint):
    network = load_checkpoint(checkpoint(published()))
    assert network.config == NetworkConfig(
        width=C, num_layers=LAYERS, image_size=28, patch_size=PATCH, mlp_width=HIDDEN, scale_width=3
    )
    assert network.config.scan_order == "code"
    assert not network.training


def test_every_weight_arrives(checkpoint):
    weights = published(hard=True)
    state = load_checkpoint(checkpoint(weights)).state_dict()
    expected = {name.removeprefix("model."): v for name, v in weights.items() if not name.startswith("lpips")}
    assert set(state) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
def test_other_prefixes_and_a_bare_dictionary_are_accepted(tmp_path, prefix):
    weights = {prefix + name.removeprefix("model."): v for name, v in published(lpips=False).items()}
    path = tmp_path / "bare.pth"
    torch.save(weights, path)
    expected = surfels(network_from_weights(published()))
    torch.testing.assert_close(surfels(load_checkpoint(path)).means, expected.means)


def test_three_scales_become_the_first_two_or_the_misread_ones(checkpoint):
    path = checkpoint(published())
    three = network_from_weights(published()).decoder
    kept = surfels(load_checkpoint(path)).scales
    misread = surfels(load_checkpoint(path, overrides={"scale_rows": "flat_alias"})).scales
    assert kept.shape == misread.shape == (1, 64, 2)
    assert three.gs_layer["scale"].out_features == 3
    torch.testing.assert_close(misread[0, 0], kept[0, 0])
    # surfel 3 of the misread array gets the numbers 6 and 7: the first two of surfel 2
    torch.testing.assert_close(misread[0, 3], kept[0, 2])


def test_a_checkpoint_with_two_scales_needs_no_third(checkpoint):
    assert surfels(load_checkpoint(checkpoint(published(scale=2)))).scales.shape == (1, 64, 2)


def test_the_table_of_rotations_in_the_file_is_the_one_that_is_used(checkpoint):
    weights = published(hard=True)
    network = load_checkpoint(checkpoint(weights))
    assert network.config.rotation_head == "rotnet_hard"
    table = weights["model.decoder.get_rot.canonical_quaternions"]
    distance = (surfels(network).quats[0][:, None] - table).norm(dim=-1).amin(-1)
    assert distance.max() < 1e-5


@pytest.mark.parametrize("head", ["rotnet_soft", "rotnet_hard", "quat", "sixd"])
@pytest.mark.parametrize("order", ["paper", "code"])
def test_what_is_saved_comes_back(tmp_path, head, order):
    torch.manual_seed(0)
    config = NetworkConfig(
        width=C, num_layers=LAYERS, image_size=28, mlp_width=HIDDEN, rotation_head=head, scan_order=order
    )
    network = MVGambaNetwork(config).eval()
    save_checkpoint(network, tmp_path / "own.pth")
    back = load_checkpoint(tmp_path / "own.pth")
    assert back.config.scan_order == order
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(surfels(back), name), getattr(surfels(network), name)), name


def test_saved_names_are_the_published_ones(tmp_path):
    config = NetworkConfig(
        width=C, num_layers=LAYERS, image_size=28, mlp_width=HIDDEN, rotation_head="rotnet_hard", scale_width=3
    )
    save_checkpoint(MVGambaNetwork(config), tmp_path / "own.pth")
    saved = torch.load(tmp_path / "own.pth", weights_only=True)["model"]
    expected = published(hard=True, lpips=False)
    assert {n: v.shape for n, v in saved.items()} == {n: v.shape for n, v in expected.items()}


def test_a_loaded_network_can_be_trained_on(checkpoint):
    network = load_checkpoint(checkpoint(published())).train()
    network(torch.randn(1, 4, 9, 28, 28)).means.sum().backward()
    assert all(p.grad is not None for n, p in network.named_parameters() if "gs_layer" not in n)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("transformer.norm_f.weight", None, "no transformer.norm_f.weight"),
        ("map_image.weight", None, "no map_image.weight"),
        ("map_image.weight", (C, 3, PATCH, PATCH), "takes 3 channels, expected 9"),
        ("transformer.pos_embed", (60, C), "60 rows"),
        ("decoder.gs_layer.scale.weight", (4, C), "4 rows, expected 2 or 3"),
        ("decoder.gs_layer.rot.weight", (5, C), "5 rows"),
        ("decoder.mlp_net.layers.2.bias", (7,), r"layers\.2\.bias has shape \(7,\), expected \(32,\)"),
        ("transformer.layers.1.mamba_block.mixer.D", (9,), r"mixer\.D has shape \(9,\), expected \(64,\)"),
        ("transformer.layers.5.mamba_block.norm.weight", (C,), r"layers \[0, 1, 5\]"),
        ("decoder.extra", (2,), r"decoder\.extra with shape \(2,\)"),
    ],
)
def test_a_wrong_weight_is_named_with_its_shape(checkpoint, name, change, sentence):
    weights = published()
    if change is None:
        del weights["model." + name]
    else:
        weights["model." + name] = torch.zeros(change)
    with pytest.raises(WeightsCorrupt, match=sentence):
        load_checkpoint(checkpoint(weights))


def test_weights_that_are_not_finite_are_refused(checkpoint):
    weights = published()
    weights["model.transformer.norm_f.weight"][3] = float("nan")
    with pytest.raises(WeightsCorrupt, match=r"norm_f\.weight holds numbers that are not finite"):
        load_checkpoint(checkpoint(weights))


class Boom:
    def __reduce__(self):
        return (print, ("code of a checkpoint must not run",))


def test_a_checkpoint_that_carries_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"model": published(), "extra": Boom()}, path)
    with pytest.raises(WeightsCorrupt, match=r"evil\.pth"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsCorrupt, match=r"broken\.pth"):
        load_checkpoint(path)


def test_a_cut_off_file_is_refused(checkpoint):
    path = checkpoint(published())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsCorrupt):
        load_checkpoint(path)


def test_without_weights_the_reconstructor_says_so(tmp_path):
    with pytest.raises(WeightsMissing, match="needs trained weights and none are installed"):
        MVGambaReconstructor()
    with pytest.raises(WeightsMissing, match=r"nowhere\.pth"):
        MVGambaReconstructor(tmp_path / "nowhere.pth")
