"""The subject of a picture without its background: by its own alpha, by rembg, or from a plain background."""

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from mvgamba.errors import InvalidImage, InvalidInput
from mvgamba.io.images import Picture
from mvgamba.multiview.plain_background import Matte
from mvgamba.multiview.rembg_background import HOW_TO_GET_IT, why_no_rembg
from mvgamba.registry import Registry

log = logging.getLogger(__name__)

BACKGROUND_REMOVERS = Registry(
    "background remover",
    {
        "plain": "mvgamba.multiview.plain_background:plain_background_matte",
        "rembg": "mvgamba.multiview.rembg_background:rembg_matte",
    },
)
"""Name -> function of uint8 sRGB (H, W, 3) that gives a `Matte`."""

BACKGROUNDS = ("auto", "keep_alpha", "remove", "none")
"""What is done about the background of a picture: alpha where it says something, else removed; alpha as it is; removed whatever alpha says;
there is none, so the subject fills the picture."""
SMALLEST = 16
"""Pixels along the shorter edge of a picture that can show something."""
ONE_COLOR = 4 / 255
"""Pictures whose channels vary less show nothing."""


@dataclass(frozen=True, eq=False)
class CutOut:
    """The subject alone, where it was in the picture."""

    rgb: Float32[np.ndarray, "H W 3"]
    """sRGB, straight, without the background's share at the edges."""
    alpha: Float32[np.ndarray, "H W"]
    name: str = "the image"
    warnings: tuple[str, ...] = ()
    """What a person should look at; also those of the picture."""


def cut_out(picture: Picture, *, remover: str = "auto", background: str = "auto") -> CutOut:
    """The subject by the picture's own alpha where that says something, else with the background removed.

    Args:
        remover: A name of BACKGROUND_REMOVERS; auto takes rembg where it and a model are installed, else plain.
        background: Another way than that, see BACKGROUNDS.
    Raises:
        InvalidImage: There is nothing to be seen: one colour, fully transparent, too small, or nothing stands out; or alpha is to be
            kept and there is none.
        InvalidInput: `background` is none of these.
        Unavailable: `remover` names what is not here.
    """
    name, (height, width) = picture.name, picture.rgb.shape[:2]
    if background not in BACKGROUNDS:
        raise InvalidInput(f"background is {background!r}; it must be one of {', '.join(BACKGROUNDS)}.")
    if min(height, width) < SMALLEST:
        raise InvalidImage(f"{name} is {width} x {height} pixels; at least {SMALLEST} x {SMALLEST} are needed.")
    if background == "none":
        whole = np.ones((height, width), np.float32)
        return CutOut(picture.rgb, whole, name, picture.warnings)
    given = None if background == "remove" else picture.alpha
    if given is not None and given.max() < 0.5:
        raise InvalidImage(
            f"{name} is transparent: its alpha is {given.max():.2f} at most. Export it with the subject opaque."
        )
    says_something = given is not None and given.min() < 0.99
    if background == "keep_alpha" and not says_something:
        raise InvalidImage(
            f"{name} has no transparency that could be kept. Have the background removed, say that there is none, or cut the "
            "object out and save it as PNG with transparency."
        )
    if given is not None and says_something:
        rgb, alpha, warnings = picture.rgb, given, []
    else:
        if np.ptp(picture.rgb.reshape(-1, 3), axis=0).max() < ONE_COLOR:
            raise InvalidImage(f"{name} shows one colour only. Give a picture of one object before a plain background.")
        matte = subject_alpha(picture.rgb, remover=remover)
        if not (matte.alpha > 0.5).any():
            raise InvalidImage(
                f"In {name} nothing stands out from the background. Take a picture before a plain background of another colour, "
                f"cut the object out and save it as PNG with transparency, or install rembg ({HOW_TO_GET_IT})."
            )
        rgb, alpha = without_background(picture.rgb, _without_crumbs(matte.alpha), width=matte.grain)
        warnings = [f"{name}: {warning}" for warning in (*matte.warnings, *_torn(alpha))]
    return CutOut(rgb, alpha, name, (*picture.warnings, *warnings, *_doubts(name, alpha)))


def subject_alpha(rgb: Float32[np.ndarray, "H W 3"], *, remover: str = "auto") -> Matte:
    """What belongs to the subject of a picture that has no alpha. Raises: Unavailable."""
    if remover == "auto":
        reason = why_no_rembg()
        remover = "plain" if reason else "rembg"
        log.info("removing the background by %s%s", remover, f" ({reason})" if reason else "")
    return BACKGROUND_REMOVERS.get(remover)((rgb * 255 + 0.5).astype(np.uint8))


