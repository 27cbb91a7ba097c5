"""One service for one data folder."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NUM_INSTANCES = 16


class DataFolderLock:
    """Held until the process ends, however it ends."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file = file
        self.folder = folder

    @staticmethod
    def take(folder: Path) -> "DataFolderLock | None":
        """None when another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("ab")
        try:
            if sys.platform == "win32":
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        os.set_inheritable(file.fileno(), False)
        return DataFolderLock(file, folder)

    @staticmethod
    def take_first_free(folder: Path) -> "DataFolderLock | None":
        """The folder, or the first free of its numbered neighbours inside it: for one service in each of several parents."""
        for number in range(1, NUM_INSTANCES + 1):
            lock = DataFolderLock.take(folder if number == 1 else folder / f"instance-{number}")
            if lock is not None:
                return lock
        return None

    def release(self) -> None:
        self._file.close()
