"""Names of files from names that people give."""

import re
from pathlib import Path

_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10))}
_MOST = 80
"""Characters; in UTF-8 at most 255 bytes with a suffix, which is what file systems take."""


def file_stem(name: str) -> str:
    """What every system takes as the name of a file; letters of all languages stay."""
    stem = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", name).strip(" .")
    while len(stem.encode("utf-8", "replace")) > 3 * _MOST:
        stem = stem[:-1]
    stem = stem[:_MOST].strip(" .") or "result"
    return f"{stem}_" if stem.split(".")[0].upper() in _RESERVED else stem


def unused(path: Path) -> Path:
    """`path`, or with a number behind its stem when it is taken."""
    n, free = 2, path
    while free.exists():
        free = path.with_stem(f"{path.stem} {n}")
        n += 1
    return free
