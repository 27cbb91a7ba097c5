"""A folder of files named by the sha256 of what they hold. A file that has its name is whole."""

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from mvgamba.errors import DiskFull
from mvgamba_backend.errors import BlobMismatch, output_error


class ContentFolder:
    """Files by content. Any thread may add, read and remove."""

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        self.root = root
        self._min_free_bytes = min_free_bytes
        self._parts = root / "parts"
        self._parts.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the content lies, or would."""
        return self.root / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def head(self, sha256: str, count: int) -> tuple[int, bytes] | None:
        """(size in bytes, the first `count`), or None."""
        try:
            with self.path(sha256).open("rb") as file:
                return os.fstat(file.fileno()).st_size, file.read(count)
        except FileNotFoundError:
            return None

    def touch(self, sha256: str) -> None:
        """Somebody asked for it: start its time without use again."""
        with contextlib.suppress(OSError):
            os.utime(self.path(sha256))

    def check_room(self, needed: int = 0) -> None:
        """Raises: DiskFull."""
        free = shutil.disk_usage(self.root).free
        if free - needed < self._min_free_bytes:
            raise DiskFull(
                f"{free / 2**20:.0f} MiB are free in the data folder; {(needed + self._min_free_bytes) / 2**20:.0f} MiB are "
                "needed. Make room, or use another folder."
            )

    # ---------------------------------------------------------------- adding

    def put(self, data: bytes) -> str:
        """Add content that is at hand. Returns its sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has(sha256):
            self.receive(iter([data]), sha256=sha256, size=len(data), offset=0)
        return sha256

    def share(self, other: "ContentFolder", sha256: str) -> None:
        """Have what another folder has, too, where the system can without a copy. Raises: DiskFull, OutputFailed."""
        if self.has(sha256):
            return
        own = self._parts / f"{sha256}.{uuid.uuid4().hex}"
        try:
            try:
                os.link(other.path(sha256), own)
            except OSError:  # a file system without hard links
                self.check_room(other.path(sha256).stat().st_size)
                shutil.copyfile(other.path(sha256), own)
            self._place(own, sha256)
        except OSError as error:
            raise output_error(error, "keeping a mesh") from error
        finally:
            own.unlink(missing_ok=True)

    def adopt(self, source: Path) -> tuple[str, int]:
        """Move a finished file in, on the same disk. Returns its sha256 and size."""
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
        with source.open("rb+") as file:
            os.fsync(file.fileno())
        self._place(source, sha256)
        return sha256, size

    def received(self, sha256: str) -> int:
        """How many bytes of an upload that broke off are here."""
        try:
            return self._part(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def receive(self, chunks: Iterator[bytes], *, sha256: str, size: int, offset: int) -> None:
        """Write an upload. What came of one that breaks off is kept, so that it can go on.

        Raises:
            BlobMismatch: More or fewer bytes than `size` came, or others than `sha256` says, or `offset` lies behind
                what is here.
            DiskFull, OutputFailed: It could not be written.
        """
        self.check_room(size - offset)
        own = self._parts / f"{sha256}.{uuid.uuid4().hex}"
        if offset:
            try:
                os.replace(self._part(sha256), own)  # whoever moves it has it alone
            except FileNotFoundError:
                raise BlobMismatch(f"offset is {offset}, but nothing of {sha256} is here. Begin at 0.") from None
        keep = False
        try:
            with own.open("ab") as file:
                have = file.tell()
                if have < offset:
                    keep = True
                    raise BlobMismatch(f"offset is {offset}, but only {have} bytes of {sha256} are here.")
                file.truncate(offset)
                keep = True
                self._write(file, chunks, size=size, offset=offset)
                file.flush()
                os.fsync(file.fileno())
            keep = False
            with own.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                raise BlobMismatch(f"The upload has the sha256 {found}, not {sha256} as promised. Send it again.")
            self._place(own, sha256)
        except OSError as error:
            keep = False
            raise output_error(error, "writing an upload") from error
        finally:
            if own.exists():
                if keep and own.stat().st_size > self.received(sha256):
                    os.replace(own, self._part(sha256))
                else:
                    own.unlink(missing_ok=True)

    @staticmethod
    def _write(file: BinaryIO, chunks: Iterator[bytes], *, size: int, offset: int) -> None:
        have = offset
        for chunk in chunks:
            have += len(chunk)
            if have > size:
                raise BlobMismatch(f"More than the promised {size} bytes came.")
            file.write(chunk)
        if have != size:
            raise BlobMismatch(f"{have} of the promised {size} bytes came. Go on from there.")

    def _part(self, sha256: str) -> Path:
        return self._parts / sha256

    def _place(self, source: Path, sha256: str) -> None:
        target = self.path(sha256)
        target.parent.mkdir(exist_ok=True)
        try:
            os.replace(source, target)
        except PermissionError:  # Windows, while somebody reads the same content under that name
            if not target.is_file():
                raise
            source.unlink()
        if hasattr(os, "O_DIRECTORY"):  # the name, too, must be there after a power cut
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    # ---------------------------------------------------------------- removing

    def discard(self, contents: Iterable[str]) -> None:
        for sha256 in contents:
            # on Windows a file that is being read stays; the next sweep takes it
            with contextlib.suppress(OSError):
                self.path(sha256).unlink(missing_ok=True)

    def sweep(self, in_use: set[str], *, older_than: float) -> int:
        """Remove what nobody uses and nobody touched for `older_than` seconds. Returns how many files."""
        limit, count = time.time() - older_than, 0
        for path in list(self.root.glob("*/*")):
            if path.name not in in_use or path.parent == self._parts:
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime <= limit:
                        path.unlink()
                        count += 1
        return count
