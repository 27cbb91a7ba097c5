"""The losses: nothing for the truth, and each only for its own mistake."""

import numpy as np
import pytest
import torch

from mvgamba.data import GlbFolder
from mvgamba.data.samples import make_sample
from mvgamba.reconstructor.ray_network import RayOutput, pack
from mvgamba.training.ray_batches import batch_order, make_batch, patches_met
from mvgamba.training.ray_loss import RayLossWeights, ray_losses
from tests.mvgamba.data.objects import write_corpus


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    source = GlbFolder(write_corpus(tmp_path_factory.mktemp("corpus"), 2))
    return [make_sample(source, i, 0, size=64) for i in range(2)]


def losses_of(samples, depth=0.0, rgb=0.0, solid=0.0):
    batch = make_batch(samples)
    packed = pack(batch.planes, 8)
    truth = pack(
        torch.cat([batch.planes[:, :, :5], batch.targets[:, :, :1], batch.planes[:, :, 6:7], batch.targets], 2), 8
    )
    assert torch.equal(truth.index, packed.index)
    wanted, met, color = truth.pixels[..., 7], truth.pixels[..., 8], truth.pixels[..., 9:]
    output = RayOutput(wanted + depth, torch.full_like(wanted, -4.0), 20 * (met - 0.5) + solid, color + rgb)
    return ray_losses(output, packed, batch.targets, num_given=4, weights=RayLossWeights())


def test_the_truth_costs_nothing(samples):
    losses = losses_of(samples)
    for name in ("depth", "slope", "solid", "rgb", "depth_error"):
        assert float(losses[name]) == pytest.approx(0.0, abs=1e-3), name


@pytest.mark.parametrize("mistake", ["depth", "rgb", "solid"])
def test_a_mistake_is_charged_to_its_own_loss(samples, mistake):
    right, wrong = losses_of(samples), losses_of(samples, **{mistake: 0.05 if mistake != "solid" else 15.0})
    for name in ("depth", "slope", "solid", "rgb"):
        if name == mistake:
            assert wrong[name] > right[name] + 0.01
        else:
            assert float(wrong[name]) == pytest.approx(float(right[name]), abs=1e-3)


def test_disturbed_samples_keep_their_geometry(samples):
    plain = make_batch(samples)
    for seed in range(4):
        other = make_batch(samples, generator=np.random.default_rng(seed))
        same = torch.equal(other.targets[:, :, 0], plain.targets[:, :, 0])
        mirrored = torch.equal(other.targets[0, :, 0], plain.targets[0, :, 0].flip(-1))
        assert same or mirrored or torch.equal(other.targets[0, :, 0], plain.targets[0, :, 0])
    # the same surface seen in a mirror: rays are mirrored with the pictures, not turned over
    seed = next(s for s in range(20) if np.random.default_rng(s).uniform() >= 0.5)
    other = make_batch(samples[:1], generator=np.random.default_rng(seed))
    ray, flipped = plain.planes[0, 0, 8:11], other.planes[0, 0, 8:11].flip(-1)
    torch.testing.assert_close(flipped[0], -ray[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(flipped[1:], ray[1:], atol=1e-5, rtol=1e-5)


def test_an_epoch_meets_each_sample_once_in_batches_of_one_size():
    sizes = list(range(100))
    batches = batch_order(sizes, [4] * 100, batch_size=5, seed=3, epoch=2)
    met = sorted(i for batch in batches for i in batch)
    assert met == sizes
    assert batches == batch_order(sizes, [4] * 100, batch_size=5, seed=3, epoch=2)
    assert batches != batch_order(sizes, [4] * 100, batch_size=5, seed=3, epoch=3)
    spread = np.mean([max(b) - min(b) for b in batches])
    assert spread < 20  # at random about 65


def test_a_batch_holds_samples_of_as_many_views():
    kinds = [2, 4, 4] * 20
    batches = batch_order([1] * 60, kinds, batch_size=4, seed=0, epoch=0)
    assert all(len({kinds[i] for i in batch}) == 1 for batch in batches)
    assert sorted(i for batch in batches for i in batch) == list(range(60))
    # not one kind after the other
    assert {kinds[batch[0]] for batch in batches[:5]} == {2, 4}


def test_patches_are_counted_as_they_are_packed(samples):
    packed = pack(make_batch(samples).planes, 8)
    assert packed.valid.sum(1).tolist() == [patches_met(s.hit, 8) for s in samples]
