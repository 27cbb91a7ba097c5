"""Subjects are told from backgrounds of many kinds, edges lose the background's colour, and what cannot be done is said."""

import importlib.util

import numpy as np
import pytest
from scipy import ndimage

from mvgamba.errors import InvalidImage, InvalidInput, Unavailable
from mvgamba.io.images import Picture
from mvgamba.multiview.background import cut_out
from mvgamba.multiview.rembg_background import rembg_matte, why_no_rembg
from tests.mvgamba.multiview.backdrops import iou, over
from tests.mvgamba.multiview.objects import crate, cut_out_of, mug


@pytest.fixture(scope="module")
def mug_alone() -> np.ndarray:
    return cut_out_of(mug())


@pytest.fixture(scope="module")
def crate_alone() -> np.ndarray:
    return cut_out_of(crate())


def picture_of(pixels: np.ndarray, alpha: np.ndarray | None = None) -> Picture:
    return Picture(pixels.astype(np.float32) / 255, alpha, "it")


@pytest.mark.parametrize(
    "kind", ["plain", "graded + shadow", "floor and wall", "icon", "white + shadow + noise", "plain + jpeg"]
)
def test_a_mug_is_cut_out(kind: str, mug_alone: np.ndarray):
    cut = cut_out(picture_of(over(mug_alone, kind, seed=1)), remover="plain")
    assert iou(cut.alpha, mug_alone[..., 3]) > (
        0.9 if "jpeg" in kind else 0.95
    )  # its blocks are large in small pictures


@pytest.mark.parametrize("kind", ["white", "graded"])
def test_a_grey_thing_is_no_shadow(kind: str, crate_alone: np.ndarray):
    cut = cut_out(picture_of(over(crate_alone, kind, seed=2)), remover="plain")
    assert iou(cut.alpha, crate_alone[..., 3]) > 0.95


def test_the_opening_of_a_handle_is_open(mug_alone: np.ndarray):
    cut = cut_out(picture_of(over(mug_alone, "white", seed=0)), remover="plain")
    holes = ndimage.binary_erosion(
        ndimage.binary_fill_holes(mug_alone[..., 3] > 0) & (mug_alone[..., 3] == 0), iterations=2
    )
    assert holes.sum() > 100
    assert cut.alpha[holes].mean() < 0.02


def test_edges_are_soft_and_free_of_the_background(mug_alone: np.ndarray):
    pixels = mug_alone.copy()
    behind = np.array([0.1, 0.8, 0.2])  # a green screen
    pixels = pixels[..., :3] * pixels[..., 3:] + behind * (1 - pixels[..., 3:])
    cut = cut_out(picture_of(pixels * 255), remover="plain")
    edge = (mug_alone[..., 3] > 0.3) & (mug_alone[..., 3] < 0.9)
    green = lambda rgb: (rgb[..., 1] - rgb[..., [0, 2]].max(-1))[edge].mean()  # noqa: E731
    assert green(pixels) > 0.05 > green(mug_alone[..., :3])
    assert green(cut.rgb) < green(mug_alone[..., :3]) + 0.03
    assert abs(cut.alpha - mug_alone[..., 3])[edge].mean() < 0.12


def test_an_alpha_that_says_something_is_kept(mug_alone: np.ndarray):
    picture = Picture(np.ascontiguousarray(mug_alone[..., :3]), np.ascontiguousarray(mug_alone[..., 3]))
    cut = cut_out(picture)
    np.testing.assert_array_equal(cut.alpha, mug_alone[..., 3])
    np.testing.assert_array_equal(cut.rgb, mug_alone[..., :3])
    assert cut.warnings == ()


def test_an_opaque_alpha_says_nothing(mug_alone: np.ndarray):
    pixels = over(mug_alone, "white", seed=0)
    with_alpha = cut_out(picture_of(pixels, np.ones(pixels.shape[:2], np.float32)), remover="plain")
    assert 0.02 < (with_alpha.alpha > 0.5).mean() < 0.5


def test_pictures_of_nothing_are_refused():
    one = np.full((40, 40, 3), 120, np.uint8)
    with pytest.raises(InvalidImage, match="it shows one colour only"):
        cut_out(picture_of(one), remover="plain")
    with pytest.raises(InvalidImage, match="it is transparent: its alpha is 0.00"):
        cut_out(picture_of(one, np.zeros((40, 40), np.float32)))
    with pytest.raises(InvalidImage, match="it is 1 x 1 pixels; at least 16 x 16"):
        cut_out(picture_of(one[:1, :1]))
    ramp = np.broadcast_to(np.linspace(60, 200, 64)[None, :, None], (64, 64, 3))
    with pytest.raises(InvalidImage, match="nothing stands out"):
        cut_out(picture_of(ramp), remover="plain")


