"""A source without what cannot be used in it."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mvgamba.data.sources import Source, TrainingViews
from mvgamba.errors import EmptyReconstruction, InvalidInput

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class UsableViews:
    """An object of a source in one variant."""

    index: int
    variant: int
    views: TrainingViews


def usable(
    source: Source,
    jobs: Iterable[tuple[int, int]],
    *,
    size: int,
    skipped: dict[str, str],
    most_in_a_row: int = 64,
) -> Iterator[UsableViews]:
    """The photographs of objects and variants one after the other, without those that are missing or broken.

    What is left out is counted and said why in `skipped`, and logged once for each object; nothing takes its place.

    Args:
        jobs: Pairs of object and variant; may go on for ever.
        skipped: Gets "OBJECT, variant N" -> why.
        most_in_a_row: After so many failures without one success the source itself is taken to be wrong.
    Raises:
        InvalidInput: Nothing could be used, or `most_in_a_row` were not.
        MVGambaError: What is not the object's fault, such as `Unavailable`.
    """
    names, reported, given, failed = source.names, set[int](), 0, 0
    for index, variant in jobs:
        try:
            views = source.views(index, variant, size=size)
        except (InvalidInput, EmptyReconstruction) as error:
            skipped[f"{names[index]}, variant {variant}"] = str(error)
            if index not in reported:
                log.warning("%s is left out: %s", names[index], error)
                reported.add(index)
            failed += 1
            if failed >= most_in_a_row:
                raise InvalidInput(f"{failed} objects in a row could not be used, the last because: {error}") from error
            continue
        given, failed = given + 1, 0
        yield UsableViews(index, variant, views)
    if failed and not given:
        raise InvalidInput(f"No object could be used, the last because: {list(skipped.values())[-1]}")
