"""Folders of posed images: what is read comes out in the house's world, what cannot be read says why."""

import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvgamba.cameras import orbit_c2w, project
from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput
from mvgamba.io.captures import MAX_VIEWS, Z_UP_TO_Y_UP, read_captures


def write_png(path: Path, size: tuple[int, int] = (12, 16), alpha: bool = True) -> None:
    pixels = np.zeros((*size, 4 if alpha else 3), np.uint8)
    pixels[3:9, 4:9] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def z_up_pose(azimuth: float = 0.3, elevation: float = 0.2, radius: float = 2.0) -> np.ndarray:
    return np.linalg.inv(Z_UP_TO_Y_UP) @ orbit_c2w(azimuth, elevation, radius).numpy()


def write_capture(folder: Path, num_views: int = 2, **changes) -> dict:
    table = {"camera_angle_x": 0.8, "frames": []}
    for i in range(num_views):
        write_png(folder / f"images/{i}.png")
        table["frames"].append({"file_path": f"images/{i}.png", "transform_matrix": z_up_pose(0.7 * i).tolist()})
    table.update(changes)
    (folder / "transforms.json").write_text(json.dumps(table))
    return table


def rewrite(folder: Path, table: dict) -> None:
    (folder / "transforms.json").write_text(json.dumps(table))


def test_cameras_come_out_in_the_y_up_world(tmp_path):
    write_capture(tmp_path, 3)
    views = read_captures(tmp_path)
    expected = torch.stack([orbit_c2w(0.7 * i, 0.2, 2.0) for i in range(3)])
    torch.testing.assert_close(views.cameras.c2w, expected, atol=1e-12, rtol=0)
    assert views.rgb.shape == (3, 3, 12, 16) and views.alpha.shape == (3, 1, 12, 16)
    focal = 0.5 * 16 / math.tan(0.4)
    assert views.cameras.intrinsics[0].tolist() == [[focal, 0, 8], [0, focal, 6], [0, 0, 1]]


def test_a_point_to_the_right_and_above_lands_right_and_above_in_the_image(tmp_path):
    write_capture(tmp_path, 1)
    table = json.loads((tmp_path / "transforms.json").read_text())
    table["frames"][0]["transform_matrix"] = z_up_pose(0.0, 0.0).tolist()  # looks from the front, -Y in a Z-up world
    rewrite(tmp_path, table)
    cameras = read_captures(tmp_path).cameras
    z_up_point = np.array([0.2, 0.0, 0.3, 1.0])
    y_up_point = torch.from_numpy((Z_UP_TO_Y_UP @ z_up_point)[:3])
    pixel, depth = project(y_up_point[None], cameras)
    assert pixel[0, 0, 0] > 8 and pixel[0, 0, 1] < 6
    assert depth[0, 0] == pytest.approx(2.0)


def test_explicit_intrinsics_follow_the_size_of_the_image(tmp_path):
    write_capture(tmp_path, 1, camera_angle_x=None, fl_x=40.0, fl_y=44.0, cx=17.0, cy=11.0, w=32, h=24)
    k = read_captures(tmp_path).cameras.intrinsics[0]
    assert k.tolist() == [[20.0, 0, 8.5], [0, 22.0, 5.5], [0, 0, 1]]


def test_names_without_suffix_are_found_as_nerf_synthetic_has_them(tmp_path):
    table = write_capture(tmp_path, 1)
    table["frames"][0]["file_path"] = "./images/0"
    rewrite(tmp_path, table)
    assert read_captures(tmp_path).num_views == 1


def test_depth_is_read_from_npy_and_background_becomes_zero(tmp_path):
    table = write_capture(tmp_path, 1)
    depth = np.full((12, 16), 1e10, np.float32)
    depth[3:9, 4:9] = 1.75
    np.save(tmp_path / "d.npy", depth)
    table["frames"][0]["depth_file_path"] = "d.npy"
    rewrite(tmp_path, table)
    read = read_captures(tmp_path).depth
    assert read is not None and read[0, 0, 5, 5] == 1.75 and read[0, 0, 0, 0] == 0


def test_depth_of_only_some_views_is_left_out(tmp_path):
    table = write_capture(tmp_path, 2)
    np.save(tmp_path / "d.npy", np.ones((12, 16), np.float32))
    table["frames"][0]["depth_file_path"] = "d.npy"
    rewrite(tmp_path, table)
    assert read_captures(tmp_path).depth is None


def test_a_colmap_text_model_gives_the_same_cameras(tmp_path):
    write_png(tmp_path / "images/a.png")
    c2w = z_up_pose(0.5, 0.3)
    w2c = np.linalg.inv(c2w @ np.diag([1.0, -1, -1, 1]))
    m = w2c[:3, :3]
    w = 0.5 * math.sqrt(1 + np.trace(m))
    q = [w, (m[2, 1] - m[1, 2]) / (4 * w), (m[0, 2] - m[2, 0]) / (4 * w), (m[1, 0] - m[0, 1]) / (4 * w)]
    (tmp_path / "cameras.txt").write_text("# list\n1 PINHOLE 16 12 20 21 8 6\n")
    pose = " ".join(str(v) for v in [*q, *w2c[:3, 3]])
    (tmp_path / "images.txt").write_text(f"# list\n1 {pose} 1 a.png\n\n")
    views = read_captures(tmp_path)
    torch.testing.assert_close(views.cameras.c2w[0], orbit_c2w(0.5, 0.3, 2.0), atol=1e-9, rtol=0)
    assert views.cameras.intrinsics[0, 1, 1] == 21


