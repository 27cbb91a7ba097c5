"""Words, a picture or an object -> a mesh, by a generator that knows one thing, a red ball."""

import dataclasses
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mvgamba.errors import Cancelled, InvalidInput, WeightsMissing
from mvgamba.io.glb import read_glb
from mvgamba.io.images import encode_png
from mvgamba.multiview.protocol import GeneratorSettings
from mvgamba.multiview.starter_generator import rig_cameras, starter_from_settings
from mvgamba.pipeline import generate, only_views
from mvgamba.progress import CancelToken
from mvgamba.types import (
    GenerateOptions,
    GenerateRequest,
    MultiviewOptions,
    PosedViews,
    SidedImage,
    Similarity,
    SourceImage,
    TextPrompt,
    Variation,
)
from mvgamba.view_making import placed
from tests.mvgamba.multiview.tiny import ball_model, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(ball_model(), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def options(weights):
    return GenerateOptions(
        quality="draft", target_faces=1000, texture_size=128, weights_folder=weights,
        multiview=MultiviewOptions(candidates=1, steps=3),
    )  # fmt: skip


def box_of(mesh):
    return mesh.vertices.min(0), mesh.vertices.max(0)


def test_words_become_a_mesh_in_the_unit_ball_and_the_facts_say_how(options):
    seen, fractions = [], []
    result = generate(
        GenerateRequest(TextPrompt("a red barrel"), options),
        lambda progress: fractions.append((progress.stage, progress.fraction)),
        show=lambda views: seen.append(views.num_views),
    )
    low, high = box_of(result.mesh)
    # a disc of radius 0.3 frames at distance 2.53 is the outline of a ball of about 0.66
    assert np.allclose(high, 0.66, atol=0.04) and np.allclose(low, -0.66, atol=0.04)
    assert result.made_views is not None and result.made_views.num_views == 5 and seen == [5] * 4
    reds = result.mesh.albedo.reshape(-1, 3)
    assert np.median(reds[:, 0]) > 190 and np.median(reds[:, 1]) < 70
    assert result.facts["generator"] == "starter" and result.facts["generator_weights"] == "tiny"
    assert result.facts["prompt"] == "a red barrel" and result.facts["warnings"] == []
    steps = [fraction for _, fraction in fractions]
    assert steps == sorted(steps) and steps[-1] == 1.0 and fractions[0][0] == "multiview"
    assert list(result.seconds)[0] == "multiview"


def test_the_views_can_be_had_alone(options):
    made = only_views(GenerateRequest(TextPrompt("a teapot"), options))
    torch.testing.assert_close(made.views.cameras.c2w, rig_cameras().c2w)
    assert "teapot" in made.warnings[0]
    with pytest.raises(InvalidInput, match="Posed views are there already"):
        only_views(GenerateRequest(made.views, options))


def test_a_picture_shows_in_front(options):
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 12:52, 12:52] = 1
    picture = torch.zeros(3, 64, 64)
    picture[2] = 0.9
    made = only_views(GenerateRequest(SourceImage(picture, alpha, elevation=0.0), options))
    front = made.views.rgb[0, :, 128, 128]
    assert front[2] > 0.85 and front[0] < 0.1, "the picture is blue"
    assert made.views.rgb[1, 0, 128, 128] > 0.75, "the other views are the generator's"


def test_pictures_of_other_sides_show_there(options):
    def picture(color):
        alpha = torch.zeros(1, 64, 64)
        alpha[:, 12:52, 12:52] = 1
        return SourceImage(torch.tensor(color)[:, None, None].expand(3, 64, 64), alpha)

    sides = (SidedImage(math.pi, 0.0, picture((0.1, 0.8, 0.1))), SidedImage(0.0, math.pi / 2, picture((1.0, 1.0, 1.0))))
    source = dataclasses.replace(picture((0.0, 0.0, 0.9)), elevation=0.0, others=sides)
    made = only_views(GenerateRequest(source, options))
    middle = made.views.rgb[:, :, 128, 128]
    assert middle[0, 2] > 0.85 and middle[2, 1] > 0.75, "front and back are the pictures"
    assert bool((middle[[1, 3, 4], 0] > 0.7).all()), "the rest is the generator's"
    assert "Of the pictures only those" in made.warnings[0]


