"""Framed pictures have the subject in the middle, at a known size, in its own colours; sides agree in scale."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mvgamba.errors import InvalidImage, InvalidInput
from mvgamba.io.images import encode_png
from mvgamba.multiview.background import CutOut
from mvgamba.multiview.framing import framed, prepared_image, prepared_sides, several
from tests.mvgamba.multiview.backdrops import over
from tests.mvgamba.multiview.objects import cut_out_of, mug


def block(height: int, width: int, *, at: tuple[int, int] = (20, 30), canvas: int = 400) -> CutOut:
    """An orange rectangle before green that no one should see."""
    rgb = np.full((canvas, canvas, 3), (0, 1, 0), np.float32)
    alpha = np.zeros((canvas, canvas), np.float32)
    rows, columns = slice(at[0], at[0] + height), slice(at[1], at[1] + width)
    rgb[rows, columns], alpha[rows, columns] = (1, 0.5, 0), 1
    return CutOut(rgb, alpha, "block")


def extent(alpha: torch.Tensor) -> tuple[float, float]:
    """Height and width of a filled rectangle, to a part of a pixel."""
    return float(alpha[0].max(1).values.sum()), float(alpha[0].max(0).values.sum())


@pytest.mark.parametrize(("height", "width"), [(200, 100), (90, 333), (150, 150)])
@pytest.mark.parametrize("fill", [0.8, 0.5, 1.0])
def test_the_subject_is_in_the_middle_and_fills_what_is_asked(height: int, width: int, fill: float):
    result = framed(block(height, width), size=256, fill=fill)
    alpha = result.image.alpha
    assert result.warnings == () and alpha.shape == (1, 256, 256)
    tall, wide = extent(alpha)
    assert max(tall, wide) == pytest.approx(256 * fill, abs=1)
    assert tall / wide == pytest.approx(height / width, rel=0.03)
    place = torch.arange(256) + 0.5
    assert float((alpha[0].sum(0) * place).sum() / alpha.sum()) == pytest.approx(128, abs=0.3)
    assert float((alpha[0].sum(1) * place).sum() / alpha.sum()) == pytest.approx(128, abs=0.3)
    seen = alpha[0] > 0.02
    torch.testing.assert_close(
        result.image.rgb[:, seen], torch.tensor([[1.0], [0.5], [0.0]]).expand(3, int(seen.sum())), atol=0.01, rtol=0
    )


def test_few_pixels_are_said():
    assert framed(block(64, 20)).warnings == ()
    assert "only 63 pixels large" in framed(block(63, 20)).warnings[0]


def test_a_frame_may_reach_beyond_the_picture():
    image = framed(block(400, 50, at=(0, 350)), size=64).image
    assert extent(image.alpha)[0] == pytest.approx(51.2, abs=1)
    assert not image.alpha[0, :, :20].any()


def test_nothing_and_odd_frames_are_refused():
    empty = block(0, 0)
    with pytest.raises(InvalidImage, match="block shows nothing"):
        framed(empty)
    for size, fill in ((8, 0.8), (256, 0.0), (256, 1.2)):
        with pytest.raises(InvalidInput, match="not possible"):
            framed(block(50, 50), size=size, fill=fill)


def test_level_sides_agree_in_height_and_the_widest_fits():
    found = several([("front", block(100, 240)), ("right", block(200, 150)), ("left", block(300, 200))], size=200)
    heights = [extent(side.image.alpha)[0] for side in found.sides]
    np.testing.assert_allclose(heights, heights[0], atol=1)
    assert extent(found.sides[0].image.alpha)[1] == pytest.approx(160, abs=1)
    assert [side.azimuth for side in found.sides] == pytest.approx([0, math.pi / 2, 1.5 * math.pi])


def test_the_top_is_as_wide_as_the_front():
    found = several([("front", block(200, 100)), ("top", block(30, 90)), ("30, 45", block(70, 140))], size=200)
    front, top, other = (extent(side.image.alpha) for side in found.sides)
    assert top[1] == pytest.approx(front[1], abs=1)
    assert other[1] == pytest.approx(160, abs=1)
    assert found.sides[1].elevation == pytest.approx(math.pi / 2)
    assert found.sides[2].azimuth == pytest.approx(math.radians(30))


def test_sides_are_checked():
    one = block(100, 100)
    for first, second in (("front", "Front "), ("left", "-90"), ("top", "45,90"), ("back", "180,0")):
        with pytest.raises(InvalidInput, match="one and the same"):
            several([(first, one), (second, one)])
    for side in ("behind", "", "10,20,30", "0,95", "nan"):
        with pytest.raises(InvalidInput, match="There is no side"):
            several([(side, one)])
    with pytest.raises(InvalidInput, match="No picture"):
        several([])


def test_opposite_sides_that_differ_are_said():
    found = several([("front", block(100, 100)), ("back", block(100, 150))])
    assert "front and back differ" in found.warnings[-1]
    assert several([("front", block(100, 100)), ("back", block(100, 110))]).warnings == ()


def test_a_file_becomes_a_picture_that_is_ready(tmp_path: Path):
    alone = cut_out_of(mug(), size=160)
    (tmp_path / "mug.png").write_bytes(encode_png(over(alone, "graded", seed=3)))
    result = prepared_image(tmp_path / "mug.png", size=128, remover="plain")
    expected = framed(CutOut(np.ascontiguousarray(alone[..., :3]), np.ascontiguousarray(alone[..., 3])), size=128)
    both = result.image.alpha > 0.5, expected.image.alpha > 0.5
    assert float((both[0] & both[1]).sum() / (both[0] | both[1]).sum()) > 0.95
    inner = (expected.image.alpha == 1).expand(3, -1, -1)
    assert float((result.image.rgb - expected.image.rgb)[inner].abs().mean()) < 0.03


def test_files_of_several_sides_become_the_front_with_the_others_beside_it(tmp_path: Path):
    files = []
    for side, width in (("left", 60), ("front", 120)):
        cut = block(100, width)
        files.append((side, tmp_path / f"{side}.png"))
        files[-1][1].write_bytes(encode_png(np.dstack([cut.rgb, cut.alpha])))
    ready = prepared_sides(files, background="keep_alpha")
    (other,) = ready.image.others
    assert other.azimuth == pytest.approx(1.5 * math.pi) and other.elevation == 0
    front, left = extent(ready.image.alpha), extent(other.image.alpha)
    assert front[0] == pytest.approx(left[0], abs=1) and front[1] == pytest.approx(2 * left[1], rel=0.03)
    with pytest.raises(InvalidInput, match="front"):
        prepared_sides(files[:1])
    files[0][1].write_bytes(b"no picture")
    with pytest.raises(InvalidImage, match="The left one"):
        prepared_sides(files, names=("The left one", "The front"))
