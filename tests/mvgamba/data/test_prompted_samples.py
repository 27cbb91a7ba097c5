"""Sets of views with words: where pictures are taken from, mirrors, paint and captions."""

import json

import numpy as np
import pytest
import torch

from mvgamba.data.prompted_samples import (
    CaptionedGlbs,
    PromptedSample,
    make_prompted_sample,
    places,
    read_prompted_shards,
    rig_places,
    write_prompted_shards,
)
from mvgamba.data.sources import read_solid
from mvgamba.errors import InvalidInput
from mvgamba.evaluation.photograph import photograph_from_rig
from tests.mvgamba.data.objects import write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), 2)
    rows = [
        {
            "file": "train/object_0.glb",
            "captions": ["a box with a knob", "a red box"],
            "category": "container",
            "family": "box",
            "colours": [{"name": "red", "fraction": 0.8, "rgb": [200, 30, 30]}],
        }
    ]
    (folder / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def sample(corpus):
    return make_prompted_sample(CaptionedGlbs(corpus), 0, 0, size=16)


def test_a_set_is_front_right_back_left_and_above(sample, corpus):
    views = photograph_from_rig(read_solid(corpus / "object_0.glb"), samples=2)
    pooled = torch.nn.functional.avg_pool2d(torch.cat([views.rgb * views.alpha, views.alpha], 1), 16)
    taken = torch.from_numpy(sample.rgba[rig_places(0, 0)]).permute(0, 3, 1, 2).float() / 255
    taken = torch.cat([taken[:, :3] * taken[:, 3:], taken[:, 3:]], 1)
    assert float((pooled - taken).abs().mean()) < 0.02


def test_turns_and_elevations_have_their_places():
    angles = places()
    assert len(angles) == 48
    degrees = [tuple(round(float(np.degrees(x))) for x in angles[i]) for i in rig_places(1, 2)]
    assert degrees == [(30, 30), (120, 0), (210, 0), (300, 0), (75, 60)]
    assert [round(float(np.degrees(angles[i][0]))) for i in rig_places(11, 0)] == [330, 60, 150, 240, 375]


def test_words_come_from_the_index_and_else_from_the_name(sample, corpus):
    assert sample.captions.tolist() == ["a box with a knob", "a red box"] and sample.category[0] == "container"
    other = make_prompted_sample(CaptionedGlbs(corpus), 1, 0, size=16)
    assert other.captions.tolist() == ["object 1"] and len(other.color_names) == 0


def test_stretched_objects_keep_their_words_and_composed_ones_have_none(sample, corpus):
    stretched = make_prompted_sample(CaptionedGlbs(corpus), 0, 1, size=16)
    assert stretched.captions.tolist() == sample.captions.tolist()
    assert not np.array_equal(stretched.rgba, sample.rgba)
    assert len(make_prompted_sample(CaptionedGlbs(corpus), 0, 3, size=16).captions) == 0


def test_samples_come_back_from_shards(corpus, tmp_path):
    made = write_prompted_shards(CaptionedGlbs(corpus), tmp_path, variants=2, size=16)
    assert made.written == 4 and not made.skipped
    samples = read_prompted_shards(tmp_path)
    assert len(samples) == 4 and isinstance(samples[0], PromptedSample)
    assert samples[0].captions.tolist() == ["a box with a knob", "a red box"]
    assert samples[0].rgba.shape == (48, 16, 16, 4)


def test_an_index_that_cannot_be_read_is_named(tmp_path):
    folder = write_corpus(tmp_path / "objects", 1)
    (folder / "index.jsonl").write_text('{"file": "object_0.glb"}')
    with pytest.raises(InvalidInput, match=r"index\.jsonl is not an index of objects"):
        CaptionedGlbs(folder).row(0)
