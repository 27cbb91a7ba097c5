"""Small coloured objects as GLB files, for tests that need a corpus."""

from pathlib import Path

import numpy as np
import trimesh


def write_corpus(folder: Path, count: int = 3) -> Path:
    """Boxes with a knob, each in its own colours; no two sides are alike."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(5)
    for i in range(count):
        parts = []
        for extents, place in [((1.0, 0.6 + 0.3 * i, 0.7), (0, 0, 0)), ((0.3, 0.3, 0.3), (0.3, 0.5 + 0.15 * i, 0.2))]:
            part = trimesh.creation.box(extents, trimesh.transformations.translation_matrix(place))
            part.unmerge_vertices()
            sides = generator.integers(40, 255, (6, 3))
            colors = np.concatenate([np.repeat(np.repeat(sides, 2, 0), 3, 0), np.full((36, 1), 255)], 1)
            part.visual.vertex_colors = colors.astype(np.uint8)
            parts.append(part)
        (folder / f"object_{i}.glb").write_bytes(trimesh.Scene(parts).export(file_type="glb"))
    return folder
