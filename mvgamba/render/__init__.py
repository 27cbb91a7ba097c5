"""From surfels to pictures: colour, coverage, depth and normals as cameras of the house see them."""

from mvgamba.render.depth_normals import depth_to_normals, unproject_depth
from mvgamba.render.surfel_renderer import render_surfels

__all__ = ["depth_to_normals", "render_surfels", "unproject_depth"]
