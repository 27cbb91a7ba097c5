"""The starter generator as a task: what a step sees, and that it learns."""

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs accelerate (pip install mvgamba[train])")

from mvgamba.data.prompted_samples import (  # noqa: E402
    CaptionedGlbs,
    make_prompted_sample,
    write_prompted_shards,
)
from mvgamba.data.variation import stretched  # noqa: E402
from mvgamba.errors import InvalidInput  # noqa: E402
from mvgamba.evaluation.drawable import read_drawable  # noqa: E402
from mvgamba.evaluation.photograph import photograph_from_rig  # noqa: E402
from mvgamba.multiview.starter_model import load_starter  # noqa: E402
from mvgamba.multiview.starter_network import StarterConfig, from_signal, to_signal  # noqa: E402
from mvgamba.training.config import TrainConfig  # noqa: E402
from mvgamba.training.flow_options import FlowOptions  # noqa: E402
from mvgamba.training.generator_task import GeneratorTask  # noqa: E402
from mvgamba.training.prompted_batches import (  # noqa: E402
    PromptedRowMaker,
    prompt_picture,
    set_of_views,
)
from mvgamba.training.trainer import Trainer  # noqa: E402
from tests.mvgamba.data.objects import write_corpus  # noqa: E402

SMALL = StarterConfig(image_size=16, patch_size=8, width=32, num_layers=2, num_heads=2, bottleneck=32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), 2)


@pytest.fixture(scope="module")
def shards(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompted")
    write_prompted_shards(CaptionedGlbs(corpus), folder, variants=1, size=16)
    return folder


def config(shards, **changes):
    values = {"batch_size": 2, "steps": 40, "warm_up": 5, "network": SMALL} | changes
    return TrainConfig(data=str(shards), model="starter", losses=FlowOptions(), **values)


def test_a_mirrored_set_is_that_of_the_mirrored_object(corpus):
    sample = make_prompted_sample(CaptionedGlbs(corpus, samples=4), 0, 0, size=16)
    mirrored = set_of_views(sample, 0, 0, mirrored=True).astype(float) / 255
    thing = read_drawable(corpus / "object_0.glb")
    views = photograph_from_rig(stretched(thing, np.array([-1.0, 1.0, 1.0])), samples=1)
    expected = torch.nn.functional.avg_pool2d(torch.cat([views.rgb * views.alpha, views.alpha], 1), 16)
    taken = torch.from_numpy(mirrored).permute(0, 3, 1, 2).float()
    taken = torch.cat([taken[:, :3] * taken[:, 3:], taken[:, 3:]], 1)
    away = (expected - taken).abs().mean((1, 2, 3))
    assert bool((away < 0.03).all()), away.tolist()


def test_the_picture_of_a_prompt_has_the_object_in_the_middle():
    rgb, alpha = torch.zeros(3, 64, 64), torch.zeros(1, 64, 64)
    rgb[0], alpha[:, 4:20, 30:62] = 1.0, 1.0
    color, coverage = from_signal(prompt_picture(rgb, alpha, None))
    inside = coverage[0] > 0.5
    columns, rows = inside.any(0).nonzero()[:, 0], inside.any(1).nonzero()[:, 0]
    assert int(columns[0]) in (6, 7) and int(columns[-1]) in (56, 57), "four fifths of the frame"
    assert abs(int(rows[0]) + int(rows[-1]) - 63) <= 1
    assert float(color[0][inside].min()) > 0.9
    torch.testing.assert_close(from_signal(to_signal(rgb, alpha))[1], alpha)


def test_a_batch_follows_from_the_seed_and_its_step(shards):
    task = GeneratorTask(config(shards))
    one, again, other = (
        task.batch(3, process=0, processes=1),
        task.batch(3, process=0, processes=1),
        task.batch(4, process=0, processes=1),
    )
    assert torch.equal(one.pictured.views, again.pictured.views) and one.spoken.sentences == again.spoken.sentences
    assert not torch.equal(one.pictured.views, other.pictured.views)
    assert one.pictured.picture is not None and one.spoken.picture is None
    assert one.pictured.views.shape == (1, 5, 4, 16, 16)


def test_rows_that_are_not_disturbed_are_the_set_as_it_was_taken(corpus):
    sample = make_prompted_sample(CaptionedGlbs(corpus), 0, 0, size=16)
    rows = PromptedRowMaker([sample], patches=2, disturb=False).rows([0], np.random.default_rng(0), pictured=False)
    rgb, alpha = from_signal(rows.views[0])
    taken = torch.from_numpy(set_of_views(sample, 0, 0, mirrored=False)).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(alpha, taken[:, 3:], atol=1e-5, rtol=0)
    assert float(((rgb - taken[:, :3]) * (alpha > 0.2)).abs().max()) < 1e-4


def test_it_learns_goes_on_where_it_was_and_writes_what_the_generator_reads(shards, tmp_path):
    run = config(shards, steps=60, learning_rate=3e-3)
    trainer = Trainer(run, tmp_path, cpu=True)
    seen = []
    trainer.run(until=30, pictures_every=30, report=lambda step, losses, left: seen.append(losses["total"]))
    trainer.close()
    trainer = Trainer(run, tmp_path, cpu=True)
    assert trainer.step == 30
    trainer.run(pictures_every=0, report=lambda step, losses, left: seen.append(losses["total"]))
    path = trainer.write_weights()
    trainer.close()
    assert seen[-1] < 0.6 * seen[0]
    assert path is not None and load_starter(path).config.network == SMALL


def test_a_run_begins_with_weights_that_are_named(shards, tmp_path):
    trainer = Trainer(config(shards, steps=2), tmp_path / "one", cpu=True)
    trainer.run(pictures_every=0)
    path = trainer.write_weights()
    trainer.close()
    network = GeneratorTask(config(shards, init=str(path))).make_network()
    assert any(bool(p.requires_grad) for p in network.parameters())
    other = StarterConfig(image_size=16, patch_size=8, width=64, num_layers=2, num_heads=2, bottleneck=32)
    with pytest.raises(InvalidInput, match="the run asks for"):
        GeneratorTask(config(shards, init=str(path), network=other)).make_network()


def test_configurations_that_cannot_be_trained_are_named(shards):
    with pytest.raises(InvalidInput, match="half of it has pictures"):
        GeneratorTask(config(shards, batch_size=3))
    with pytest.raises(InvalidInput, match="the samples have 16 pixels"):
        GeneratorTask(config(shards, network=StarterConfig()))
    with pytest.raises(InvalidInput, match="takes a StarterConfig and FlowOptions"):
        TrainConfig(data="x", model="starter")
