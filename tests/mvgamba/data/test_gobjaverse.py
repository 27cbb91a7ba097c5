"""G-Objaverse archives: cameras, pictures and depth as they were drawn, read out of the tar in place."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch

from mvgamba.cameras import c2w_to_w2c_opencv
from mvgamba.data import Source
from mvgamba.data.corpus_cameras import c2w_from_gobjaverse
from mvgamba.data.gobjaverse import GObjaverse
from mvgamba.data.tar_index import members, read_member
from mvgamba.errors import InvalidCameras, InvalidImage, InvalidInput, Unavailable
from tests.mvgamba.data.layouts import (
    assert_pictures_show,
    drawn,
    drawn_number,
    gobjaverse_files,
    lopsided,
    write_tar,
)

FOV = 0.6909
"""39.6 degrees, about what the corpus has."""
ANGLES = [(30.0 * i, 20.0) for i in range(10)] + [(0.0, 90.0), (0.0, -90.0)]
COUNT = len(ANGLES)

needs_exr = pytest.mark.skipif(importlib.util.find_spec("OpenEXR") is None, reason="OpenEXR is not installed")


@pytest.fixture(scope="module")
def thing(tmp_path_factory):
    return lopsided(tmp_path_factory.mktemp("thing"))


@pytest.fixture(scope="module")
def views(thing):
    return drawn(thing, ANGLES, fovy=FOV, size=48)


@pytest.fixture(scope="module")
def files(views):
    return gobjaverse_files(views, ANGLES, fov=FOV)


def inside(files, prefix):
    return {f"{prefix}/campos_512_v4/{name}": data for name, data in files.items()}


def test_a_hand_written_camera_stands_where_it_should():
    # at Blender's (0, -2, 0): right is +X, down is -Z, ahead is +Y
    table = {"x": [1, 0, 0], "y": [0, 0, -1], "z": [0, 1, 0], "origin": [0, -2, 0]}
    front = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])
    np.testing.assert_allclose(c2w_from_gobjaverse(table, "it"), front, atol=1e-12)
    # the same by the recipe that public code has: row 1 negated, rows 1 and 2 swapped, columns 1 and 2 negated
    generator = np.random.default_rng(3)
    q, r = np.linalg.qr(generator.normal(size=(3, 3)))
    rotation = q * np.sign(np.diag(r))
    rotation *= np.sign(np.linalg.det(rotation))
    position = -2 * rotation[:, 2]
    c2w = np.eye(4)
    c2w[:3] = np.concatenate([rotation, position[:, None]], 1)
    c2w[1] *= -1
    c2w[[1, 2]] = c2w[[2, 1]]
    c2w[:3, 1:3] *= -1
    table = dict(zip("xyz", rotation.T.tolist(), strict=True)) | {"origin": position.tolist()}
    np.testing.assert_allclose(c2w_from_gobjaverse(table, "it"), c2w, atol=1e-9)


@pytest.mark.parametrize("per_tar", ["one", "many"])
def test_cameras_and_pictures_are_those_that_were_drawn(tmp_path, views, files, thing, per_tar):
    if per_tar == "one":
        write_tar(tmp_path / "0" / "10010.tar", inside(files, "10010") | {"readme.txt": b"hello"})
        expected = ["0/10010.tar"]
    else:
        write_tar(tmp_path / "part.tar", inside(files, "./0/1") | inside(files, "./0/2"))
        expected = ["part.tar:0/1/campos_512_v4", "part.tar:0/2/campos_512_v4"]
    source = GObjaverse(tmp_path, per_tar=per_tar, num_views=COUNT)
    assert isinstance(source, Source) and source.names == expected
    taken = source.views(len(expected) - 1, 2, size=48)
    assert taken.draw is None and taken.inputs.depth is None
    for part in (taken.inputs, taken.others):
        for i in range(part.num_views):
            number = drawn_number(part.cameras.c2w[i], views)
            torch.testing.assert_close(part.alpha[i], views.alpha[number], atol=0.003, rtol=0)
            torch.testing.assert_close(part.rgb[i], views.rgb[number], atol=0.003, rtol=0)
            torch.testing.assert_close(part.cameras.intrinsics[i], views.cameras.intrinsics[number])
        assert_pictures_show(part, thing.vertices)
    assert (taken.inputs.cameras.c2w[:, 1, 3] < 1.0).all()  # top and bottom are no inputs


def test_base_colours_take_the_place_of_lit_ones(tmp_path, files):
    write_tar(tmp_path / "a.tar", inside(files, "1"))
    lit, plain = (
        GObjaverse(tmp_path, colors=c, num_views=COUNT).views(0, 0, size=48).inputs for c in ("lit", "albedo")
    )
    assert torch.equal(lit.alpha, plain.alpha)
    solid = (lit.alpha == 1).expand_as(lit.rgb)
    torch.testing.assert_close(plain.rgb[solid], lit.rgb[solid] / 2, atol=0.005, rtol=0)


def test_members_are_read_in_place_and_scanned_once(tmp_path, files):
    write_tar(tmp_path / "a.tar", {"./x": b"first", "y": b"second" * 300})
    assert read_member(tmp_path / "a.tar", "x") == b"first" and read_member(tmp_path / "a.tar", "y") == b"second" * 300
    assert members(tmp_path / "a.tar") is members(tmp_path / "a.tar")
    write_tar(tmp_path / "a.tar", {"x": b"another" * 500})
    assert read_member(tmp_path / "a.tar", "x") == b"another" * 500
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:2000])
    with pytest.raises(InvalidInput, match=r"a\.tar (ends within x|is not an uncompressed tar)"):
        read_member(tmp_path / "a.tar", "x")
    write_tar(tmp_path / "b.tar", {"x": b""}, mode="w:gz")
    with pytest.raises(InvalidInput, match=r"b\.tar is not an uncompressed tar"):
        members(tmp_path / "b.tar")
    with pytest.raises(InvalidInput, match=r"c\.tar cannot be read"):
        members(tmp_path / "c.tar")


@pytest.mark.parametrize(
    ("member", "data", "error", "message"),
    [
        ("00003/00003.json", b"{", InvalidCameras, r"00003\.json is not JSON"),
        ("00003/00003.json", b'{"x": [1, 0, 0]}', InvalidCameras, r"00003\.json needs three numbers named y"),
        ("00003/00003.json", None, InvalidInput, r"a\.tar has no 1/campos_512_v4/00003/00003\.json"),
        ("00003/00003.png", None, InvalidInput, r"has no 1/campos_512_v4/00003/00003\.png"),
        ("00003/00003.png", b"no picture", InvalidImage, r"00003\.png is not an image"),
    ],
)
def test_what_is_missing_or_broken_is_named(tmp_path, files, member, data, error, message):
    changed = dict(files)
    if data is None:
        del changed[member]
    else:
        changed[member] = data
    write_tar(tmp_path / "a.tar", inside(changed, "1"))
    with pytest.raises(error, match=message):
        GObjaverse(tmp_path, num_views=COUNT, num_others=COUNT - 4).views(0, 0, size=32)


def test_cameras_that_are_none_are_refused(tmp_path, files):
    table = json.loads(files["00000/00000.json"])
    for change, message in (
        ({"x_fov": 39.6}, "radians"),
        ({"x": [-v for v in table["x"]]}, "mirrors"),
        ({"y": [-v for v in table["y"]], "z": [-v for v in table["z"]]}, "looks away from the origin"),
        ({"x": [2 * v for v in table["x"]]}, "scaled or sheared"),
    ):
        changed = files | {"00000/00000.json": json.dumps(table | change).encode()}
        write_tar(tmp_path / "a.tar", inside(changed, "1"))
        with pytest.raises(InvalidCameras, match=message):
            GObjaverse(tmp_path, num_views=COUNT).views(0, 0, size=32)


def test_archives_of_the_other_kind_and_broken_ones_are_named_not_hidden(tmp_path, files):
    write_tar(tmp_path / "a.tar", inside(files, "1") | inside(files, "2"))
    with pytest.raises(InvalidInput, match='a.tar holds 2 folders .* per_tar="many"'):
        GObjaverse(tmp_path, num_views=COUNT).views(0, 0, size=32)
    (tmp_path / "b.tar").write_bytes(b"no tar" * 1000)
    source = GObjaverse(tmp_path, per_tar="many", num_views=COUNT)
    assert source.names == ["a.tar:1/campos_512_v4", "a.tar:2/campos_512_v4", "b.tar"]
    with pytest.raises(InvalidInput, match=r"b\.tar is not an uncompressed tar"):
        source.views(2, 0, size=32)
    with pytest.raises(InvalidInput, match=r"holds no \.tar archives"):
        _ = GObjaverse(tmp_path / "nowhere").names


def test_depth_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(Unavailable, match="pip install"):
        GObjaverse(tmp_path, with_depth=True)


@needs_exr
def test_depth_comes_from_the_fourth_channel_and_lies_on_the_object(tmp_path, views, files, thing):
    import OpenEXR

    changed = dict(files)
    for i in range(COUNT):
        planes = np.zeros((48, 48, 4), np.float32)
        planes[..., :3], planes[..., 3] = np.nan, views.depth[i, 0].numpy()
        planes[0, 0, 3], planes[0, 1, 3] = np.nan, 0.01  # as the corpus has beside objects
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"RGBA": planes}).write(str(tmp_path / "nd.exr"))
        changed[f"{i:05d}/{i:05d}_nd.exr"] = (tmp_path / "nd.exr").read_bytes()
    write_tar(tmp_path / "in" / "a.tar", inside(changed, "1"))
    taken = GObjaverse(tmp_path / "in", num_views=COUNT, with_depth=True).views(0, 1, size=48)
    for part in (taken.inputs, taken.others):
        for i in range(part.num_views):
            number = drawn_number(part.cameras.c2w[i], views)
            torch.testing.assert_close(part.depth[i], views.depth[number])
        # every pixel with depth, put back into the world, lies within the box around the object
        w2c, k = c2w_to_w2c_opencv(part.cameras.c2w), part.cameras.intrinsics
        view, _, row, col = (part.depth > 0).nonzero().T
        rays = torch.stack([col + 0.5, row + 0.5, torch.ones(len(row))], 1).double()
        local = torch.einsum("nij,nj->ni", torch.linalg.inv(k)[view], rays) * part.depth[view, 0, row, col][:, None]
        points = torch.einsum("nij,nj->ni", torch.linalg.inv(w2c)[view, :3, :3], local - w2c[view, :3, 3])
        low, high = (torch.from_numpy(b) for b in thing.bounds)
        assert len(points) > 200 and ((points > low - 1e-3) & (points < high + 1e-3)).all()
    broken = changed | {"00002/00002_nd.exr": changed["00002/00002_nd.exr"][:400]}
    write_tar(tmp_path / "in" / "a.tar", inside(broken, "1"))
    source = GObjaverse(tmp_path / "in", num_views=COUNT, num_others=COUNT - 4, with_depth=True)
    with pytest.raises(InvalidImage, match="00002_nd.exr cannot be read as an EXR"):
        source.views(0, 1, size=48)
