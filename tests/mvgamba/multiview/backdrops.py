"""Cut-outs put before backgrounds of many kinds: pictures of which it is known what belongs to the object."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

Rng = np.random.Generator


def plain(size: int, rng: Rng, _: np.ndarray) -> np.ndarray:
    """White, greys, a green screen, or some colour."""
    colors = [(1.0, 1.0, 1.0), (0.93,) * 3, (0.5,) * 3, (0.1,) * 3, (0.15, 0.75, 0.3), tuple(rng.random(3))]
    return _filled(size, colors[rng.integers(len(colors))])


def white(size: int, rng: Rng, _: np.ndarray) -> np.ndarray:
    return _filled(size, (1.0, 1.0, 1.0))


def graded(size: int, rng: Rng, _: np.ndarray) -> np.ndarray:
    """From one colour to another across the picture, or from the middle outwards."""
    first, second = 0.25 + 0.7 * rng.random(3), rng.normal(0, 0.12, 3) + rng.choice([-0.15, 0.15])
    x, y = _plane(size)
    way = (
        np.hypot(x, y) / 1.4 if rng.random() < 0.5 else 0.5 + 0.35 * (x * np.cos(a := 7 * rng.random()) + y * np.sin(a))
    )
    return (first + second * way[..., None]).clip(0, 1)


def same_hue(size: int, rng: Rng, cut_out: np.ndarray) -> np.ndarray:
    """The mean colour of the object itself, lighter or darker by a fifth."""
    mean = np.average(cut_out[..., :3], axis=(0, 1), weights=cut_out[..., 3])
    return _filled(size, tuple((mean * (1 + rng.choice([-0.3, 0.3])) + rng.choice([-0.05, 0.05])).clip(0.02, 1)))


def floor_and_wall(size: int, rng: Rng, _: np.ndarray) -> np.ndarray:
    """Two greys that meet in a soft line behind the object."""
    wall, floor = 0.55 + 0.4 * rng.random(), 0.35 + 0.4 * rng.random()
    y = _plane(size)[1]
    return np.repeat((wall + (floor - wall) / (1 + np.exp(-12 * (y - 0.3))))[..., None], 3, 2)


def icon(size: int, rng: Rng, _: np.ndarray) -> np.ndarray:
    """A tile as games have it: a glow in a strong colour, darker towards the corners, within a frame."""
    color = 0.15 + 0.6 * rng.random(3)
    x, y = _plane(size)
    tile = (color * (1.25 - 0.55 * np.hypot(x, y)[..., None])).clip(0, 1)
    tile[np.maximum(abs(x), abs(y)) > 0.95] = color * 0.3
    return tile


def clutter(size: int, rng: Rng, _: np.ndarray) -> np.ndarray:
    """Blots of all sizes and colours: what cannot be told from an object by colours."""
    blots = sum(ndimage.gaussian_filter(rng.normal(size=(size, size, 3)), (s, s, 0)) * s for s in (3, 8, 20))
    return (0.5 + 0.25 * blots / blots.std()).clip(0, 1)


BACKDROPS: dict[str, Callable[[int, Rng, np.ndarray], np.ndarray]] = {
    "plain": plain,
    "white": white,
    "graded": graded,
    "same hue": same_hue,
    "floor and wall": floor_and_wall,
    "icon": icon,
    "clutter": clutter,
}


def over(cut_out: np.ndarray, kind: str, *, seed: int) -> np.ndarray:
    """(H, W, 4) straight sRGB in [0, 1] before a background -> uint8 (H, W, 3).

    `kind` is a name of BACKDROPS, maybe with ` + shadow`, ` + noise` or ` + jpeg` behind it, in any number.
    """
    name, *extras = kind.split(" + ")
    rng = np.random.default_rng(seed)
    behind = BACKDROPS[name](cut_out.shape[0], rng, cut_out)
    alpha = cut_out[..., 3:]
    if "shadow" in extras:
        behind = behind * (1 - _shadow(cut_out[..., 3], rng)[..., None])
    picture = cut_out[..., :3] * alpha + behind * (1 - alpha)
    if "noise" in extras:
        picture = picture + rng.normal(0, 0.03, picture.shape)
    pixels = (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if "jpeg" in extras:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=60)
        pixels = np.asarray(Image.open(file))
    return pixels


def iou(alpha: np.ndarray, true: np.ndarray) -> float:
    """Of the silhouettes at one half."""
    ours, theirs = alpha > 0.5, true > 0.5
    return float((ours & theirs).sum() / max(1, (ours | theirs).sum()))


def _shadow(alpha: np.ndarray, rng: Rng) -> np.ndarray:
    """How much light is missing: a soft shadow cast to one side, and a dark one where the object stands."""
    size = alpha.shape[0]
    lean, squash = rng.uniform(-0.6, 0.6), rng.uniform(0.25, 0.5)
    foot = int(np.nonzero((alpha > 0.5).any(1))[0].max())
    y, x = np.mgrid[:size, :size].astype(float)
    up = (foot - y) / squash  # the height above the foot that casts to here
    cast = ndimage.map_coordinates(alpha, [foot - up, x - lean * up], order=1)
    cast = ndimage.gaussian_filter(cast * (up > -0.02 * size), 0.02 * size)
    touch = ndimage.gaussian_filter(ndimage.shift(alpha, (0.02 * size, 0), order=1), 0.012 * size)
    return np.maximum(rng.uniform(0.25, 0.5) * cast, 0.5 * touch * (y > foot - 0.15 * size))


def _filled(size: int, color: tuple[float, ...]) -> np.ndarray:
    return np.broadcast_to(np.array(color), (size, size, 3)).astype(float)


def _plane(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel, from -1 to 1."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    return np.broadcast_to(line, (size, size)), np.broadcast_to(line[:, None], (size, size))
