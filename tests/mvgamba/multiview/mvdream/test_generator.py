"""The generators as the pipeline of the house meets them."""

import dataclasses
import math

import pytest
import torch

from mvgamba.errors import (
    Cancelled,
    InvalidCameras,
    InvalidImage,
    InvalidInput,
    OutOfMemory,
    Unavailable,
    WeightsMissing,
)
from mvgamba.multiview import GENERATORS
from mvgamba.multiview.mvdream import generator as module
from mvgamba.multiview.mvdream.generator import IMAGEDREAM, MVDREAM, PublishedGenerator
from mvgamba.multiview.mvdream.placement import GIB, place
from mvgamba.multiview.protocol import GeneratorSettings, MultiviewGenerator, ViewsRequest
from mvgamba.progress import CancelToken
from mvgamba.types import PosedViews, SidedImage, SourceImage
from tests.mvgamba.multiview.mvdream.checkpoints import SIZE

SMALL = {"steps": 2, "guidance": 1.0}


@pytest.fixture(scope="module")
def text(mvdream):
    return PublishedGenerator(mvdream, MVDREAM, weights="tiny")


@pytest.fixture(scope="module")
def pictures(imagedream):
    return PublishedGenerator(imagedream, IMAGEDREAM)


@pytest.fixture(scope="module")
def image():
    alpha = torch.zeros(1, 40, 30)
    alpha[:, 8:32, 6:24] = 1.0
    return SourceImage(torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(0)), alpha)


def test_words_become_four_posed_views_with_alpha(text):
    request = ViewsRequest(prompt="a red chair", seed=5, **SMALL)
    made = text.generate(request)
    views = made.views
    assert isinstance(text, MultiviewGenerator)
    assert views.rgb.shape == (4, 3, SIZE, SIZE) and views.alpha.shape == (4, 1, SIZE, SIZE)
    position = views.cameras.c2w[:, :3, 3]
    down = math.radians(15)
    front = torch.tensor([0.0, math.sin(down), math.cos(down)], dtype=torch.float64)
    torch.testing.assert_close(position[0] / 2.53, front)
    assert float(position[1, 0]) > 2.4  # a quarter turn is +X
    half = 0.5 * SIZE / float(views.cameras.intrinsics[0, 1, 1])
    assert math.degrees(2 * math.atan(half)) == pytest.approx(49.1)
    # the unit ball is in the frame, whole
    assert math.tan(math.asin(1 / 2.53)) < half
    facts = {"generator": "mvdream", "chosen_seed": 5, "steps": 2, "precision": "float32", "generator_weights": "tiny"}
    assert facts.items() <= made.facts.items() and made.warnings == ()
    assert torch.equal(text.generate(request).views.rgb, views.rgb)


def test_an_image_becomes_views_from_its_own_elevation(pictures, image):
    made = pictures.generate(ViewsRequest(image=image, elevation=0.3, **SMALL))
    height = made.views.cameras.c2w[:, 1, 3]
    torch.testing.assert_close(height, torch.full((4,), 2.53 * math.sin(0.3), dtype=torch.float64))
    assert made.warnings == ()
    unknown = pictures.generate(ViewsRequest(image=image, **SMALL))
    assert unknown.facts["elevation_deg"] == 5.0 and "5 degrees are assumed" in unknown.warnings[0]


def test_pictures_of_other_sides_are_not_left_out_in_silence(pictures, image):
    several = dataclasses.replace(image, others=(SidedImage(math.pi, 0.0, image),))
    assert pictures.generate(ViewsRequest(image=several, elevation=0.3, **SMALL)).warnings == (
        "Of the pictures only that of the front is used by ImageDream.",
    )


