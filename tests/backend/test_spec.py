"""What is asked for: kept exactly, checked before it waits in the queue."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput
from mvgamba_backend.checks import BACKGROUNDS, check_images, check_spec
from mvgamba_backend.engine.cube import checker_png
from mvgamba_backend.spec import (
    CameraSpec,
    CaptureSource,
    ImageSource,
    JobMesh,
    JobSpec,
    Limits,
    MultiviewOptions,
    Options,
    SidePicture,
    TextSource,
    VariationSource,
    ViewSpec,
    spec_from_json,
)

LIMITS = Limits()
IDENTITY = (1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0)
CAMERA = CameraSpec(IDENTITY, 32.0, 32.0, 8.0, 8.0, 16, 16)
A, B = "a" * 64, "b" * 64

finite = st.floats(allow_nan=False, allow_infinity=False)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
cameras = st.builds(
    CameraSpec,
    st.lists(finite, min_size=16, max_size=16).map(tuple),
    finite,
    finite,
    finite,
    finite,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
captures = st.builds(
    CaptureSource, st.lists(st.builds(ViewSpec, hashes, cameras, st.none() | hashes), max_size=3).map(tuple)
)
sources = st.one_of(
    st.builds(TextSource, st.text(), st.text()),
    st.builds(
        ImageSource,
        hashes,
        st.text(),
        st.none() | finite,
        st.lists(st.builds(SidePicture, hashes, st.text()), max_size=3).map(tuple),
        st.text(),
    ),
    captures,
    st.builds(
        VariationSource, captures | st.builds(JobMesh, st.text(), st.text(), hashes), st.text(), st.text(), finite
    ),
)
multiviews = st.builds(
    MultiviewOptions,
    generator=st.text(min_size=1),
    candidates=st.integers(1, 2**32 - 1),
    steps=st.none() | st.integers(0, 2**32 - 1),
    guidance=st.none() | finite,
    recall=st.booleans(),
    distil_steps=st.integers(0, 2**32 - 1),
)
options = st.builds(
    Options,
    quality=st.sampled_from(["draft", "standard", "high"]),
    reconstructor=st.text(min_size=1),
    refine=st.booleans(),
    target_faces=st.integers(1, 2**32 - 1),
    texture_size=st.integers(1, 2**32 - 1),
    seed=st.none() | st.integers(0, 2**32 - 1),
    device=st.text(min_size=1),
    seconds=st.none() | st.floats(0.1, 1e6),
    multiview=multiviews,
    variants=st.integers(1, 2**32 - 1),
    review_views=st.booleans(),
    memory_mib=st.none() | st.integers(1, 2**32 - 1),
)
specs = st.builds(JobSpec, sources, options, st.text())


@given(specs)
def test_a_spec_survives_the_database(spec):
    assert spec_from_json(spec.to_json()) == spec
    assert spec_from_json(spec.to_json()).digest() == spec.digest()


def capture(**changes) -> JobSpec:
    return JobSpec(CaptureSource((ViewSpec(A, CAMERA), ViewSpec(B, dataclasses.replace(CAMERA, **changes)))))


def turned(angle: float, scale: float = 1.0) -> tuple[float, ...]:
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return (c, 0, s, 5.0, 0, scale, 0, 1.0, -s, 0, c, -2.0, 0, 0, 0, 1)


@given(st.floats(-10, 10), st.floats(0.995, 1.005))
def test_a_turned_camera_is_taken_with_the_rounding_of_float32(angle, scale):
    check_spec(capture(c2w=turned(angle, scale)), LIMITS)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"c2w": IDENTITY[:12]}, "12 values"),
        ({"c2w": (math.nan, *IDENTITY[1:])}, "finite"),
        ({"c2w": (*IDENTITY[:3], math.inf, *IDENTITY[4:])}, "finite"),
        ({"c2w": (*IDENTITY[:12], 0, 0, 1, 1)}, "last row"),
        ({"c2w": turned(0.3, 2.0)}, "scaled or sheared"),
        ({"c2w": (1, 0.5, 0, 0, *IDENTITY[4:])}, "scaled or sheared"),
        ({"c2w": (-1, *IDENTITY[1:])}, "mirrors"),
        ({"fx": 0.0}, "fx"),
        ({"fy": -1.0}, "fy"),
        ({"cx": math.nan}, "cx"),
        ({"width": 0}, "width"),
        ({"height": 10_000}, "height"),
        ({"width": 17}, "one size"),
    ],
)
def test_a_camera_that_is_none_is_named(changes, word):
    with pytest.raises(InvalidCameras, match=word) as caught:
        check_spec(capture(**changes), LIMITS)
    assert "capture.views[1].camera" in str(caught.value)


def test_depth_is_for_every_view_or_for_none():
    mixed = CaptureSource((ViewSpec(A, CAMERA, depth=A), ViewSpec(B, CAMERA)))
    with pytest.raises(InvalidInput, match=r"views\[1\]\.depth"):
        check_spec(JobSpec(mixed), LIMITS)


def test_many_large_views_are_too_many_pixels():
    camera = dataclasses.replace(CAMERA, width=4096, height=4096)
    with pytest.raises(InvalidImage, match="megapixels"):
        check_spec(JobSpec(CaptureSource((ViewSpec(A, camera),) * 20)), LIMITS)


def test_a_picture_that_claims_to_be_huge_is_refused_by_its_header():
    bomb = bytearray(checker_png(16, (200, 100, 50)))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(InvalidImage, match="60000 x 60000"):
        check_images(JobSpec(ImageSource(A)), LIMITS, lambda _: (len(bomb), bytes(bomb[:26])))


def test_views_need_alpha_and_eight_bits():
    opaque = checker_png(16, (200, 100, 50))
    with pytest.raises(InvalidImage, match=r"views\[0\]\.image has no alpha"):
        check_images(capture(), LIMITS, lambda _: (len(opaque), opaque[:26]))
    deep = bytearray(opaque)
    deep[24], deep[25] = 16, 6
    with pytest.raises(InvalidImage, match="16 bits"):
        check_images(capture(), LIMITS, lambda _: (len(deep), bytes(deep[:26])))


OLD_OPTIONS = (
    '{"device":"auto","quality":"draft","reconstructor":"auto","refine":false,"seconds":null,"seed":7,"target_faces":900,'
    '"texture_size":256}'
)


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        ("text", '{"negative_prompt":"","prompt":"a barrel"}', TextSource("a barrel")),
        ("image", f'{{"image":"{A}"}}', ImageSource(A)),
        ("capture", '{"views":[]}', CaptureSource(())),
    ],
)
def test_what_a_service_stored_before_there_were_variants_is_read_and_keeps_its_digest(kind, source, expected):
    stored = f'{{"kind":"{kind}","label":"old","options":{OLD_OPTIONS},"source":{source}}}'
    spec = spec_from_json(stored)
    options = Options(quality="draft", refine=False, target_faces=900, texture_size=256, seed=7)
    assert spec == JobSpec(expected, options, "old")
    # a client that repeats its request to the newer service must be told the job that there is
    assert spec.to_json() == stored


def test_what_a_service_stored_before_there_was_recall_keeps_its_digest():
    multiview = '{"candidates":2,"generator":"auto","guidance":null,"steps":7}'
    options = OLD_OPTIONS[:10] + OLD_OPTIONS[10:].replace('"quality"', f'"multiview":{multiview},"quality"')
    source = f'{{"image":"{A}","prompt":"a mug"}}'
    stored = f'{{"kind":"image","label":"old","options":{options},"source":{source}}}'
    spec = spec_from_json(stored)
    assert spec.options.multiview == MultiviewOptions(candidates=2, steps=7) and spec.options.multiview.recall
    assert spec.to_json() == stored


def varied(**changes) -> JobSpec:
    return JobSpec(dataclasses.replace(VariationSource(JobMesh("job"), "a barrel"), **changes))


def pictures(*sides: str) -> JobSpec:
    return JobSpec(ImageSource(A, others=tuple(SidePicture(B, side) for side in sides)))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        *((JobSpec(TextSource(text)), "text.prompt is empty") for text in ("", "  ", "\x00\x07\n", "\u200b\u2028")),
        (JobSpec(TextSource("x", "y" * 2001)), "text.negative_prompt"),
        (JobSpec(ImageSource(A, "y" * 2001)), "image.prompt"),
        (JobSpec(ImageSource(A, elevation=1.1)), "image.elevation"),
        (JobSpec(ImageSource(A, elevation=math.nan)), "image.elevation"),
        (JobSpec(ImageSource(A, background="magic")), "image.background is 'magic'"),
        (pictures("right", "back", "left", "right"), "image has 5 pictures"),
        (pictures("right", ""), r"image.others\[1\].side is not set"),
        (pictures("front"), r"image.others\[0\].side is front, which image.image shows"),
        (pictures("top"), r"image.others\[0\].side is top; say right, back or left"),
        (pictures("left", "back", "left"), r"image.others\[2\].side is left, as of an earlier picture"),
        (varied(prompt=" "), "variation.prompt"),
        (varied(negative_prompt="y" * 2001), "variation.negative_prompt"),
        (varied(strength=-0.01), "variation.strength is -0.01"),
        (varied(strength=1.01), "variation.strength"),
        (varied(strength=math.nan), "variation.strength"),
        (varied(object=CaptureSource(())), "variation.capture.views is empty"),
    ],
)
def test_words_pictures_and_variations_are_refused_by_their_field(spec, field):
    with pytest.raises(InvalidInput, match=field):
        check_spec(spec, LIMITS)


@pytest.mark.parametrize("text", ["Fässchen", "木桶", "бочка", "a barrel \U0001f6e2\ufe0f", "a\x00barrel", "x" * 2000])
def test_a_prompt_may_be_in_any_script(text):
    check_spec(JobSpec(TextSource(text)), LIMITS)
    check_spec(varied(prompt=text), LIMITS)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"variants": 0}, "options.variants is 0"),
        ({"variants": 17}, "between 1 and 16"),
        ({"variants": 2, "seed": 2**31 - 1}, "options.seed"),
        ({"multiview": MultiviewOptions("")}, "multiview.generator"),
        ({"multiview": MultiviewOptions(candidates=0)}, "multiview.candidates"),
        ({"multiview": MultiviewOptions(candidates=17)}, "multiview.candidates"),
        ({"multiview": MultiviewOptions(steps=0)}, "multiview.steps"),
        ({"multiview": MultiviewOptions(steps=1001)}, "multiview.steps"),
        ({"multiview": MultiviewOptions(guidance=30.5)}, "multiview.guidance"),
        ({"multiview": MultiviewOptions(guidance=math.nan)}, "multiview.guidance"),
        (
            {"multiview": MultiviewOptions(distil_steps=2001)},
            "multiview.distil_steps is 2001; .* 0 \\(none\\) and 2000",
        ),
    ],
)
def test_options_of_made_views_have_ranges(changes, field):
    with pytest.raises(InvalidInput, match=field):
        check_spec(JobSpec(TextSource("a barrel"), Options(**changes)), LIMITS)


@pytest.mark.parametrize("changes", [{"variants": 2}, {"review_views": True}])
def test_a_capture_has_one_result_and_nothing_to_review(changes):
    spec = dataclasses.replace(capture(), options=Options(**changes))
    with pytest.raises(InvalidInput, match=f"options.{next(iter(changes))}"):
        check_spec(spec, LIMITS)


def test_the_largest_seeds_suffice_for_all_variants():
    check_spec(JobSpec(TextSource("a barrel"), Options(seed=2**31 - 16, variants=16)), LIMITS)


def test_the_views_of_a_variation_are_looked_at_too():
    opaque = checker_png(16, (200, 100, 50))
    with pytest.raises(InvalidImage, match=r"variation\.capture\.views\[0\]\.image has no alpha"):
        check_images(varied(object=capture().source), LIMITS, lambda _: (len(opaque), opaque[:26]))
    assert varied().blobs() == []
    assert varied(object=JobMesh("job", sha256=A)).blobs() == [("variation.job_id", A)]


def test_pictures_of_all_sides_are_taken_and_each_is_looked_at():
    spec = pictures("right", "back", "left")
    check_spec(spec, LIMITS)
    assert [path for path, _ in spec.blobs()] == ["image.image", *(f"image.others[{i}].image" for i in range(3))]
    whole, broken = checker_png(16, (200, 100, 50)), b"GIF89a" + b" " * 40
    heads = {A: (len(whole), whole[:26]), B: (len(broken), broken[:26])}
    with pytest.raises(InvalidImage, match=r"image\.others\[0\]\.image is not a PNG"):
        check_images(spec, LIMITS, heads.get)
    check_images(spec, LIMITS, lambda _: heads[A])


def test_the_ways_with_a_background_are_those_of_the_library():
    from mvgamba.multiview import background

    assert BACKGROUNDS == background.BACKGROUNDS


@pytest.mark.parametrize(
    ("spec", "changes", "said"),
    [
        (varied(), {}, "not for a variation"),
        (capture(), {}, "not for a capture"),
        (JobSpec(TextSource("x")), {"multiview": MultiviewOptions("mvdream", distil_steps=150)}, "not by 'mvdream'"),
        (JobSpec(TextSource("x")), {"review_views": True}, "a review ends after the views"),
    ],
)
def test_distillation_that_cannot_be_is_refused_before_it_waits(spec, changes, said):
    distilled = Options(multiview=MultiviewOptions(distil_steps=150))
    check_spec(JobSpec(TextSource("x"), distilled), LIMITS)
    check_spec(JobSpec(ImageSource(A), distilled), LIMITS)
    with pytest.raises(InvalidInput, match=f"options.multiview.distil_steps is 150; .*{said}"):
        check_spec(dataclasses.replace(spec, options=dataclasses.replace(distilled, **changes)), LIMITS)
