"""Pictures for the props, computed, (H, W, 3) sRGB in [0, 1] with the upper row first."""

import numpy as np


def noise(height: int, width: int, *, cells: int, octaves: int, seed: int) -> np.ndarray:
    """Smooth fractal noise in [0, 1] that closes from left to right."""
    rng = np.random.default_rng(seed)
    total, weight = np.zeros((height, width)), 0.0
    for octave in range(octaves):
        n = cells * 2**octave
        grid = rng.random((n // 2 + 2, n))
        y = np.linspace(0, n // 2, height, endpoint=False)
        x = np.linspace(0, n, width, endpoint=False)
        y0, x0 = y.astype(int), x.astype(int)
        fy, fx = (_ease(y - y0))[:, None], (_ease(x - x0))[None]
        upper = grid[y0][:, x0] * (1 - fx) + grid[y0][:, (x0 + 1) % n] * fx
        lower = grid[y0 + 1][:, x0] * (1 - fx) + grid[y0 + 1][:, (x0 + 1) % n] * fx
        total += (upper * (1 - fy) + lower * fy) * 0.5**octave
        weight += 0.5**octave
    return total / weight


def globe_map(width: int) -> np.ndarray:
    """Seas by depth, land by height, ice at the poles, and a graticule every 15 degrees."""
    height = width // 2
    relief = noise(height, width, cells=6, octaves=6, seed=4)
    latitude = np.linspace(90, -90, height)[:, None] * np.ones((1, width))
    land = np.clip((relief - 0.5) * 6, 0, 1)[..., None]
    sea = np.array([0.05, 0.16, 0.36]) + np.clip(relief * 2 - 0.3, 0, 1)[..., None] * np.array([0.1, 0.32, 0.36])
    ground = np.array([0.24, 0.46, 0.16]) * (1 - land) + np.array([0.62, 0.47, 0.28]) * land
    picture = np.where((relief > 0.5)[..., None], ground, sea)
    ice = np.abs(latitude) + 20 * (relief - 0.5) > 74
    picture = np.where(ice[..., None], np.array([0.93, 0.95, 0.97]), picture)
    step = height // 12
    row, column = np.arange(height)[:, None] % step, np.arange(width)[None] % step
    lines = (row < 3) | (column < 3) & (np.abs(latitude) < 76)
    return np.where(lines[..., None], 0.55 * picture + 0.4 * np.array([0.95, 0.85, 0.5]), picture)


def staves(width: int) -> np.ndarray:
    """Sixteen planks with grain and dark joints, and two iron hoops on the outside (the upper texture is inside)."""
    height = width
    u = np.linspace(0, 16, width, endpoint=False)
    plank = u.astype(int)
    tone = np.random.default_rng(1).uniform(0.8, 1.15, 16)[plank]
    grain = noise(height, width, cells=48, octaves=3, seed=2)
    picture = np.array([0.58, 0.36, 0.17]) * (tone[None] * (0.75 + 0.5 * grain))[..., None]
    joint = np.abs((u % 1) - 0.5) > 0.46
    picture[:, joint] *= 0.45
    v = 1 - (np.arange(height) + 0.5) / height
    for low, high in ((0.2, 0.24), (0.41, 0.45)):
        hoop = (v > low) & (v < high)
        picture[hoop] = np.array([0.3, 0.31, 0.34]) * (0.8 + 0.4 * grain[hoop])[..., None]
    return np.clip(picture, 0, 1)


def _ease(t: np.ndarray) -> np.ndarray:
    return t * t * (3 - 2 * t)
