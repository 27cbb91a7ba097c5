"""Posed captures to learn from: photographs, or images that a multi-view model made, with their cameras."""

import functools
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from mvgamba.data.photographs import training_views
from mvgamba.data.sources import TrainingViews
from mvgamba.data.view_choice import choose_views
from mvgamba.errors import InvalidInput
from mvgamba.io.captures import holds_captures, read_captures


@dataclass(frozen=True)
class CaptureFolders:
    """A folder of captures as `read_captures` reads them (`transforms.json`, COLMAP text), one for each object.

    Only the images that are taken are read. Depth comes along where the capture has it.

    Args:
        folder: Every folder in it that holds a capture is an object.
        num_inputs, num_others: Views to take of each; an object with fewer is an error.
    """

    folder: Path
    num_inputs: int = 4
    num_others: int = 6

    @property
    def names(self) -> list[str]:
        """Listed once in a process, for there may be very many."""
        return list(_captures(self.folder))

    def views(self, index: int, variant: int, *, size: int) -> TrainingViews:
        """Raises: InvalidInput, naming the file that is missing or broken."""
        name = _captures(self.folder)[index]
        numbers: list[int] = []

        def choose(c2w: Float[Tensor, "V 4 4"]) -> list[int]:
            numbers.extend(
                choose_views(
                    c2w,
                    seed=(index, variant),
                    num_inputs=self.num_inputs,
                    num_others=self.num_others,
                    name=str(self.folder / name),
                )
            )
            return numbers

        views = read_captures(self.folder / name, choose=choose)
        names = [f"frame {i} of {self.folder / name}" for i in numbers]
        return training_views(views, num_inputs=self.num_inputs, size=size, names=names)


@functools.lru_cache(maxsize=16)
def _captures(folder: Path) -> tuple[str, ...]:
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and holds_captures(p)) if folder.is_dir() else []
    if not found:
        raise InvalidInput(
            f"{folder} holds no captures; name one that has a folder with transforms.json or a COLMAP text model for each object."
        )
    return tuple(found)