def without_background(
    rgb: Float32[np.ndarray, "H W 3"], alpha: Float32[np.ndarray, "H W"], *, width: float
) -> tuple[Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """Colours and a soft alpha for a mask whose outline may be off by `width` pixels.

    A pixel near the outline is taken for a mixture of the subject and the background on either side: its place between the
    two colours is its alpha, and the background's share is taken out of its colour. Where the two are alike, the mask counts.
    """
    reach = int(np.ceil(1.2 * width)) + 1
    mask = alpha > 0.5
    inside = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(np.pad(~mask, 1, mode="edge"))[1:-1, 1:-1]
    band = (inside <= reach) & (outside <= reach)
    rows, columns = np.nonzero(band)
    if not len(rows):
        return rgb, mask.astype(np.float32)
    front, has_front = _mean_near(rgb, inside > reach, reach)
    back, has_back = _mean_near(rgb, outside > reach, reach)
    here, front, back = rgb[band], front[band], back[band]
    between = front - back
    apart = (between**2).sum(1)
    place = ((here - back) * between).sum(1) / np.maximum(apart, 1e-6)
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.5 * width)[band]
    sure = has_front[band] * has_back[band] * np.clip((apart - 0.005) / 0.02, 0, 1)
    # outlines are sharp: what lies far on one side of the mask is not a mixture
    share = sure * place.clip(0, 1) + (1 - sure) * soft
    share = np.where(share < 0.06, 0, np.where(share > 0.94, 1, share))
    clean = ((here - (1 - share[:, None]) * back) / np.maximum(share[:, None], 0.05)).clip(0, 1)
    trust = (share * sure)[:, None]
    clean = np.where(
        sure[:, None] > 0, trust * clean + (sure[:, None] - trust) * front + (1 - sure[:, None]) * here, here
    )
    colors, cover = rgb.copy(), mask.astype(np.float32)
    colors[band], cover[band] = clean.astype(np.float32), share.astype(np.float32)
    return colors, cover


def _mean_near(
    rgb: Float32[np.ndarray, "H W 3"], where: np.ndarray, reach: int
) -> tuple[Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """Mean colour of these pixels around each pixel, and 1 where there are some, 0 where there are none."""
    share = ndimage.gaussian_filter(where.astype(np.float32), reach, truncate=2.5)
    total = ndimage.gaussian_filter(np.where(where[..., None], rgb, 0), (reach, reach, 0), truncate=2.5)
    return total / np.maximum(share, 1e-4)[..., None], np.clip(share / 0.02, 0, 1)


def _without_crumbs(alpha: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Without the parts that are smaller than a hundredth of the largest."""
    parts, count = ndimage.label(alpha > 0.5)
    if count < 2:
        return alpha
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    crumbs = (sizes < 0.01 * sizes.max())[parts] & (parts > 0)
    return np.where(crumbs, 0, alpha).astype(np.float32)


def _torn(alpha: Float32[np.ndarray, "H W"]) -> list[str]:
    """A warning where the subject is in pieces: parts of the background's colour may have gone between them."""
    parts, _ = ndimage.label(alpha > 0.5)
    sizes = np.bincount(parts.ravel())[1:]
    pieces = int((sizes > 0.1 * sizes.max()).sum())
    if pieces < 2:
        return []
    return [
        f"The subject is in {pieces} pieces. If it is one thing, parts of it have the background's colour and are missing; take "
        "another background, or cut it out by hand."
    ]


def _doubts(name: str, alpha: Float32[np.ndarray, "H W"]) -> list[str]:
    """What is odd about a subject, in words."""
    mask, said = alpha > 0.5, []
    cut = {"left": mask[:, 0], "right": mask[:, -1], "top": mask[0], "bottom": mask[-1]}
    sides = [side for side, line in cut.items() if line.mean() > 0.02]
    share = float(mask.mean())
    if share > 0.95:
        said.append(
            f"{name}: the subject fills {share:.0%} of the picture; the background was probably not told from it."
        )
    elif sides:
        said.append(
            f"{name}: the subject touches the {' and '.join(sides)} of the picture; what is cut off there is missing."
        )
    if share < 0.02:
        said.append(f"{name}: the subject fills only {share:.1%} of the picture; crop the picture to it.")
    return said
