"""What must survive a restart: jobs in SQLite, uploads and results in folders of content by sha256."""

from mvgamba_backend.store.content import ContentFolder
from mvgamba_backend.store.database import JobDatabase
from mvgamba_backend.store.lock import DataFolderLock

__all__ = ["ContentFolder", "DataFolderLock", "JobDatabase"]
