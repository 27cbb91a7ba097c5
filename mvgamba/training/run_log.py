"""What a run leaves to be read by people: losses as lines and curves, pictures as sheets."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

log = logging.getLogger(__name__)

LOSSES = "losses.jsonl"
PICTURES = "pictures"
TENSORBOARD = "tensorboard"


class RunLog:
    """`losses.jsonl`, a folder of pictures, and both for TensorBoard where its package is installed.

    Args:
        folder: Of the run.
        after: The step that the run goes on from. Lines of later ones are forgotten: those steps are taken again.
    """

    def __init__(self, folder: Path, *, after: int) -> None:
        self._folder = folder
        path = folder / LOSSES
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= after]
            path.write_text("".join(line + "\n" for line in kept))
        self._writer = _tensorboard(folder / TENSORBOARD, after=after)

    def losses(self, step: int, values: dict[str, float]) -> None:
        """A line and a point of each curve."""
        with (self._folder / LOSSES).open("a") as out:
            out.write(json.dumps({k: round(v, 6) for k, v in ({"step": step} | values).items()}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, named: dict[str, Float[Tensor, "3 h w"]]) -> None:
        """One sheet, a row for each name, in the order they come; for TensorBoard each by itself."""
        if not named:
            return
        folder = self._folder / PICTURES
        folder.mkdir(exist_ok=True)
        widest = max(p.shape[-1] for p in named.values())
        rows = [torch.nn.functional.pad(p.cpu().float(), (0, widest - p.shape[-1])) for p in named.values()]
        sheet = (255 * torch.cat(rows, 1).clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0)
        Image.fromarray(sheet.numpy()).save(folder / f"{step:06d}.png")
        if self._writer is not None:
            for name, picture in named.items():
                self._writer.add_image(name, picture.cpu().clamp(0, 1), step)

    def close(self) -> None:
        """Write what is still held back."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard(folder: Path, *, after: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("tensorboard is not installed; losses go to %s and pictures to %s alone", LOSSES, PICTURES)
        return None
    return SummaryWriter(str(folder), purge_step=after + 1 if after else None)  # type: ignore[no-untyped-call]
