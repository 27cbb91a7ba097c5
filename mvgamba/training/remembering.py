"""Training samples -> what the starter generator is to remember of them, see `mvgamba.multiview.memory`."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mvgamba.data.prompted_samples import NUM_TURNS, PromptedSample, read_prompted_shards, rig_places
from mvgamba.errors import InvalidInput
from mvgamba.multiview.memory_files import ABOVE, RememberedObject, write_memory


def remember(shards: Path, folder: Path) -> tuple[Path, Path]:
    """Write picture and table of the objects of a folder of shards, each as it stands (the first variant).

    Raises: InvalidInput, OutputFailed, DiskFull.
    """
    samples = read_prompted_shards(shards)
    try:
        names = json.loads((shards / "index.json").read_text(encoding="utf-8"))["names"]
        skipped = json.loads((shards / "report.json").read_text(encoding="utf-8"))["skipped"]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"{shards} is not a whole folder of shards ({error!r}); prepare it again.") from error
    kept = [name for name in names if f"{name}, variant 0" not in skipped]
    things, views = [], []
    for i, name in enumerate(kept):
        sample = samples[i]
        if len(sample.captions):
            things.append(_remembered(Path(name).stem, sample))
            views.append(_stored(sample))
    return write_memory(things, views, folder)


def _remembered(name: str, sample: PromptedSample) -> RememberedObject:
    return RememberedObject(
        name,
        tuple(sample.captions.tolist()),
        str(sample.category[0]),
        str(sample.family[0]),
        sample.color_names,
        sample.color_rgb,
        sample.color_shares,
    )


def _stored(sample: PromptedSample) -> UInt8[np.ndarray, "6 S S 4"]:
    other_above = rig_places(NUM_TURNS - NUM_TURNS // 4, 0)[ABOVE]
    return sample.rgba[[*rig_places(0, 0), other_above]]
