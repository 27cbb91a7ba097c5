"""LPIPS with random weights of the published layout: facts that hold for any weights, and files that are not right."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mvgamba.__main__ import main
from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.evaluation.lpips import Lpips, load_lpips
from mvgamba.evaluation.run import EvaluationSettings, evaluate_folder
from mvgamba.io.glb import read_glb
from tests.mvgamba.data.objects import write_corpus
from tests.mvgamba.evaluation.lpips_weights import backbone, linear, write_lpips

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_lpips(tmp_path_factory.mktemp("lpips"))


@pytest.fixture(scope="module")
def lpips(weights):
    return load_lpips(weights)


def pictures(count: int = 2, size: int = 32, *, seed: int = 0):
    """Smooth ones in [-1, 1]."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(coarse, (size, size), mode="bilinear")


def straightforward(a, b, weights):
    """Written down from section 3 of the paper and the constants of version 0.1, on one pair."""
    total = 0.0
    mean, spread = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = (((p - mean[:, None, None]) / spread[:, None, None])[None].double() for p in (a, b))
    for stage, convolutions in enumerate(STAGES):
        if stage > 0:
            x, y = F.max_pool2d(x, 2, 2), F.max_pool2d(y, 2, 2)
        for index in convolutions:
            kernel, bias = (weights[f"features.{index}.{name}"].double() for name in ("weight", "bias"))
            x, y = (F.relu(F.conv2d(p, kernel, bias, padding=1)) for p in (x, y))
        u, v = (p / ((p * p).sum(1, keepdim=True).sqrt() + 1e-10) for p in (x, y))
        importance = weights[f"lin{stage}.model.1.weight"].double()[0, :, 0, 0]
        total += float(torch.einsum("c,nchw->nhw", importance, (u - v) ** 2).mean())
    return total


def test_values_are_those_of_the_formula(lpips):
    a, b = pictures(seed=1), pictures(seed=2)
    expected = [straightforward(a[i], b[i], backbone() | linear()) for i in range(2)]
    assert expected[0] != pytest.approx(expected[1], rel=0.01)
    # single against double precision through 13 layers
    assert lpips(a, b).tolist() == pytest.approx(expected, rel=1e-4)


def test_it_is_a_distance_that_grows_with_noise(lpips):
    a, b = pictures(seed=1), pictures(seed=2)
    assert torch.equal(lpips(a, a), torch.zeros(2))
    assert torch.equal(lpips(a, b), lpips(b, a))
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(3))
    by_noise = torch.stack([lpips(a, a + strength * noise) for strength in (0.0, 0.02, 0.1, 0.5)])
    assert bool((by_noise >= 0).all()) and bool((by_noise.diff(dim=0) > 0).all())


def test_names_and_number_of_weights_are_the_published_ones():
    network = Lpips()
    published = backbone() | linear()
    assert list(network.state_dict()) == list(published)
    assert {n: v.shape for n, v in network.state_dict().items()} == {n: v.shape for n, v in published.items()}
    assert sum(p.numel() for p in network.parameters()) == 14_714_688 + 1_472
    assert not any(p.requires_grad for p in network.parameters())


