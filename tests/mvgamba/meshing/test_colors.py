"""Colours of vertices come from the views that see them."""

import numpy as np
import torch

from mvgamba.cameras import fibonacci_cameras
from mvgamba.meshing.colors import UNSEEN, color_vertices
from mvgamba.render import render_surfels
from mvgamba.types import Mesh, Surfels
from tests.gpu.scene import bumpy_ball


def shown(count=12):
    cameras = fibonacci_cameras(count, radius=1.6, fovy=0.75, height=96, width=96)
    surfels = Surfels(*bumpy_ball(6000))
    render = render_surfels(surfels, cameras)
    return surfels, cameras, render, torch.where(render.alpha > 0.5, render.depth, 0.0)[:, 0]


def test_points_on_the_surface_get_its_colour_and_hidden_ones_none():
    surfels, cameras, render, depth = shown()
    on_surface, inside = surfels.means.numpy(), 0.3 * surfels.means.numpy()
    mesh = Mesh(np.concatenate([on_surface, inside]), np.zeros((0, 3), np.int64))
    colors = color_vertices(mesh, render.rgb, depth, cameras, truncation=0.05)
    seen, hidden = np.split(colors, 2)
    error = np.abs(seen - surfels.colors.numpy())
    assert np.median(error) < 0.02
    assert np.percentile(error, 95) < 0.08  # outlines mix with the background
    found = ~np.isclose(hidden, UNSEEN).all(1)
    assert found.mean() < 0.03  # a random ball has cracks, whose depth mixes front and back


def test_points_behind_the_cameras_or_out_of_frame_stay_grey():
    _, cameras, render, depth = shown(3)
    far = Mesh(np.array([[50.0, 0.0, 0.0], [0.0, -50.0, 0.0]]), np.zeros((0, 3), np.int64))
    assert np.allclose(color_vertices(far, render.rgb, depth, cameras, truncation=0.05), UNSEEN)