def test_previews_come_after_every_step_and_grow(text):
    seen = []
    made = text.generate(
        ViewsRequest(prompt="a red chair", candidates=2, **SMALL), preview=lambda f, v: seen.append((f, v))
    )
    fractions = [f for f, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(fractions) == 2 * 2 + 1
    small = seen[0][1]
    assert small.rgb.shape == (4, 3, 8, 8) and small.cameras.width == 8
    assert seen[-1][1] is made.views
    assert len(made.facts["scores"]) == 2 and made.facts["chosen_seed"] in (0, 1)


def test_a_job_stops_between_steps(text):
    token = CancelToken()
    steps = []

    def preview(fraction, views):
        steps.append(fraction)
        token.cancel()

    with pytest.raises(Cancelled):
        text.generate(ViewsRequest(prompt="a red chair", steps=50, guidance=1.0), preview=preview, cancel=token)
    assert len(steps) == 1
    with pytest.raises(Cancelled):
        text.generate(ViewsRequest(prompt="a red chair"), cancel=token)


def test_views_are_begun_from(text, rig):
    start = PosedViews(torch.rand(4, 3, 64, 64), torch.ones(4, 1, 64, 64), rig)
    kept = text.generate(ViewsRequest(prompt="a red chair", start=start, strength=0.0))
    assert kept.views is start
    varied = text.generate(ViewsRequest(prompt="a red chair", start=start, strength=0.5, **SMALL))
    assert torch.equal(varied.views.cameras.c2w, rig.c2w)
    away = dataclasses.replace(rig, c2w=rig.c2w.clone())
    away.c2w[0, :3, 3] += 1
    with pytest.raises(InvalidCameras, match="Camera 0 stands"):
        text.generate(ViewsRequest(prompt="a", start=dataclasses.replace(start, cameras=away), strength=0.5))


def test_requests_that_cannot_be_met_are_refused(text, pictures, image):
    nothing = dataclasses.replace(image, alpha=torch.zeros_like(image.alpha))
    for generator, request, error, said in (
        (text, ViewsRequest(prompt="  "), InvalidInput, "there is none; give a few words"),
        (text, ViewsRequest(prompt="a chair", image=image), InvalidInput, "use 'imagedream' for an image"),
        (pictures, ViewsRequest(prompt="a chair"), InvalidInput, "give an image, or use 'mvdream'"),
        (pictures, ViewsRequest(image=nothing), InvalidImage, "alpha is below 0.5 everywhere"),
        (pictures, ViewsRequest(image=image, elevation=2.0), InvalidInput, "between the poles"),
        (text, ViewsRequest(prompt="a chair", candidates=0), InvalidInput, "candidates is 0"),
        (text, ViewsRequest(prompt="a chair", steps=-1), InvalidInput, "steps is -1"),
    ):
        with pytest.raises(error, match=said):
            generator.generate(request)


def test_what_is_unusual_is_said(text, pictures, image):
    long = text.generate(ViewsRequest(prompt="chair " * 20, **SMALL))
    assert "its end is not used" in long.warnings[0]
    steep = pictures.generate(ViewsRequest(image=image, elevation=0.9, **SMALL))
    assert "52 degrees; the network was trained from 0 to 30" in steep.warnings[0]


def test_the_registry_makes_them_from_what_was_pulled(tmp_path, mvdream_folder, imagedream_folder):
    with pytest.raises(WeightsMissing, match="mvgamba weights pull mvdream"):
        GENERATORS.get("mvdream")(GeneratorSettings(weights_folder=tmp_path))
    with pytest.raises(WeightsMissing, match="needs its published weights"):
        GENERATORS.get("imagedream")(GeneratorSettings())
    with pytest.raises(WeightsMissing, match="neither a file nor a folder"):
        GENERATORS.get("mvdream")(GeneratorSettings(weights=tmp_path / "nowhere"))
    (tmp_path / "mvdream").symlink_to(mvdream_folder)
    made = GENERATORS.get("mvdream")(GeneratorSettings(weights_folder=tmp_path))
    assert made.name == "mvdream" and isinstance(made, MultiviewGenerator)
    assert GENERATORS.get("imagedream")(GeneratorSettings(weights=imagedream_folder)).name == "imagedream"
    with pytest.raises(InvalidInput, match="holds the weights of mvdream"):
        GENERATORS.get("imagedream")(GeneratorSettings(weights=mvdream_folder))


def test_libraries_that_are_missing_are_named_with_the_line_that_installs_them(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "diffusers" else True)
    with pytest.raises(Unavailable, match=r"need diffusers; install with `pip install mvgamba\[multiview\]`"):
        GENERATORS.get("mvdream")(GeneratorSettings())


FULL = {"unet": 867_572_164, "vae": 83_653_863, "text_encoder": 340_387_840}


def test_precision_follows_from_the_memory_that_is_free():
    assert place(FULL, device="cpu", available=16 * GIB).dtype == torch.float32
    short = place(FULL, device="cpu", available=6 * GIB, can_halve_fast=False)
    assert short.dtype == torch.bfloat16 and "7.8 GiB" in short.warning and "slowly" in short.warning
    with pytest.raises(OutOfMemory, match=r"needs 3\.9 GiB of memory, 3\.0 GiB are free.*'starter'"):
        place(FULL, device="cpu", available=3 * GIB)
    fits = place(FULL, device="cuda:0", available=8 * GIB)
    assert (fits.dtype, fits.offload, fits.warning) == (torch.float16, False, None)
    turns = place(FULL, device="cuda:0", available=int(3.5 * GIB))
    assert turns.offload and "take turns" in turns.warning
    with pytest.raises(OutOfMemory, match="device memory"):
        place(FULL, device="cuda:0", available=2 * GIB)


@pytest.mark.parametrize(
    "error",
    [torch.cuda.OutOfMemoryError("x"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_memory_that_runs_out_later_is_named_too(text, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(text.pipeline.unet, "forward", fail)
    with pytest.raises(OutOfMemory, match="ran out while views were made"):
        text.generate(ViewsRequest(prompt="a chair", **SMALL))