@pytest.mark.parametrize("refine", [True, False])
def test_surfels_are_pulled_to_what_the_generator_takes_them_for(options, refine):
    multiview = dataclasses.replace(options.multiview, distil=3)
    pulled = dataclasses.replace(options, multiview=multiview, refine=refine, reconstructor="ray")
    told = []
    result = generate(GenerateRequest(TextPrompt("a red barrel"), pulled), told.append)
    assert result.facts["distilled"] == 3
    fractions = [p.fraction for p in told if p.message == "Distilling"]
    assert len(fractions) == 4 and fractions == sorted(set(fractions)), "minutes must not look like a standstill"
    low, high = box_of(result.mesh)
    assert np.allclose(high, 0.66, atol=0.06) and np.allclose(low, -0.66, atol=0.06)


def test_weights_are_loaded_once_also_where_they_distil(options, monkeypatch):
    from mvgamba.multiview import starter_generator

    loaded, load = [], starter_generator.load_starter
    monkeypatch.setattr(starter_generator, "load_starter", lambda path: loaded.append(path) or load(path))
    pulled = dataclasses.replace(options, multiview=dataclasses.replace(options.multiview, distil=1))
    generate(GenerateRequest(TextPrompt("a red barrel"), pulled))
    assert len(loaded) == 1


def test_distillation_that_cannot_be_is_refused_before_views_are_made(options):
    pulled = dataclasses.replace(options, multiview=dataclasses.replace(options.multiview, distil=3))
    seen = PosedViews(torch.zeros(5, 3, 16, 16), torch.ones(5, 1, 16, 16), rig_cameras(size=16))
    told = []
    with pytest.raises(InvalidInput, match="for words and pictures"):
        generate(GenerateRequest(Variation(seen, "a red barrel"), pulled), told.append)
    assert [p.fraction for p in told] == [0.0]


def test_a_variation_stands_where_the_object_stood(options):
    place = Similarity(2.0, torch.eye(3, dtype=torch.float64), torch.tensor([10.0, 1.0, -4.0], dtype=torch.float64))
    made = only_views(GenerateRequest(TextPrompt("a ball"), options)).views
    cameras = dataclasses.replace(made.cameras, c2w=placed(made.cameras.c2w, place))
    views = PosedViews(made.rgb, made.alpha, cameras)
    result = generate(GenerateRequest(Variation(views, "a red barrel", strength=0.5), options))
    low, high = box_of(result.mesh)
    assert np.allclose((low + high) / 2, [10, 1, -4], atol=0.05) and np.allclose(high - low, 2 * 2 * 0.66, atol=0.12)
    assert result.facts["strength"] == 0.5


def test_captures_from_other_cameras_are_drawn_anew_before_they_vary(options, box_views):
    low, high = box_of(generate(GenerateRequest(box_views, options)).mesh)
    made = only_views(GenerateRequest(Variation(box_views, "a red barrel", strength=0.0), options)).views
    # nothing was given up, so the views are those of the box, from the generator's cameras in the place of the box
    assert made.num_views == 5
    middle = torch.from_numpy((low + high) / 2)
    towards = made.cameras.c2w[:, :3, 3] - middle
    axis = made.cameras.c2w[:, :3, 2]
    assert bool((torch.linalg.cross(towards, axis).norm(dim=1) < 0.1 * towards.norm(dim=1)).all())
    again = generate(GenerateRequest(Variation(box_views, "a red barrel", strength=0.0), options)).mesh
    new_low, new_high = box_of(again)
    assert np.allclose(new_low, low, atol=0.25 * (high - low).max()) and np.allclose(
        new_high, high, atol=0.25 * (high - low).max()
    )


