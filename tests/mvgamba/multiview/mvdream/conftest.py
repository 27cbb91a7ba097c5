"""Small checkpoints, made once."""

import math
from pathlib import Path

import pytest
import torch

from mvgamba.cameras import orbit_cameras
from mvgamba.multiview.mvdream.loading import load_pipeline
from mvgamba.multiview.mvdream.placement import Placement
from tests.mvgamba.multiview.mvdream.checkpoints import published_folder

CPU = Placement("cpu", torch.float32)


@pytest.fixture(scope="session")
def mvdream_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_folder(tmp_path_factory.mktemp("text") / "mvdream", images=False)


@pytest.fixture(scope="session")
def imagedream_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_folder(tmp_path_factory.mktemp("image") / "imagedream", images=True)


@pytest.fixture(scope="session")
def mvdream(mvdream_folder):
    return load_pipeline(mvdream_folder, placement=CPU)[0]


@pytest.fixture(scope="session")
def imagedream(imagedream_folder):
    return load_pipeline(imagedream_folder, placement=CPU)[0]


@pytest.fixture(scope="session")
def rig():
    turns = [i * math.pi / 2 for i in range(4)]
    return orbit_cameras(turns, [0.2] * 4, radius=2.53, fovy=math.radians(49.1), height=64, width=64)
