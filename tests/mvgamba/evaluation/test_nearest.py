"""The nearest object of a folder, turned and put where the photographed one stands."""

import math

import numpy as np
import pytest
import torch

from mvgamba.cameras import turn_about_vertical
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.drawable import read_drawable
from mvgamba.evaluation.nearest import AZIMUTHS, NearestObject
from mvgamba.evaluation.run import EvaluationSettings, photograph_subject, score_result
from mvgamba.types import Similarity
from tests.mvgamba.data.objects import write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), 3)


@pytest.mark.parametrize("index", [0, 2])
def test_an_object_of_the_folder_is_found_wherever_it_stands(corpus, tmp_path, index):
    nearest = NearestObject(corpus, tmp_path / "cache.npz")
    thing = read_drawable(corpus / f"object_{index}.glb")
    turned = thing.placed(
        Similarity(2.0, turn_about_vertical(2 * math.pi * 5 / AZIMUTHS), torch.ones(3, dtype=torch.float64))
    )
    subject = photograph_subject(turned, EvaluationSettings(num_views=4, image_size=64, seed=4))
    found = nearest(subject.inputs)
    assert nearest.last == f"object_{index}"
    scores, _ = score_result(subject, found)
    # turned by up to half a step, and sized by the hull, which is a little too large
    assert scores["iou"] > 0.8 and scores["psnr"] > 17


def test_pictures_are_kept_and_drawn_anew_for_other_objects(corpus, tmp_path, monkeypatch):
    first = NearestObject(corpus, tmp_path / "cache.npz")
    monkeypatch.setattr("mvgamba.evaluation.nearest._all_around", None)  # would fail if it were called
    again = NearestObject(corpus, tmp_path / "cache.npz")
    np.testing.assert_array_equal(first._pictures, again._pictures)
    other = write_corpus(tmp_path / "other", 1)
    with pytest.raises(TypeError):
        NearestObject(other, tmp_path / "cache.npz")


def test_a_folder_without_objects_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"no \.glb files"):
        NearestObject(tmp_path, tmp_path / "cache.npz")
