"""Shards for tests, written without another process."""

import io
import json
import tarfile

import numpy as np


def write_shard(folder, samples, *, kind="views"):
    """As `write_view_shards` does."""
    folder.mkdir(parents=True)
    (folder / "index.json").write_text(json.dumps({"kind": kind}))
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for i, sample in enumerate(samples):
            buffer = io.BytesIO()
            np.savez(buffer, **sample.arrays())
            entry = tarfile.TarInfo(f"{i}.npz")
            entry.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(entry, buffer)
    return folder
