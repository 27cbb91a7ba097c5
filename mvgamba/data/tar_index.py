"""Members of tar archives by place, so that one is read without unpacking or scanning again."""

import functools
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mvgamba.errors import InvalidInput


def members(path: Path) -> Mapping[str, tuple[int, int]]:
    """Name -> offset and size in bytes, of all files in a tar. Scanned once in a process while the file stays the same.

    Raises: InvalidInput if it is not there, compressed or broken.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}.") from error
    return _members(path, stat.st_mtime_ns, stat.st_size)


def read_member(path: Path, name: str) -> bytes:
    """Raises: InvalidInput, naming archive and member."""
    place = members(path).get(name)
    if place is None:
        raise InvalidInput(f"{path} has no {name}; download the archive again or leave it out.")
    offset, size = place
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) < size:
        raise InvalidInput(f"{path} ends within {name}; download the archive again.")
    return data


@functools.lru_cache(maxsize=256)
def _members(path: Path, changed: int, length: int) -> Mapping[str, tuple[int, int]]:
    try:
        with tarfile.open(path, "r:") as tar:
            found = {m.name.removeprefix("./"): (m.offset_data, m.size) for m in tar if m.isreg()}
    except (tarfile.TarError, OSError) as error:
        raise InvalidInput(
            f"{path} is not an uncompressed tar that can be read ({error}); unzip or replace it."
        ) from error
    return MappingProxyType(found)