def test_the_gradient_reaches_the_pictures_and_nothing_else(lpips):
    a, b = pictures(1, 16, seed=1).double().requires_grad_(), pictures(1, 16, seed=2).double()
    double = load_lpips_like(lpips).double()
    double(a, b).sum().backward()
    assert a.grad is not None and all(p.grad is None for p in double.parameters())
    direction = torch.randn(a.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with torch.no_grad():
        step = 1e-6 * direction
        numerical = float((double(a + step, b) - double(a - step, b)).sum()) / 2e-6
    # kinks of ReLU and of the pools lie between the two points, a few of thousands
    assert float((a.grad * direction).sum()) == pytest.approx(numerical, rel=1e-3)


def test_pixels_without_any_feature_have_a_finite_gradient(lpips):
    silent = load_lpips_like(lpips)
    silent.features[0].bias.fill_(-100.0)
    a = pictures(1, 16).requires_grad_()
    distance = silent(a, pictures(1, 16, seed=1))
    distance.sum().backward()
    assert a.grad is not None and bool(a.grad.isfinite().all()) and bool(distance.isfinite().all())


def load_lpips_like(network):
    copy = Lpips()
    copy.load_state_dict(network.state_dict())
    return copy


def test_pictures_too_small_for_four_pools_are_refused(lpips):
    with pytest.raises(InvalidInput, match="at least 16 x 16 pixels, got 15 x 20"):
        lpips(torch.zeros(1, 3, 15, 20), torch.zeros(1, 3, 15, 20))


def test_all_accepted_layouts_give_the_same(weights, lpips, tmp_path):
    def slice_of(index):
        return 1 + sum(index > last for last in (3, 8, 15, 22))

    package = {f"net.slice{slice_of(int(n.split('.')[1]))}.{n[9:]}": v for n, v in backbone().items()} | linear()
    package |= {
        "lins.0.model.1.weight": linear()["lin0.model.1.weight"],
        "scaling_layer.shift": torch.zeros(1, 3, 1, 1),
    }
    assert "net.slice3.14.bias" in package and "net.slice5.28.weight" in package
    torch.save(package, tmp_path / "package.pth")
    save_file(backbone() | linear(), tmp_path / "all.safetensors")
    (tmp_path / "folder").mkdir()
    save_file(backbone(), tmp_path / "folder" / "vgg16.safetensors")
    (tmp_path / "folder" / "vgg.pth").write_bytes((weights / "vgg.pth").read_bytes())
    for path in ("package.pth", "all.safetensors", "folder"):
        other = load_lpips(tmp_path / path)
        assert all(torch.equal(v, lpips.state_dict()[n]) for n, v in other.state_dict().items()), path


def test_a_missing_file_is_named_and_where_it_comes_from(weights, tmp_path):
    with pytest.raises(WeightsMissing, match="no file or folder .*nowhere.*weights of torchvision"):
        load_lpips(tmp_path / "nowhere")
    with pytest.raises(WeightsMissing, match=r"holds no vgg16-397923af\.pth"):
        load_lpips(tmp_path)
    (tmp_path / "vgg16_a.pth").symlink_to(weights / "vgg16-397923af.pth")
    with pytest.raises(WeightsMissing, match=r"holds no vgg\.pth.*linear weights of LPIPS v0\.1"):
        load_lpips(tmp_path)
    (tmp_path / "vgg16_b.pth").touch()
    with pytest.raises(InvalidInput, match=r"vgg16_a\.pth, vgg16_b\.pth"):
        load_lpips(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.5.bias": None, "lin0.model.1.weight": None}, r"no features\.5\.bias, expected with shape \(128,\)"),
        ({"lin3.model.1.weight": None}, r"no lin3\.model\.1\.weight, expected with shape \(1, 512, 1, 1\)"),
        (
            {"features.2.weight": torch.zeros(64, 64, 1, 1)},
            r"features\.2\.weight with shape \(64, 64, 1, 1\), expected \(64, 64, 3, 3\).*weights of torchvision",
        ),
        ({"features.0.bias": torch.full((64,), torch.nan)}, r"features\.0\.bias that are not finite"),
        ({"lin1.model.1.weight": -torch.ones(1, 128, 1, 1)}, r"negative numbers in lin1\.model\.1\.weight"),
    ],
)
def test_a_weight_that_is_not_right_is_named(tmp_path, change, message):
    wrong = {n: v for n, v in (backbone() | linear() | change).items() if v is not None}
    save_file(wrong, tmp_path / "all.safetensors")
    with pytest.raises(WeightsCorrupt, match=message):
        load_lpips(tmp_path / "all.safetensors")


def test_files_that_are_no_weights_are_refused(tmp_path):
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(WeightsCorrupt, match=f"{name} cannot be read"):
            load_lpips(tmp_path / name)


def test_an_evaluation_has_lpips_where_it_was_asked_for(weights, tmp_path, capsys):
    objects = write_corpus(tmp_path / "objects", 1)
    job = ("--quality", "draft", "--no-refine", "--reconstructor", "hull", "--faces", "500", "--texture", "128")
    rig = ("--views", "4", "--size", "32", "--surfels", "--lpips", str(weights), "--json")
    assert main(["eval", str(objects), "-o", str(tmp_path / "with"), *rig, *job]) == 0
    report = json.loads((tmp_path / "with" / "report.json").read_text())
    assert json.loads(capsys.readouterr().out) == report
    row = report["objects"][0]
    for scores in (row, report["mean"], row["surfels"], row["baselines"]["hull"], report["baseline_means"]["hull"]):
        assert 0 < scores["lpips"] < scores["worst_lpips"]

    # the same result without: nothing of it, and nothing else is different
    same = read_glb(tmp_path / "with" / f"{row['name']}.glb")
    settings = EvaluationSettings(num_views=4, image_size=32)
    without = evaluate_folder(objects, tmp_path / "without", lambda views: same, settings, {})
    assert "lpips" not in json.dumps(without)
    scored = {key: value for key, value in without["mean"].items() if key not in ("seconds", "peak_memory_mib")}
    assert scored == pytest.approx({key: report["mean"][key] for key in scored}) and len(scored) > 10

    tables = {name: (tmp_path / name / "table.md").read_text() for name in ("with", "without")}
    assert "| LPIPS |" in tables["with"] and "LPIPS" not in tables["without"]
    bars = {name: {line.count("|") for line in table.splitlines()[2:]} for name, table in tables.items()}
    assert [len(counts) for counts in bars.values()] == [1, 1] and max(bars["with"]) == max(bars["without"]) + 1


def test_an_evaluation_without_its_weights_does_not_begin(tmp_path, capsys):
    objects = write_corpus(tmp_path / "objects", 1)
    assert main(["eval", str(objects), "-o", str(tmp_path / "out"), "--lpips", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "WEIGHTS_MISSING"
    assert not (tmp_path / "out").exists()
