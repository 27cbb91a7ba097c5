"""Samples in tar files (WebDataset's layout: one `.npz` each), made in parallel, and taken up again where they were left.

    write_shards(GlbFolder(Path("props")), Path("shards"), variants=4, size=128)
    samples = read_shards(Path("shards"))

An object that cannot be used is skipped, counted and named in `report.json`, never replaced.
"""

import io
import json
import logging
import multiprocessing
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mvgamba.data.samples import RaySample, make_sample
from mvgamba.data.sources import Source
from mvgamba.errors import InvalidInput, MVGambaError

log = logging.getLogger(__name__)

PER_SHARD = 64


@dataclass(frozen=True)
class ShardReport:
    """What came of a corpus."""

    written: int
    skipped: dict[str, str]
    """Sample -> why."""


def write_shards(
    source: Source,
    folder: Path,
    *,
    variants: int,
    size: int,
    workers: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> ShardReport:
    """All objects in all variants. A shard that is there is kept, so an interrupted run goes on where it was.

    Args:
        report: Called with shards done and shards in all.
    Raises:
        InvalidInput: The folder holds shards of another corpus, size or number of variants.
    """
    names = source.names
    jobs = [(i, v) for v in range(variants) for i in range(len(names))]
    parts = [jobs[i : i + PER_SHARD] for i in range(0, len(jobs), PER_SHARD)]
    folder.mkdir(parents=True, exist_ok=True)
    header = {"names": names, "size": size, "per_shard": PER_SHARD}
    index = folder / "index.json"
    if index.exists() and json.loads(index.read_text()) != header:
        raise InvalidInput(f"{folder} holds shards of another corpus or size; name an empty folder.")
    index.write_text(json.dumps(header))
    todo = [n for n in range(len(parts)) if not (folder / f"{n:05d}.tar").exists()]
    done = len(parts) - len(todo)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs_running = [pool.submit(_write_shard, source, parts[n], folder / f"{n:05d}.tar", size) for n in todo]
        for job in jobs_running:
            job.result()
            done += 1
            if report is not None:
                report(done, len(parts))
    skipped: dict[str, str] = {}
    for n in range(len(parts)):
        skipped |= json.loads((folder / f"{n:05d}.json").read_text())
    (folder / "report.json").write_text(json.dumps({"skipped": skipped}, indent=1))
    for name, why in skipped.items():
        log.warning("%s is left out: %s", name, why)
    return ShardReport(len(jobs) - len(skipped), skipped)


def _write_shard(source: Source, jobs: list[tuple[int, int]], path: Path, size: int) -> None:
    skipped: dict[str, str] = {}
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for index, variant in jobs:
            name = f"{index:05d}_{variant:03d}"
            try:
                sample = make_sample(source, index, variant, size=size)
            except MVGambaError as error:
                skipped[f"{source.names[index]}, variant {variant}"] = str(error)
                continue
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **sample.arrays())  # type: ignore[arg-type]
            entry = tarfile.TarInfo(f"{name}.npz")
            entry.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(entry, buffer)
    path.with_suffix(".json").write_text(json.dumps(skipped))
    partial.rename(path)


def read_shards(folder: Path, *, most: int | None = None) -> list[RaySample]:
    """All samples, in the order of their shards.

    Raises:
        InvalidInput: There are none, or one cannot be read.
    """
    samples: list[RaySample] = []
    for path in sorted(folder.glob("*.tar")):
        try:
            with tarfile.open(path) as tar:
                for entry in tar:
                    if most is not None and len(samples) >= most:
                        return samples
                    data = tar.extractfile(entry)
                    assert data is not None
                    with np.load(io.BytesIO(data.read())) as arrays:
                        samples.append(RaySample.from_arrays(dict(arrays)))
        except (tarfile.TarError, ValueError, KeyError, OSError) as error:
            raise InvalidInput(f"{path} cannot be read ({error}); delete it and prepare the data again.") from error
    if not samples:
        raise InvalidInput(f"{folder} holds no shards; prepare them first.")
    return samples
