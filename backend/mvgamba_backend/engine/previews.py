"""Views while they are made -> small pictures for whoever watches, not more often than is of use."""

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from mvgamba.types import PosedViews
from mvgamba_backend.engine.pipeline import Job
from mvgamba_backend.engine.protocol import MAX_PREVIEW_BYTES

INTERVAL = 0.5
"""Least seconds between two sets of pictures."""


class Previews:
    """Shows the views of one result. What came too soon is shown at the end, so that the last ones always are."""

    def __init__(self, job: Job, *, variant: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._job, self._variant, self._clock = job, variant, clock
        self._waiting: PosedViews | None = None
        self._last = -INTERVAL

    def show(self, views: PosedViews) -> None:
        """Now, or later if the last ones are still new."""
        self._waiting = views
        if self._clock() - self._last >= INTERVAL:
            self.flush()

    def flush(self) -> None:
        """What waits, now."""
        views, self._waiting = self._waiting, None
        if views is None:
            return
        self._last = self._clock()
        for i in range(views.num_views):
            data = preview_png(views, i)
            self._job.preview(data, "image/png", index=i, count=views.num_views, variant=self._variant)


def preview_png(views: PosedViews, view: int) -> bytes:
    """RGBA, halved until it is small enough for an event."""
    planes = np.concatenate([views.rgb[view].cpu().numpy(), views.alpha[view].cpu().numpy()])
    image = Image.fromarray((np.clip(planes, 0, 1).transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))
    while True:
        out = io.BytesIO()
        image.save(out, format="PNG")
        if len(out.getvalue()) <= MAX_PREVIEW_BYTES:
            return out.getvalue()
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
