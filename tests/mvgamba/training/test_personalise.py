"""A word for one object: what is learned, what stays, and what is refused."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from mvgamba.__main__ import main
from mvgamba.errors import Cancelled, InvalidImage, InvalidInput
from mvgamba.multiview.lora import fingerprint
from mvgamba.multiview.protocol import GeneratorSettings, ViewsRequest
from mvgamba.multiview.starter_generator import StarterGenerator, starter_from_settings
from mvgamba.multiview.starter_model import StarterModel, StarterModelConfig, load_starter, save_starter
from mvgamba.multiview.starter_network import StarterConfig
from mvgamba.progress import CancelToken
from mvgamba.training.personalise import PersonaliseOptions, framed_signal, personalise, read_pictures
from mvgamba.types import SourceImage
from tests.mvgamba.multiview.tiny import WORDS, tiny_model


def disc(color: tuple[float, float, float], *, size: int = 40, radius: float = 12.0, at: float = 20.0) -> SourceImage:
    """A round thing on nothing."""
    grid = torch.arange(size) + 0.5
    alpha = ((grid[:, None] - at).square() + (grid[None] - at).square()).sqrt().sub(radius).neg().add(0.5).clamp(0, 1)
    return SourceImage(torch.tensor(color)[:, None, None].expand(3, size, size).contiguous(), alpha[None])


RED = (0.9, 0.1, 0.1)
PICTURES = [disc(RED, radius=r, at=a) for r, a in ((9.0, 15.0), (12.0, 20.0), (10.0, 22.0))]
QUICK = PersonaliseOptions(steps=10, prior_sets=1, learning_rate=1e-2)


def learned(**changes):
    options = PersonaliseOptions(**(vars(QUICK) | changes))
    losses = []
    made = personalise(
        tiny_model(), PICTURES, word="sks", noun="barrel", options=options, report=lambda step, now, left: losses.append(now)
    )  # fmt: skip
    return made, losses


def test_pictures_are_learned_and_the_given_network_stays_as_it_was():
    model = tiny_model()
    before = fingerprint(model)
    losses = {}
    for rate in (1e-9, 1e-2):  # the same random numbers, with and without learning
        options = PersonaliseOptions(steps=20, batch_size=2, prior=0.0, learning_rate=rate)
        seen = losses[rate] = []
        made = personalise(
            model,
            PICTURES,
            word="sks",
            noun="barrel",
            options=options,
            report=lambda step, now, left: seen.append((step, now)),  # noqa: B023
        )
    assert [step for step, _ in losses[1e-2]] == [10, 20]
    assert losses[1e-2][1][1]["pictures"] < 0.9 * losses[1e-9][1][1]["pictures"]
    assert fingerprint(model) == before == made.facts["base"] and made.warnings == ()


def test_the_same_seed_learns_the_same():
    one, other, third = (learned(steps=3, seed=seed)[0].model for seed in (4, 4, 5))
    assert fingerprint(one) == fingerprint(other) != fingerprint(third)


def test_a_strong_pull_keeps_the_weights_and_full_training_too():
    for full in (False, True):
        rate = 1e-2 if not full else 1e-3
        _, free = learned(full=full, keep=0.0, prior=0.0, learning_rate=rate)
        _, held = learned(full=full, keep=1e4, prior=0.0, learning_rate=rate)
        assert "own" not in free[-1]
        assert held[-1]["moved"] < 0.3 * free[-1]["moved"]


def test_cameras_can_be_guessed_and_change_what_is_learned():
    none, guess = (learned(steps=2, cameras=cameras)[0].model for cameras in ("none", "guess"))
    assert fingerprint(none) != fingerprint(guess)


def test_an_adapter_file_gives_the_generator_the_word(tmp_path, caplog):
    model, weights, adapter = tiny_model(), tmp_path / "starter.safetensors", tmp_path / "sks.safetensors"
    save_starter(model, weights)
    made = personalise(load_starter(weights), PICTURES, word="sks", noun="barrel", options=QUICK)
    made.write(adapter)
    assert adapter.stat().st_size < 0.7 * weights.stat().st_size
    request = ViewsRequest(prompt="a sks barrel", steps=2, seed=1)
    plain = starter_from_settings(GeneratorSettings(weights)).generate(request)
    with caplog.at_level(logging.WARNING):
        mine = starter_from_settings(GeneratorSettings(weights, adapters=(adapter,))).generate(request)
    assert not caplog.records
    live = StarterGenerator(made.model).generate(request)
    assert plain.warnings and "'sks'" in plain.warnings[0] and mine.warnings == ()
    assert mine.facts["generator_weights"] == "starter.safetensors+sks.safetensors"
    gap = lambda a, b: float((a.views.alpha - b.views.alpha).abs().mean())  # noqa: E731
    # both files are in half precision
    assert gap(mine, live) < 0.1 * gap(mine, plain)


def test_an_adapter_meets_other_weights(tmp_path, caplog):
    adapter = tmp_path / "sks.safetensors"
    personalise(
        tiny_model(), PICTURES, word="sks", noun="barrel", options=PersonaliseOptions(steps=1, prior=0.0)
    ).write(adapter)
    save_starter(tiny_model(1), tmp_path / "other.safetensors")
    wider = StarterModelConfig(StarterConfig(16, 8, 48, 2, 2, 16, 16), WORDS)
    save_starter(StarterModel(wider), tmp_path / "wider.safetensors")
    with caplog.at_level(logging.WARNING):
        starter_from_settings(GeneratorSettings(tmp_path / "other.safetensors", adapters=(adapter,)))
    assert "trained on other weights" in caplog.text
    with pytest.raises(InvalidInput, match=r"sks.safetensors is for another network: its network.layers.0"):
        starter_from_settings(GeneratorSettings(tmp_path / "wider.safetensors", adapters=(adapter,)))


def test_full_training_writes_a_whole_network(tmp_path):
    made, _ = learned(full=True, steps=2)
    made.write(tmp_path / "full.safetensors")
    assert fingerprint(load_starter(tmp_path / "full.safetensors")) == fingerprint(made.model)
    encoders = made.model.encoder.state_dict(), tiny_model().encoder.state_dict()
    assert all(torch.equal(encoders[0][name], encoders[1][name]) for name in encoders[0])


def test_framing_puts_the_object_into_the_middle_at_four_fifths():
    wide = SourceImage(torch.rand(3, 60, 90), torch.zeros(1, 60, 90))
    wide.alpha[:, 5:25, 40:80] = 1.0
    signal = framed_signal(wide, 50)
    covered = signal[3] > 0
    rows, columns = covered.any(1).nonzero()[:, 0], covered.any(0).nonzero()[:, 0]
    assert (columns[0], columns[-1]) == (5, 44) and (rows[0], rows[-1]) == (15, 34)
    assert float(signal[3, 0, 0]) == -1.0 and float(signal[:3, 0, 0].abs().max()) == 0.0


def test_cancelling_stops():
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        personalise(tiny_model(), PICTURES, word="sks", noun="barrel", options=QUICK, cancel=token)


def test_words_and_pictures_that_cannot_be_used_are_named():
    model, quick = tiny_model(), PersonaliseOptions(steps=1, prior=0.0)
    with pytest.raises(InvalidInput, match="There are no pictures"):
        personalise(model, [], word="sks", noun="barrel", options=quick)
    with pytest.raises(InvalidInput, match="word is 'two words'"):
        personalise(model, PICTURES, word="two words", noun="barrel", options=quick)
    with pytest.raises(InvalidInput, match="noun is '樽'"):
        personalise(model, PICTURES, word="sks", noun="樽", options=quick)
    made = personalise(model, PICTURES[:1], word="red", noun="samovar", options=quick)
    assert ["1 pictures" in made.warnings[0], "'red' has a meaning" in made.warnings[1]] == [True, True]
    assert "does not know 'samovar'" in made.warnings[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"keep": -1.0}, "keep is -1.0"),
        ({"prior": float("nan")}, "prior is nan"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_wrong_numbers_are_named(changes, message):
    with pytest.raises(InvalidInput, match=message):
        PersonaliseOptions(**changes)


def write_picture(path, picture):
    pixels = torch.cat([picture.rgb, picture.alpha]).permute(1, 2, 0).numpy()
    Image.fromarray((255 * pixels + 0.5).astype(np.uint8)).save(path)
    return path


def test_the_command_reads_pictures_and_writes_an_adapter(tmp_path, capsys):
    save_starter(tiny_model(), tmp_path / "starter.safetensors")
    paths = [write_picture(tmp_path / f"{i}.png", picture) for i, picture in enumerate(PICTURES)]
    words = ["--word", "sks", "--noun", "barrel", "--weights", str(tmp_path / "starter.safetensors"), "--json"]
    out = tmp_path / "sks.safetensors"
    train = ["train", "personalise", *map(str, paths), *words, "--steps", "10"]
    assert main([*train, "-o", str(out)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["step"] == 10 and lines[-1]["event"] == "done" and lines[-1]["words"] == ["sks"]
    generator = starter_from_settings(GeneratorSettings(tmp_path / "starter.safetensors", adapters=(out,)))
    assert generator.words == {"sks"}
    for wrong in ("sks.bin", "nowhere/sks.safetensors"):
        assert main([*train, "-o", str(tmp_path / wrong)]) == 1
    assert main([*train, "-o", str(out), "--rank", "0"]) == 2
    assert main(["train", "personalise", *words, "-o", str(out)]) == 2
    assert "There are no pictures" in capsys.readouterr().err


def test_pictures_that_cannot_be_read_are_named(tmp_path):
    good = write_picture(tmp_path / "good.png", PICTURES[0])
    (tmp_path / "bad.png").write_bytes(b"nothing")
    empty = SourceImage(PICTURES[0].rgb, 0 * PICTURES[0].alpha)
    write_picture(tmp_path / "empty.png", empty)
    for name, message in (("bad", "bad.png is not an image"), ("empty", "empty.png shows nothing"), ("none", "none.png does not exist")):  # fmt: skip
        with pytest.raises(InvalidImage, match=message):
            read_pictures([good, tmp_path / f"{name}.png"])
