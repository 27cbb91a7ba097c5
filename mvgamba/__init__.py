"""MVGamba: posed views, images or prompts to textured meshes, through 2D Gaussian surfels."""

__version__ = "0.1.0"
