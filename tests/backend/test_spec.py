"""What is asked for: kept exactly, checked before it waits in the queue."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput
from mvgamba_backend.engine.cube import checker_png
from mvgamba_backend.spec import (
    CameraSpec,
    CaptureSource,
    ImageSource,
    JobSpec,
    Limits,
    Options,
    TextSource,
    ViewSpec,
    check_images,
    check_spec,
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
sources = st.one_of(
    st.builds(TextSource, st.text(), st.text()),
    st.builds(ImageSource, hashes),
    st.builds(CaptureSource, st.lists(st.builds(ViewSpec, hashes, cameras, st.none() | hashes), max_size=3).map(tuple)),
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
