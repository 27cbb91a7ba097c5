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
from typing import Generic, TypeVar, overload

import numpy as np
import torch

from mvgamba.data.samples import RaySample, Stored, make_sample
from mvgamba.data.sources import Source
from mvgamba.errors import InvalidInput, MVGambaError

log = logging.getLogger(__name__)

PER_SHARD = 64
RAYS = "rays"
"""The kind of shards that hold `RaySample`; they do not name it."""

_Kind = TypeVar("_Kind")


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
    make: Callable[..., Stored] = make_sample,
    kind: str = RAYS,
) -> ShardReport:
    """All objects in all variants. A shard that is there is kept, so an interrupted run goes on where it was.

    Args:
        report: Called with shards done and shards in all.
        make: Makes a sample as `make_sample` does; a function of a module, so that other processes find it.
        kind: Of the samples, by which shards of others are told apart.
    Raises:
        InvalidInput: The folder holds shards of another corpus, size, kind or number of variants.
    """
    names = source.names
    jobs = [(i, v) for v in range(variants) for i in range(len(names))]
    parts = [jobs[i : i + PER_SHARD] for i in range(0, len(jobs), PER_SHARD)]
    folder.mkdir(parents=True, exist_ok=True)
    header = {"source": type(source).__name__, "names": names, "size": size, "per_shard": PER_SHARD}
    header |= {} if kind == RAYS else {"kind": kind}
    index = folder / "index.json"
    if index.exists() and json.loads(index.read_text()) != header:
        raise InvalidInput(
            f"{folder} holds shards of another corpus or size, or for another model; name an empty folder."
        )
    index.write_text(json.dumps(header))
    todo = [n for n in range(len(parts)) if not (folder / f"{n:05d}.tar").exists()]
    done = len(parts) - len(todo)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs_running = [pool.submit(_write_shard, source, parts[n], folder / f"{n:05d}.tar", size, make) for n in todo]
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


def _write_shard(
    source: Source, jobs: list[tuple[int, int]], path: Path, size: int, make: Callable[..., Stored]
) -> None:
    skipped: dict[str, str] = {}
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for index, variant in jobs:
            name = f"{index:05d}_{variant:03d}"
            try:
                sample = make(source, index, variant, size=size)
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


class ShardSamples(Sequence[_Kind], Generic[_Kind]):
    """Samples of shards, in the order of their shards: packed in memory, unpacked when one is asked for (10 ms)."""

    def __init__(self, packed: list[bytes], from_arrays: Callable[[dict[str, np.ndarray]], _Kind]) -> None:
        self._packed, self._from_arrays = packed, from_arrays

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, index: int) -> _Kind: ...
    @overload
    def __getitem__(self, index: slice) -> "ShardSamples[_Kind]": ...
    def __getitem__(self, index: int | slice) -> "_Kind | ShardSamples[_Kind]":
        if isinstance(index, slice):
            return ShardSamples(self._packed[index], self._from_arrays)
        with np.load(io.BytesIO(self._packed[index])) as arrays:
            return self._from_arrays(dict(arrays))

    def field(self, index: int, name: str) -> np.ndarray:
        """One array of a sample, without unpacking the others."""
        with np.load(io.BytesIO(self._packed[index])) as arrays:
            return np.asarray(arrays[name])


def read_shards(*folders: Path, most: int | None = None) -> ShardSamples[RaySample]:
    """All samples of the folders, for the ray network.

    Raises:
        InvalidInput: A folder has none, or one cannot be read.
    """
    return read_samples(*folders, from_arrays=RaySample.from_arrays, kind=RAYS, most=most)


def read_samples(
    *folders: Path, from_arrays: Callable[[dict[str, np.ndarray]], _Kind], kind: str, most: int | None = None
) -> ShardSamples[_Kind]:
    """As `read_shards`, of samples of any kind.

    Raises:
        InvalidInput: As there, or the shards are of another kind.
    """
    packed: list[bytes] = []
    for folder in folders:
        index, paths = folder / "index.json", sorted(folder.glob("*.tar"))
        found_kind = json.loads(index.read_text()).get("kind", RAYS) if index.exists() else kind
        if found_kind != kind:
            raise InvalidInput(
                f"{folder} holds shards of {found_kind}, and {kind} are needed; prepare them for this model."
            )
        if not paths:
            raise InvalidInput(f"{folder} holds no shards; prepare them first.")
        for path in paths:
            try:
                with tarfile.open(path) as tar:
                    files = [tar.extractfile(entry) for entry in tar]
                    found = [file.read() for file in files if file is not None]
                if found:
                    ShardSamples(found, from_arrays)[-1]  # one that can be unpacked stands for its shard
            except (tarfile.TarError, zipfile.BadZipFile, ValueError, KeyError, OSError) as error:
                raise InvalidInput(f"{path} cannot be read ({error}); delete it and prepare the data again.") from error
            packed += found
            if most is not None and len(packed) >= most:
                return ShardSamples(packed[:most], from_arrays)
    if not packed:
        raise InvalidInput(f"Every object of {folders[0]} was left out; report.json there says why.")
    return ShardSamples(packed, from_arrays)
