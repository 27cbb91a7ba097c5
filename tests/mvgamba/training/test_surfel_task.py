"""The MVGamba network in the training loop: exact on resume, in half precision, with less memory, and able to learn."""

import dataclasses
import json
import logging
import sys

import pytest
import torch

accelerate = pytest.importorskip("accelerate", reason="training needs accelerate (pip install mvgamba[train])")

from accelerate.state import AcceleratorState  # noqa: E402

from mvgamba.__main__ import main  # noqa: E402
from mvgamba.data import GlbFolder  # noqa: E402
from mvgamba.data.view_samples import make_view_sample  # noqa: E402
from mvgamba.errors import InvalidInput  # noqa: E402
from mvgamba.reconstructor.checkpoint import load_checkpoint  # noqa: E402
from mvgamba.training import surfel_loss  # noqa: E402
from mvgamba.training.surfel_task import SurfelTask  # noqa: E402
from mvgamba.training.trainer import CHECKPOINT, TrainConfig, Trainer  # noqa: E402
from tests.mvgamba.data.objects import write_corpus  # noqa: E402
from tests.mvgamba.evaluation.lpips_weights import write_lpips  # noqa: E402
from tests.mvgamba.training.shards import write_shard  # noqa: E402

SMALL = {"width": 32, "num_layers": 2, "mlp_width": 64, "image_size": 32, "patch_size": 8}
PLAIN = {"perceptual": 0.0}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    source = GlbFolder(write_corpus(tmp_path_factory.mktemp("corpus"), 3))
    samples = [make_view_sample(source, i, 1, size=32) for i in range(3)]
    return write_shard(tmp_path_factory.mktemp("shards") / "views", samples)


@pytest.fixture
def another_precision():
    """`accelerate` keeps one precision a process; a test is not a process."""
    AcceleratorState._reset_state()
    yield AcceleratorState._reset_state
    AcceleratorState._reset_state()


def config(shards, *, network=None, losses=None, **changes):
    values = {"batch_size": 2, "steps": 40, "warm_up": 2, "learning_rate": 2e-3, "surfels": {"num_others": 2}}
    given = {
        "model": "mvgamba",
        "data": str(shards),
        "network": SMALL | (network or {}),
        "losses": PLAIN | (losses or {}),
    }
    return TrainConfig.of(given | values | changes)


def lines(folder):
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def test_a_run_that_is_taken_up_again_takes_the_same_steps(shards, tmp_path):
    # with everything that is drawn while training: left out layers, noisy choices, warped views, backgrounds
    run = config(shards, network={"rotation_head": "rotnet_hard", "drop_path": 0.5, "num_layers": 3})
    for name, ends in (("whole", [8]), ("broken", [3, 8])):
        for end in ends:
            Trainer(run, tmp_path / name, cpu=True).run(until=end, pictures_every=0)
    whole, broken = (torch.load(tmp_path / n / CHECKPOINT, weights_only=True)["network"] for n in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_what_a_run_leaves_can_be_read_and_looked_at(shards, tmp_path):
    tensorboard = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    trainer = Trainer(config(shards, ema=0.0), tmp_path, cpu=True)
    trainer.run(until=20, pictures_every=10)
    network = load_checkpoint(trainer.write_weights())
    assert network.config == trainer.config.network
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), trainer.bare.parameters(), strict=True))
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["000010.png", "000020.png"]
    curves = tensorboard.EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert [e.step for e in curves.Scalars("total")] == [10, 20]
    assert curves.Scalars("psnr")[1].value == pytest.approx(lines(tmp_path)[1]["psnr"], rel=1e-4)
    assert {"target", "render", "error", "depth", "normals"} == set(curves.Tags()["images"])
    assert curves.Images("render")[0].width == 6 * 32  # four inputs and two others


def test_without_tensorboard_a_run_says_so_and_keeps_its_lines(shards, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO, logger="mvgamba.training.run_log"):
        Trainer(config(shards), tmp_path, cpu=True).run(until=10, pictures_every=0)
    assert [record.message for record in caplog.records if "tensorboard is not installed" in record.message]
    assert len(lines(tmp_path)) == 1
    assert not (tmp_path / "tensorboard").exists() and not (tmp_path / "pictures").exists()


