"""Pictures that people hand over: every mode, depth and orientation is read, and what cannot be read is named."""

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mvgamba.errors import InvalidImage
from mvgamba.io.images import MAX_PIXELS, read_picture

CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8).repeat(8, 0).repeat(8, 1)
"""16 x 16: red, green; blue, white."""
TRANSPOSED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is stored under each value of the EXIF tag."""


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners_of(rgb: np.ndarray) -> np.ndarray:
    return rgb[[3, 3, 12, 12], [3, 12, 3, 12]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_pictures_upright(orientation: int, kind: str):
    upright = Image.fromarray(CORNERS)
    stored = upright if TRANSPOSED[orientation] is None else upright.transpose(TRANSPOSED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    picture = read_picture(encoded(stored, kind, exif=exif, **options))
    np.testing.assert_allclose(corners_of(picture.rgb), corners_of(CORNERS) / 255, atol=0.04)  # JPEG's rounding
    assert picture.alpha is None and picture.warnings == ()


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "I", "F", "F255", "RGB", "P", "CMYK", "YCbCr"])
def test_every_mode_gives_the_same_grey(mode: str):
    values = np.full((12, 10), 51, np.uint8)
    values[:6] = 255
    if mode == "1":
        values[6:] = 0
    grey = Image.fromarray(values)
    image = {
        "I;16": lambda: Image.fromarray(values.astype(np.uint16) * 257),
        "I": lambda: Image.fromarray(values.astype(np.int32) * 257),
        "F": lambda: Image.fromarray(values.astype(np.float32) / 255),
        "F255": lambda: Image.fromarray(values.astype(np.float32)),
    }.get(mode, lambda: grey.convert("RGB").convert(mode))()
    picture = read_picture(encoded(image, "TIFF"))
    assert picture.alpha is None
    np.testing.assert_allclose(picture.rgb, np.repeat(values[..., None], 3, 2) / 255, atol=0.006)  # YCbCr rounds


def test_sixteen_bits_of_a_png_are_not_cut_off():
    picture = read_picture(encoded(Image.fromarray(np.full((4, 4), 0x8000, np.uint16)), "PNG"))
    np.testing.assert_allclose(picture.rgb, 0x8000 / 65535, atol=1e-6)


def test_transparency_is_found_in_every_mode():
    cover = Image.fromarray(np.repeat(np.array([[0], [128], [255]], np.uint8), 4, 1))
    color = Image.fromarray(np.full((3, 4, 3), 200, np.uint8))
    rgba, grey = color.copy(), color.convert("L")
    rgba.putalpha(cover)
    grey.putalpha(cover)
    for image in (rgba, grey):
        picture = read_picture(encoded(image, "PNG"))
        np.testing.assert_allclose(picture.alpha, np.asarray(cover) / 255)
        np.testing.assert_allclose(picture.rgb, 200 / 255, atol=1e-6)
    palette = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for transparency in (1, bytes([255, 0, 255])):
        picture = read_picture(encoded(palette, "PNG", transparency=transparency))
        np.testing.assert_array_equal(picture.alpha, [[1, 0], [0, 1]])
        np.testing.assert_array_equal(picture.rgb[1, 1], [0, 0, 1])


def test_colours_come_through_the_profile_of_the_file():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")  # red means blue
    image = Image.fromarray(CORNERS)
    image.putalpha(128)
    for profile, expected in ((srgb, CORNERS), (swapped, CORNERS[..., ::-1])):
        picture = read_picture(encoded(image, "PNG", icc_profile=profile))
        np.testing.assert_allclose(picture.rgb, expected / 255, atol=0.01)
        np.testing.assert_allclose(picture.alpha, 128 / 255)
        assert picture.warnings == ()
    broken = read_picture(encoded(image, "PNG", icc_profile=srgb[:200]))
    np.testing.assert_allclose(broken.rgb, CORNERS / 255)
    assert "colour profile" in broken.warnings[0]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_a_moving_picture_is_taken(kind: str):
    first, second = (Image.new("RGB", (16, 16), color) for color in ("red", "blue"))
    picture = read_picture(encoded(first, kind, save_all=True, append_images=[second]), name="dance.gif")
    assert picture.rgb[8, 8, 0] > 0.95 and picture.rgb[8, 8, 2] < 0.05
    assert picture.warnings == ("dance.gif has several frames; the first one is used.",)


def test_the_content_counts_not_the_name(tmp_path: Path):
    (tmp_path / "really_a_png.jpg").write_bytes(encoded(Image.fromarray(CORNERS), "PNG"))
    np.testing.assert_array_equal(read_picture(tmp_path / "really_a_png.jpg").rgb, CORNERS.astype(np.float32) / 255)
    (tmp_path / "notes.png").write_text("buy milk\n")
    with pytest.raises(InvalidImage, match=r"notes\.png is not an image that can be read: it holds text"):
        read_picture(tmp_path / "notes.png")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"%PDF-1.7 etc", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "text"),  # Pillow would hand it to another program
        (bytes(range(128, 228)), "80 81 82"),
    ],
)
def test_what_is_no_image_is_said(content: bytes, reason: str):
    with pytest.raises(InvalidImage, match=reason):
        read_picture(content)


def test_missing_files_and_folders_are_refused(tmp_path: Path):
    with pytest.raises(InvalidImage, match=r"chair\.png does not exist"):
        read_picture(tmp_path / "chair.png")
    with pytest.raises(InvalidImage, match="not an image"):
        read_picture(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"])
def test_a_truncated_file_is_refused(kind: str):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    with pytest.raises(InvalidImage, match="the image is (damaged|not an image)"):
        read_picture(whole[: len(whole) // 2])


def test_broken_files_raise_nothing_else():
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 255, (9, 7, 4), np.uint8))
    for kind in ("PNG", "TIFF", "WEBP", "TGA", "ICO", "AVIF"):
        if kind == "AVIF" and "AVIF" not in Image.SAVE:
            continue
        whole = encoded(image, kind)
        for _ in range(40):
            broken = bytearray(whole)
            for at in rng.integers(0, min(len(whole), 300), 3):
                broken[at] = rng.integers(256)
            try:
                picture = read_picture(bytes(broken))
                assert np.isfinite(picture.rgb).all()
            except InvalidImage:
                pass


def test_a_picture_of_more_than_64_megapixels_is_refused_unopened():
    too_large = encoded(Image.new("1", (8001, 8000)), "PNG")
    tracemalloc.start()
    with pytest.raises(InvalidImage, match="8001 x 8000 pixels; at most 64 megapixels"):
        read_picture(too_large)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_64_megapixels_are_reduced_on_reading():
    ramp = Image.fromarray(np.repeat(np.linspace(0, 255, 8000).astype(np.uint8)[None], 8000, 0))
    assert ramp.width * ramp.height == MAX_PIXELS
    data = encoded(ramp, "JPEG")
    picture = read_picture(data, max_edge=500)  # an eighth is decoded
    assert picture.rgb.shape == (500, 500, 3)
    expected = (np.arange(500) + 0.5) / 500
    np.testing.assert_allclose(picture.rgb[250, :, 1], expected, atol=0.01)


def test_reducing_keeps_straight_colours():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 20:44] = (255, 128, 0, 255)
    pixels[:, :20, 2] = 255  # blue where nothing is
    picture = read_picture(encoded(Image.fromarray(pixels), "PNG"), max_edge=20)
    seen = picture.alpha > 0.1
    assert picture.rgb.shape == (20, 20, 3) and seen.any()
    np.testing.assert_allclose(picture.rgb[seen], [[1, 128 / 255, 0]] * int(seen.sum()), atol=0.03)


def test_values_that_are_no_grey_are_refused():
    for value, reason in ((-3.0, "from -3"), (1e6, "1e\\+06")):
        with pytest.raises(InvalidImage, match=reason):
            read_picture(encoded(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF"))
    with pytest.raises(InvalidImage, match="no numbers"):
        read_picture(encoded(Image.fromarray(np.array([[0, np.nan, 1]], np.float32)), "TIFF"))