def test_it_stops_while_views_are_made(options):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        generate(GenerateRequest(TextPrompt("a barrel"), options), cancel=token)


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(WeightsMissing, match=r"tiny\.safetensors does not exist"):
        starter_from_settings(GeneratorSettings(weights=tmp_path / "tiny.safetensors"))


# ---------------------------------------------------------------- the command line


QUICK = ("--quality", "draft", "--faces", "1000", "--texture", "128", "--candidates", "1", "--steps", "2")


def run(weights, *arguments):
    environment = os.environ | {"MVGAMBA_WEIGHTS": str(weights)}
    command = [sys.executable, "-m", "mvgamba", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_text_and_then_vary_in_its_place(weights, tmp_path):
    done = run(
        weights, "text", "a red barrel", "-o", tmp_path / "a.glb", *QUICK, "--json", "--views", tmp_path / "views"
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "done" and last["generator"] == "starter" and last["prompt"] == "a red barrel"
    assert (tmp_path / "views" / "front.png").is_file()
    assert b"a red barrel" in (tmp_path / "a.glb").read_bytes()
    varied = run(
        weights, "vary", tmp_path / "a.glb", "--prompt", "a barrel", "-o", tmp_path / "b.glb", *QUICK, "--strength", 1
    )
    assert varied.returncode == 0 and "views by starter" in varied.stdout
    one, other = (box_of(read_glb(tmp_path / name)) for name in ("a.glb", "b.glb"))
    assert np.allclose(np.add(*one), np.add(*other), atol=0.08), "the middle stays"
    # whatever it is given, this generator draws a ball of 0.66 of the frame
    assert np.allclose(np.subtract(*other) / np.subtract(*one), 0.7, atol=0.08)


def test_views_are_looked_at_mended_and_reconstructed(weights, tmp_path):
    folder = tmp_path / "views"
    done = run(weights, "text", "a barrel", "-o", tmp_path / "a.glb", *QUICK, "--views", folder, "--views-only")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "a.glb").exists() and str(folder) in done.stdout
    done = run(
        weights, "views", folder, "-o", tmp_path / "a.glb", "--quality", "draft", "--faces", 1000, "--texture", 128
    )
    assert done.returncode == 0 and (tmp_path / "a.glb").exists()


def test_a_picture_and_its_variants(weights, tmp_path):
    pixels = np.full((96, 96, 4), (30, 60, 220, 0), np.uint8)
    pixels[20:76, 30:66, 3] = 255
    (tmp_path / "blue.png").write_bytes(encode_png(pixels))
    done = run(weights, "image", tmp_path / "blue.png", "-o", tmp_path / "x.glb", *QUICK, "--variants", 2)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x_1.glb").exists() and (tmp_path / "x_2.glb").exists() and not (tmp_path / "x.glb").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("text", "  "), "The prompt is empty"),
        (("text", "x" * 10_000), "10000 characters"),
        (("text", "a barrel", "--variants", "0"), "--variants is 0"),
        (("text", "a barrel", "--views-only"), "--views-only needs --views"),
        (("text", "a barrel", "--generator", "dall-e"), "no multi-view generator named 'dall-e'"),
        (("image", "nothing.png"), "nothing.png"),
        (("image", "nothing.png", "--elevation", "80"), "--elevation is 80"),
        (("image", "one.png", "two.png"), "--sides names 0 sides for 2 pictures"),
        (("vary", "nothing.glb", "--prompt", "a barrel"), "nothing.glb"),
        (("vary", "nothing.glb", "--prompt", "a barrel", "--strength", "2"), "--strength is 2"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(weights, tmp_path, arguments, said):
    done = run(weights, *arguments, "-o", tmp_path / "x.glb", *QUICK)
    assert done.returncode in (1, 2) and said in done.stderr and not (tmp_path / "x.glb").exists()
    assert "Traceback" not in done.stderr