@pytest.mark.parametrize(
    "kind", ["OPENCV_FISHEYE 16 12 1 2 3 4", "SIMPLE_RADIAL 16 12 20 8 6 0.3", "PINHOLE 16 twelve"]
)
def test_a_colmap_camera_that_is_no_pinhole_is_refused(tmp_path, kind):
    write_png(tmp_path / "images/a.png")
    (tmp_path / "cameras.txt").write_text(f"1 {kind}\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 2 1 a.png\n\n")
    with pytest.raises(InvalidInput):
        read_captures(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="nowhere is not a folder"):
        read_captures(tmp_path / "nowhere")


def test_a_folder_without_cameras_says_what_is_needed(tmp_path):
    with pytest.raises(InvalidInput, match="neither transforms.json nor a COLMAP"):
        read_captures(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"frames": 3}', '{"frames": [{}]}', '{"frames": [7]}'])
def test_broken_json_is_refused(tmp_path, text):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(InvalidInput):
        read_captures(tmp_path)


def test_zero_views_are_refused(tmp_path):
    write_capture(tmp_path, 0)
    with pytest.raises(InvalidInput, match="no views"):
        read_captures(tmp_path)


def test_ten_thousand_views_are_refused_before_any_image_is_opened(tmp_path):
    frame = {"file_path": "missing.png", "transform_matrix": np.eye(4).tolist()}
    rewrite(tmp_path, {"camera_angle_x": 0.8, "frames": [frame] * 10_000})
    with pytest.raises(InvalidInput, match=f"10000 views; at most {MAX_VIEWS}"):
        read_captures(tmp_path)


def test_a_missing_image_is_named(tmp_path):
    write_capture(tmp_path, 2)
    (tmp_path / "images/1.png").unlink()
    with pytest.raises(InvalidImage, match=r"1\.png does not exist"):
        read_captures(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_truncated_image_is_refused(tmp_path, keep):
    write_capture(tmp_path, 1)
    path = tmp_path / "images/0.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidImage, match=r"0\.png"):
        read_captures(tmp_path)


def test_an_image_of_another_size_is_refused(tmp_path):
    write_capture(tmp_path, 2)
    write_png(tmp_path / "images/1.png", size=(24, 32))
    with pytest.raises(InvalidImage, match="32 x 24 pixels, the first image is 16 x 12"):
        read_captures(tmp_path)


def test_an_image_without_alpha_says_how_to_get_one(tmp_path):
    write_capture(tmp_path, 1)
    write_png(tmp_path / "images/0.png", alpha=False)
    with pytest.raises(InvalidImage, match="no alpha channel .* Transparent"):
        read_captures(tmp_path)


def test_a_decompression_bomb_is_refused_without_unpacking_it(tmp_path):
    write_capture(tmp_path, 1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "images/0.png").write_bytes(bomb)
    with pytest.raises(InvalidImage, match="megapixels"):
        read_captures(tmp_path)


def spoilt(change) -> list:
    m = z_up_pose()
    change(m)
    return m.tolist()


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (spoilt(lambda m: m.__setitem__((0, 3), float("nan"))), "finite"),
        (spoilt(lambda m: m.__setitem__((slice(0, 3), 0), m[:3, 0] * 1.3)), "scaled or sheared"),
        (spoilt(lambda m: m.__setitem__((slice(0, 3), 0), m[:3, 0] + 0.2 * m[:3, 1])), "scaled or sheared"),
        (spoilt(lambda m: m.__setitem__((slice(0, 3), 0), -m[:3, 0])), "mirrors"),
        (spoilt(lambda m: m.__setitem__(3, [0, 0, 0, 2])), "last row"),
        ([[1, 2], [3, 4]], "4 x 4"),
        ("none", "not a matrix"),
        ([[1, 0, 0, 0], [0, 1, 0]], "not a matrix"),
    ],
)
def test_a_matrix_that_is_no_camera_is_refused(tmp_path, matrix, words):
    table = write_capture(tmp_path, 1)
    table["frames"][0]["transform_matrix"] = matrix
    rewrite(tmp_path, table)
    with pytest.raises(InvalidCameras, match=words):
        read_captures(tmp_path)


@pytest.mark.parametrize("angle", [None, 0.0, 4.0, "wide", True])
def test_a_missing_or_impossible_focal_length_is_refused(tmp_path, angle):
    write_capture(tmp_path, 1, camera_angle_x=angle)
    with pytest.raises(InvalidCameras):
        read_captures(tmp_path)


def test_lens_distortion_is_refused(tmp_path):
    write_capture(tmp_path, 1, k1=0.1)
    with pytest.raises(InvalidCameras, match="distortion"):
        read_captures(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_a_broken_depth_file_is_refused(tmp_path, content):
    table = write_capture(tmp_path, 1)
    (tmp_path / "d.npy").write_bytes(content)
    table["frames"][0]["depth_file_path"] = "d.npy"
    rewrite(tmp_path, table)
    with pytest.raises(InvalidImage, match="depth"):
        read_captures(tmp_path)