def gradients(task, network, batch):
    network.zero_grad()
    torch.manual_seed(5)
    task.losses(network, batch, step=0, mean_count=lambda count: count)["total"].backward()
    return {name: p.grad.clone() for name, p in network.named_parameters()}


def test_recomputed_layers_have_the_same_gradients(shards):
    run = config(shards, network={"drop_path": 0.5, "num_layers": 3, "rotation_head": "sixd"}, checkpointing=True)
    task = SurfelTask(run)
    network, batch = task.make_network().train(), task.batch(0, process=0, processes=1)
    assert network.transformer.save_memory
    with torch.no_grad():  # at 32 pixels discs begin smaller than the low-pass filter, which hides their size
        network.decoder.gs_layer["scale"].bias.add_(2.0)
    saving = gradients(task, network, batch)
    network.transformer.save_memory = False
    keeping = gradients(task, network, batch)
    for name, gradient in keeping.items():
        torch.testing.assert_close(saving[name], gradient, msg=name)
    assert [name for name, g in keeping.items() if not g.any()] == []


def test_steps_in_bfloat16_stay_close_to_those_in_float32(shards, tmp_path, another_precision):
    traces = {}
    for precision in ("fp32", "bf16"):
        another_precision()
        trainer = Trainer(config(shards, precision=precision), tmp_path / precision, cpu=True)
        trainer.run(until=10, pictures_every=0)
        traces[precision] = lines(tmp_path / precision)[0], trainer
    (full, _), (half, trainer) = traces["fp32"], traces["bf16"]
    assert half["rgb"] != full["rgb"]  # it did compute in another precision
    assert half["total"] == pytest.approx(full["total"], rel=0.01)
    assert all(p.dtype == torch.float32 for p in trainer.bare.parameters())
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda _, x, y, name=name: seen.update({name: (x[0].dtype, y.dtype)}))
        for name, layer in trainer.bare.named_modules()
        if name in ("transformer.layers.1.mamba_block.mixer.in_proj", "decoder.gs_layer.xyz", "map_image")
    ]
    surfels = trainer.network(trainer.batch(0).images)
    for hook in hooks:
        hook.remove()
    assert seen["transformer.layers.1.mamba_block.mixer.in_proj"][1] == torch.bfloat16
    # rays in, heads out
    assert seen["map_image"] == (torch.float32, torch.float32)
    assert seen["decoder.gs_layer.xyz"] == (torch.float32, torch.float32)
    assert surfels.means.dtype == torch.float32
    with pytest.raises(InvalidInput, match="Training in fp32 cannot begin"):
        Trainer(config(shards), tmp_path / "other", cpu=True)


def test_processes_take_parts_of_one_batch(shards):
    task = SurfelTask(config(shards))
    whole = task.batch(3, process=0, processes=1)
    parts = [task.batch(3, process=i, processes=2) for i in range(2)]
    assert torch.equal(torch.cat([p.images for p in parts]), whole.images)
    assert torch.equal(torch.cat([p.truth.rgb for p in parts]), whole.truth.rgb)
    assert torch.equal(parts[0].background, parts[1].background)
    for poses in whole.truth.cameras.c2w:
        assert len(torch.unique(poses, dim=0)) == 6  # no view is there twice
    assert whole.truth.rgb.shape[1] == 6 and whole.images.shape == (2, 4, 9, 32, 32)


def test_only_what_the_network_is_given_is_disturbed(shards):
    plain, rough = (
        SurfelTask(
            config(
                shards,
                disturb=d,
                surfels={"augmentation": {"grid_distortion": 1.0, "camera_jitter": 1.0}, "num_others": 2},
            )
        )
        for d in (False, True)
    )
    a, b = plain.batch(0, process=0, processes=1), rough.batch(0, process=0, processes=1)
    assert torch.equal(a.truth.rgb, b.truth.rgb) and torch.equal(a.truth.cameras.c2w, b.truth.cameras.c2w)
    assert torch.equal(a.images[:, 0], b.images[:, 0])
    assert not torch.allclose(a.images[:, 1:, :3], b.images[:, 1:, :3], atol=0.1)
    assert not torch.allclose(a.images[:, 1:, 3:], b.images[:, 1:, 3:], atol=0.01)


