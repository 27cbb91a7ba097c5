"""Fields of what is inside, their closed surface, and fewer triangles for it."""

from mvgamba.meshing.cleaning import clean_mesh, smooth_mesh
from mvgamba.meshing.colors import color_vertices
from mvgamba.meshing.decimation import decimate
from mvgamba.meshing.fusion import fuse, visual_hull
from mvgamba.meshing.grid import Grid, extract_surface
from mvgamba.meshing.topology import MeshReport, drop_small_parts, mesh_report

__all__ = [
    "Grid",
    "MeshReport",
    "clean_mesh",
    "color_vertices",
    "decimate",
    "drop_small_parts",
    "extract_surface",
    "fuse",
    "mesh_report",
    "smooth_mesh",
    "visual_hull",
]
