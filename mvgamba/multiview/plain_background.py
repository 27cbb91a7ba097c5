"""The subject of a picture before a plain, graded or shadowed background, by colours and edges alone: nothing to download.

The background is what the border shows, followed inwards as far as it changes softly. Its colour is carried on behind the
subject, and each small region of the picture goes to the one or the other by a minimum cut (after Boykov and Jolly 2001): by
how far its colour is from the background's in any light, since a shadow is darker but of the same hue, and by how sharp the
edges between are.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from PIL import Image
from scipy import ndimage, sparse
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from skimage.color import lab2rgb, rgb2lab
from skimage.restoration import denoise_tv_chambolle
from skimage.segmentation import watershed

EDGE = 320
"""Longer edge that pictures are reduced to before they are cut, in pixels."""
CELL = 6
"""Mean edge of the regions that go to the one or the other, in those pixels."""
STEPS = 24
"""In which the background grows at most; each gets some six pixels further where it changes, such as between two legs."""
DEVIATION = (1.5, 10.0)
"""Least and most that a background may vary around its soft course, in units of Lab."""
SHARPNESS = (0.5, 3.0)
"""Least and most that its grain may have of `_sharpness`."""


@dataclass(frozen=True, eq=False)
class Matte:
    """What belongs to the subject."""

    alpha: Float32[np.ndarray, "H W"]
    grain: float
    """How many pixels wide the outline may be off."""
    warnings: tuple[str, ...] = ()


def plain_background_matte(rgb: UInt8[np.ndarray, "H W 3"]) -> Matte:
    """Everything that is not the background of the border. Empty where nothing stands out."""
    height, width = rgb.shape[:2]
    scale = min(1.0, EDGE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)) / 255
    mask, unexplained = _cut(small)
    doubts = []
    inner = _inside_of_frame(mask)
    if inner is not None:
        again, unexplained_inside = _cut(small[inner])
        if 0.01 < again.mean() < 0.9:
            mask, unexplained = np.zeros_like(mask), unexplained_inside
            mask[inner] = again
            doubts.append("It has a frame, which was taken for background.")
    if unexplained > 0.15:
        doubts.append(
            "Its background is not plain, so parts of it may be taken for the subject. Use a plain background, or a cut-out."
        )
    alpha = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return Matte(np.asarray(alpha).clip(0, 1), 1 / scale, tuple(doubts))


@dataclass(frozen=True, eq=False)
class _Background:
    """The background where it is seen, and carried on where it is not."""

    seen: Bool[np.ndarray, "H W"]
    border: Bool[np.ndarray, "H W"]
    lab: Float[np.ndarray, "H W 3"]
    deviation: float
    """Of the background from `lab`, in units of Lab."""
    sharpness: float
    """What its own grain and gradients reach, see `_sharpness`."""


def _cut(small: Float[np.ndarray, "H W 3"]) -> tuple[Bool[np.ndarray, "H W"], float]:
    """What belongs to the subject, and which part of the border is neither subject nor one background."""
    raw = rgb2lab(small)
    noise = float(np.linalg.norm(1.48 * np.abs(raw - ndimage.median_filter(raw, (3, 3, 1))).mean((0, 1))))
    weights = np.array([0.8, 2.0, 2.0]) + 0.6 * noise  # JPEG spoils hues more than brightness
    lab = np.stack([denoise_tv_chambolle(raw[..., i], weight=weights[i]) for i in range(3)], -1)
    edges = _sharpness(lab)
    background = _background(lab, edges)
    cost = _cost_of_background(lab, background, edges)
    regions = _regions(edges)
    mask = _minimum_cut(regions, cost, edges, background.sharpness)
    is_busy = background.deviation == DEVIATION[1]
    return mask, 1.0 if is_busy else 1 - float((background.seen | mask)[background.border].mean())


def _sharpness(lab: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    """How much steeper a change is at a fine scale than at a coarse one: an edge shows, the soft rim of a shadow does not."""

    def slope(sigma: float) -> np.ndarray:
        return np.sqrt(sum(ndimage.gaussian_gradient_magnitude(lab[..., i], sigma) ** 2 for i in range(3)))

    return (slope(0.8) - slope(2.5)).clip(0)


def _background(lab: Float[np.ndarray, "H W 3"], edges: Float[np.ndarray, "H W"]) -> _Background:
    """Grown from the border: what is near to the background around it and has no edge, again and again.

    The tolerances are what the background itself was found to need: a clean one is told from a subject of nearly the same
    colour, a noisy one is still one background.
    """
    height, width = edges.shape
    wide = max(2, round(0.015 * min(height, width)))
    border = np.ones((height, width), bool)
    border[wide:-wide, wide:-wide] = False
    model = _fitted(lab, border)
    far = np.linalg.norm(lab - model, axis=-1)
    deviation = float(np.clip(3 * np.median(far[border]), *DEVIATION))
    sharpness = float(np.clip(3 * np.median(edges[border]), *SHARPNESS))
    # at least the half of the border that is nearest, where it has no course that could be followed
    seed = border & (far <= max(2 * deviation, float(np.median(far[border]))))
    seen, here = seed, model
    for step in range(STEPS):
        if step:
            here = _carried_on(lab, model, seen)
        far = np.linalg.norm(lab - here, axis=-1)
        grown = _connected_to(seed, (far < deviation) & (edges < sharpness))
        if step in (1, 3):
            model = _fitted(lab, grown)
        done = step > 3 and grown.sum() - seen.sum() < 1e-3 * seen.size
        seen = grown
        inner = ndimage.binary_erosion(seen, iterations=2)
        if inner.sum() > 50:
            deviation = float(np.clip(3 * np.sqrt((far[inner] ** 2).mean()), *DEVIATION))
            sharpness = float(np.clip(2.5 * np.percentile(edges[inner], 90), *SHARPNESS))
        if done:
            break
    model = _fitted(lab, seen, order=4)
    return _Background(seen, border, _carried_on(lab, model, seen), deviation, sharpness)


def _fitted(
    lab: Float[np.ndarray, "H W 3"], where: Bool[np.ndarray, "H W"], *, order: int = 2
) -> Float[np.ndarray, "H W 3"]:
    """A polynomial through most of these pixels; a subject that reaches the border does not pull it."""
    height, width = where.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    powers = np.stack([x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)], -1).reshape(x.size, -1)
    rows, values = powers[where.ravel()], lab[where]
    # begin near the commonest colour: through all, the curve would follow a subject that fills one side of the border
    weights = 1 / np.maximum(1, np.linalg.norm(values - np.median(values, 0), axis=1, keepdims=True) / 10)
    solution = np.zeros((powers.shape[1], 3))
    for _ in range(6):
        solution = np.linalg.lstsq(rows * weights, values * weights, rcond=None)[0]
        off = np.linalg.norm(rows @ solution - values, axis=1, keepdims=True)
        spread = 1.48 * np.median(off) + 0.5
        weights = np.where(off > 6 * spread, 1e-3, 1 / np.maximum(1, off / (2 * spread)))
    return (powers @ solution).reshape(height, width, 3)


def _carried_on(
    lab: Float[np.ndarray, "H W 3"], model: Float[np.ndarray, "H W 3"], seen: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W 3"]:
    """The background around each pixel: what is seen near it, or else further away, or else the polynomial."""
    rest, left = np.zeros_like(lab), np.ones((*seen.shape, 1))
    off = np.where(seen[..., None], lab - model, 0)
    for sigma in (4, 10, 30):
        share = ndimage.gaussian_filter(seen.astype(float), sigma, truncate=2.5)[..., None]
        mean = ndimage.gaussian_filter(off, (sigma, sigma, 0), truncate=2.5) / np.maximum(share, 1e-6)
        taken = left * (share / 0.1).clip(0, 1) * (share > 1e-3)
        rest, left = rest + taken * mean, left - taken
    return model + rest


def _connected_to(seed: Bool[np.ndarray, "H W"], where: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    parts, _ = ndimage.label(where | seed)
    return np.isin(parts, np.unique(parts[seed]))  # a seed is in a part, so 0 is not among them


def _cost_of_background(
    lab: Float[np.ndarray, "H W 3"], background: _Background, edges: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """What it costs to call a pixel background, less what it costs to call it subject."""
    unit = max(1.0, background.deviation / 2.5)
    far = np.linalg.norm(lab - background.lab, axis=-1)
    hue, light = _in_another_light(lab, background.lab)
    ringing = 0.1 * ndimage.maximum_filter(edges, 17)  # JPEG spoils what is beside strong edges, in proportion
    # light that is left in a shadow has come from things around
    hue = hue / (np.maximum(unit, ringing) + 4 * (1 - light).clip(0, 1))
    darkness = ((0.25 - light) / 0.1).clip(0)  # no shadow before a background in the light is as dark as that
    cost = np.minimum(hue**2 / 2 + 2 * darkness**2, 6) - 2
    shadowy = (hue < 2.5) & (darkness < 1)
    # a shadow is reached from the background without crossing an edge; what is of its colour but cut off by edges is not one
    reached = _connected_to(
        background.seen, ndimage.binary_opening(shadowy & (edges < background.sharpness), iterations=2)
    )
    soft = reached | ndimage.binary_dilation(reached, iterations=2) & shadowy
    cost = np.where(shadowy, np.where(soft, -0.05, 0.03), cost)
    cost = np.where(far < 2 * unit, -0.5, cost).clip(-2, 2)  # such as what is seen through a handle
    cost = np.where(background.seen, -2, cost)
    return np.where(background.border & background.seen, -1000, cost)


def _in_another_light(
    lab: Float[np.ndarray, "H W 3"], background: Float[np.ndarray, "H W 3"]
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Distance to the background with as much light on it as makes it equally bright, at most its own; and how much that is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of colours beyond sRGB, to which what is carried on may lead
        seen, behind = (_linear(lab2rgb(np.clip(x, (0, -128, -128), (100, 128, 128)))) for x in (lab, background))
    brightness = np.array([0.2126, 0.7152, 0.0722])
    light = (seen @ brightness + 0.003) / (behind @ brightness + 0.003)
    shaded = behind * light.clip(0.05, 1)[..., None]
    srgb = np.where(shaded <= 0.0031308, 12.92 * shaded, 1.055 * np.maximum(shaded, 0.0031308) ** (1 / 2.4) - 0.055)
    return np.linalg.norm(lab - rgb2lab(srgb.clip(0, 1)), axis=-1), light


def _linear(srgb: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _regions(edges: Float[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Small regions that meet at edges, numbered from 0."""
    height, width = edges.shape
    rows, columns = np.arange(min(CELL, height) // 2, height, CELL), np.arange(min(CELL, width) // 2, width, CELL)
    markers = np.zeros((height, width), np.int64)
    markers[np.ix_(rows, columns)] = np.arange(1, len(rows) * len(columns) + 1).reshape(len(rows), len(columns))
    return watershed(edges, markers).astype(np.int64) - 1


def _minimum_cut(
    regions: Int[np.ndarray, "H W"], cost: Float[np.ndarray, "H W"], edges: Float[np.ndarray, "H W"], sharpness: float
) -> Bool[np.ndarray, "H W"]:
    """The regions that are cheaper as subject, with a price for every pixel of outline that is not an edge."""
    count = int(regions.max()) + 1
    trust = 1 / (1 + (edges / sharpness) ** 2) + 1e-3  # pixels of an edge are mixed from both sides
    flat, size = regions.ravel(), np.bincount(regions.ravel(), minlength=count)
    own = np.bincount(flat, (cost * trust).ravel(), count) / np.bincount(flat, trust.ravel(), count) * size
    pairs = [(regions[:, 1:], regions[:, :-1], np.maximum(edges[:, 1:], edges[:, :-1]))]
    pairs += [(regions[1:], regions[:-1], np.maximum(edges[1:], edges[:-1]))]
    first, second, edge = (np.concatenate([p[i].ravel() for p in pairs]) for i in range(3))
    apart = first != second
    first, second = first[apart], second[apart]
    price = 1 / (1 + (edge[apart] / (1.5 * sharpness)) ** 4) + 0.02
    subject, behind = np.nonzero(own > 0)[0], np.nonzero(own < 0)[0]
    source, sink = count, count + 1
    begin = np.concatenate([first, second, np.full(len(subject), source), behind])
    end = np.concatenate([second, first, subject, np.full(len(behind), sink)])
    capacity = np.concatenate([price, price, own[subject], -own[behind]])
    graph = sparse.coo_matrix((capacity, (begin, end)), shape=(count + 2,) * 2).tocsr()
    graph.data = np.rint(300 * graph.data).clip(0, 2**30)  # whole numbers are what the solver takes
    graph = graph.astype(np.int32)
    graph.eliminate_zeros()
    left = graph - maximum_flow(graph, source, sink).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = np.zeros(count + 2, bool)
    reached[breadth_first_order(left, source, return_predecessors=False)] = True
    return reached[regions]


def _inside_of_frame(mask: Bool[np.ndarray, "H W"]) -> tuple[slice, slice] | None:
    """Where the mask is a rectangle a little smaller than the picture, what is inside of it."""
    if not mask.any():
        return None
    (rows,), (columns,) = np.nonzero(mask.any(1)), np.nonzero(mask.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    height, width = mask.shape
    near = max(top, height - bottom) < 0.1 * height and max(left, width - right) < 0.1 * width
    if not near or mask[top:bottom, left:right].mean() < 0.96 or min(bottom - top, right - left) < 40:
        return None
    rim = max(2, EDGE // 100)  # the edge of the frame is soft, and its corners may be round
    return slice(top + rim, bottom - rim), slice(left + rim, right - rim)
