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
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import overload

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
    header = {"source": type(source).__name__, "names": names, "size": size, "per_shard": PER_SHARD}
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


class ShardSamples(Sequence[RaySample]):
    """Samples of shards, in the order of their shards: packed in memory (140 KB each), unpacked when one is asked for (10 ms)."""

    def __init__(self, packed: list[bytes]) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, index: int) -> RaySample: ...
    @overload
    def __getitem__(self, index: slice) -> "ShardSamples": ...
    def __getitem__(self, index: int | slice) -> "RaySample | ShardSamples":
        if isinstance(index, slice):
            return ShardSamples(self._packed[index])
        with np.load(io.BytesIO(self._packed[index])) as arrays:
            return RaySample.from_arrays(dict(arrays))

    def field(self, index: int, name: str) -> np.ndarray:
        """One array of a sample, without unpacking the others."""
        with np.load(io.BytesIO(self._packed[index])) as arrays:
            return np.asarray(arrays[name])


def read_shards(*folders: Path, most: int | None = None) -> ShardSamples:
    """All samples of the folders.

    Raises:
        InvalidInput: A folder has none, or one cannot be read.
    """
    packed: list[bytes] = []
    for folder in folders:
        paths = sorted(folder.glob("*.tar"))
        if not paths:
            raise InvalidInput(f"{folder} holds no shards; prepare them first.")
        for path in paths:
            try:
                with tarfile.open(path) as tar:
                    files = [tar.extractfile(entry) for entry in tar]
                    found = [file.read() for file in files if file is not None]
                if found:
                    ShardSamples(found)[-1]  # one that can be unpacked stands for its shard
            except (tarfile.TarError, zipfile.BadZipFile, ValueError, KeyError, OSError) as error:
                raise InvalidInput(f"{path} cannot be read ({error}); delete it and prepare the data again.") from error
            packed += found
            if most is not None and len(packed) >= most:
                return ShardSamples(packed[:most])
    if not packed:
        raise InvalidInput(f"Every object of {folders[0]} was left out; report.json there says why.")
    return ShardSamples(packed)