def test_a_busy_background_is_warned_of(mug_alone: np.ndarray):
    cut = cut_out(picture_of(over(mug_alone, "clutter", seed=0)), remover="plain")
    assert any("background is not plain" in warning for warning in cut.warnings)


@pytest.mark.parametrize("seed", [1, 3])
def test_patchworks_are_warned_of_and_break_nothing(seed: int):
    """Of the first no colour covers the border; the second leads beyond sRGB, of which scikit-image would warn."""
    blocks = np.random.default_rng(seed).integers(0, 2, (8, 8, 3)).astype(np.uint8) * 255
    cut = cut_out(picture_of(blocks.repeat(8, 0).repeat(8, 1)), remover="plain")
    assert cut.warnings


@pytest.mark.parametrize("shape", [(16, 600), (600, 16), (16, 16)])
def test_odd_shapes_are_cut_out(shape: tuple[int, int]):
    pixels = np.full((*shape, 3), 200, np.uint8)
    pixels[4:12, 4:12] = (160, 20, 10)
    cut = cut_out(picture_of(pixels), remover="plain")
    assert cut.alpha[8, 8] == 1 and cut.alpha[0, 0] == 0 and cut.alpha[-1, -1] == 0


def test_doubtful_subjects_are_warned_of(mug_alone: np.ndarray):
    pixels = over(mug_alone, "white", seed=0)
    columns = np.nonzero((mug_alone[..., 3] > 0.5).any(0))[0]
    half = cut_out(picture_of(pixels[:, (columns[0] + columns[-1]) // 2 :]), remover="plain")
    assert any("touches the left" in warning for warning in half.warnings)
    alpha = np.zeros((64, 64), np.float32)
    alpha[:6, 30:36] = 1
    small = cut_out(picture_of(np.full((64, 64, 3), 9, np.uint8), alpha))
    assert [w for w in small.warnings if "only 0.9%" in w] and any("touches the top" in w for w in small.warnings)
    full = cut_out(
        picture_of(np.full((64, 64, 3), 9, np.uint8), (np.arange(4096).reshape(64, 64) > 9).astype(np.float32))
    )
    assert any("fills 100%" in warning for warning in full.warnings)


def test_a_subject_in_pieces_is_warned_of():
    """A carton with a white band before white, of which nobody could tell that it is one."""
    pixels = np.full((96, 96, 3), 255, np.uint8)
    pixels[20:40, 30:70] = pixels[55:80, 30:70] = (120, 90, 220)
    cut = cut_out(picture_of(pixels), remover="plain")
    assert any("in 2 pieces" in warning for warning in cut.warnings)


def test_rembg_is_not_used_without_its_package():
    if importlib.util.find_spec("rembg"):
        pytest.skip("rembg is installed here")
    with pytest.raises(Unavailable, match=r"rembg is not installed.*pip install"):
        cut_out(picture_of(np.eye(32, dtype=np.uint8)[..., None] * np.full(3, 255, np.uint8)), remover="rembg")


def test_rembg_downloads_no_model(tmp_path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("rembg", reason="rembg is not installed")
    for variable in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert "none of its models" in (why_no_rembg() or "")
    (tmp_path / "u2net.onnx").write_bytes(b"half of a file")
    with pytest.raises(Unavailable, match="does not load"):
        rembg_matte(np.zeros((32, 32, 3), np.uint8))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["u2net.onnx"]


def test_an_unknown_remover_is_named():
    with pytest.raises(Unavailable, match="there are: plain, rembg"):
        cut_out(picture_of(np.eye(32, dtype=np.uint8)[..., None] * np.full(3, 255, np.uint8)), remover="magic")


def test_a_person_may_say_what_is_done_about_the_background(mug_alone: np.ndarray):
    pixels, seen = over(mug_alone, "plain", seed=1), mug_alone[..., 3]
    wrong = np.ones(seen.shape, np.float32)
    wrong[: len(wrong) // 2] = 0  # an alpha that hides the upper half
    picture = picture_of(pixels, wrong)
    np.testing.assert_array_equal(cut_out(picture, background="keep_alpha").alpha, wrong)
    assert iou(cut_out(picture, remover="plain", background="remove").alpha, seen) > 0.95
    whole = cut_out(picture, background="none")
    assert whole.alpha.min() == 1 and whole.warnings == ()
    np.testing.assert_array_equal(whole.rgb, picture.rgb)


def test_alpha_that_is_not_there_cannot_be_kept(mug_alone: np.ndarray):
    pixels = over(mug_alone, "plain", seed=1)
    for alpha in (None, np.ones(pixels.shape[:2], np.float32)):
        with pytest.raises(InvalidImage, match="no transparency that could be kept"):
            cut_out(picture_of(pixels, alpha), background="keep_alpha")
    with pytest.raises(InvalidInput, match="auto, keep_alpha, remove, none"):
        cut_out(picture_of(pixels), background="magic")