def test_shards_that_do_not_fit_the_run_are_refused(shards):
    with pytest.raises(InvalidInput, match="a sample of 4 inputs and 12 other views; the run asks for 6"):
        SurfelTask(config(shards, network={"num_views": 6}))
    with pytest.raises(InvalidInput, match="at least 40"):
        SurfelTask(config(shards, surfels={"num_others": 40}))


def test_a_perceptual_distance_is_used_or_its_lack_is_said(shards, caplog):
    class Distance(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blend = torch.nn.Linear(3, 3)

        def forward(self, a, b):
            return (self.blend(a.movedim(1, -1)) - self.blend(b.movedim(1, -1))).abs().mean((1, 2, 3))

    run = config(shards, losses={"perceptual": 0.6})
    with_it = SurfelTask(run, perceptual=Distance())
    assert not caplog.records
    network = with_it.make_network()
    losses = with_it.losses(network, with_it.batch(0, process=0, processes=1), step=0, mean_count=lambda c: c)
    assert float(losses["perceptual"].detach()) > 0
    assert not [name for name in network.state_dict() if "blend" in name]  # it is no part of what is trained and saved
    SurfelTask(run)
    assert "that term is left out" in caplog.text


def test_a_run_is_taught_with_lpips_and_saves_nothing_of_it(shards, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(surfel_loss, "PERCEPTUAL_SIZE", 32)  # of its 256, for time
    weights = write_lpips(tmp_path / "lpips")
    run = {
        "model": "mvgamba", "data": str(shards), "network": SMALL | {"num_layers": 1}, "batch_size": 1, "steps": 10,
        "losses": {"perceptual": 0.6, "perceptual_from": 9}, "surfels": {"num_others": 0}, "warm_up": 0,
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(run))
    train = ("train", "reconstructor", "--config", str(tmp_path / "run.json"), "--cpu", "--pictures", "0")
    assert main([*train, "-o", str(tmp_path / "with"), "--lpips", str(weights)]) == 0
    assert main([*train, "-o", str(tmp_path / "without")]) == 0
    with_it, without = lines(tmp_path / "with")[0], lines(tmp_path / "without")[0]
    assert with_it["perceptual"] > 0 and "perceptual" not in without
    states = [torch.load(tmp_path / n / CHECKPOINT, weights_only=True)["network"] for n in ("with", "without")]
    assert states[0].keys() == states[1].keys()
    # the last of ten steps had it, and it changed that step
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    load_checkpoint(tmp_path / "with" / "mvgamba.pt")


def test_lpips_where_no_loss_asks_for_it_is_refused(shards, tmp_path, capsys):
    for run, message in (
        ({"data": str(shards)}, "--lpips is for the model 'mvgamba', whose losses are rendered; the run trains 'ray'"),
        ({"data": str(shards), "model": "mvgamba", "losses": PLAIN}, "of no use while losses.perceptual is 0"),
    ):
        (tmp_path / "run.json").write_text(json.dumps(run))
        train = ("train", "reconstructor", "--config", str(tmp_path / "run.json"), "-o", str(tmp_path / "run"))
        assert main([*train, "--lpips", str(tmp_path), "--cpu"]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_training_may_begin_from_given_weights(shards, tmp_path):
    first = Trainer(config(shards), tmp_path / "first", cpu=True)
    first.run(until=2, pictures_every=0)
    path = first.write_weights()
    second = Trainer(config(shards, init=str(path)), tmp_path / "second", cpu=True)
    assert all(torch.equal(a, b) for a, b in zip(first.average.parameters(), second.bare.parameters(), strict=True))
    with pytest.raises(InvalidInput, match="the run asks for"):
        Trainer(config(shards, init=str(path), network={"num_layers": 1}), tmp_path / "third", cpu=True)


def test_a_checkpoint_from_before_a_field_was_there_goes_on(shards, tmp_path):
    Trainer(config(shards), tmp_path, cpu=True).run(until=2, pictures_every=0)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del state["config"]["precision"], state["config"]["checkpointing"]
    torch.save(state, tmp_path / CHECKPOINT)
    assert Trainer(config(shards), tmp_path, cpu=True).step == 2
    with pytest.raises(InvalidInput, match="another configuration \\(checkpointing\\)"):
        Trainer(dataclasses.replace(config(shards), checkpointing=True), tmp_path, cpu=True)
