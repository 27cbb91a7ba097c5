"""The table of jobs: SQLite, written before anybody is told."""

import errno
import importlib.resources
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mvgamba.errors import OutputFailed
from mvgamba_backend.errors import output_error
from mvgamba_backend.record import AssetRecord, JobFailure, JobRecord, JobState, ProgressRecord
from mvgamba_backend.spec import spec_from_json

SCHEMAS = ("schema_0001.sql", "schema_0002.sql", "schema_0003.sql", "schema_0004.sql")
"""One file for each step; `user_version` of the file says how many were taken."""


class JobDatabase:
    """All jobs of a data folder. Methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10.0)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        # a result that a client was told about must be there after a power cut
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._migrate(path)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @property
    def version(self) -> int:
        """How many steps of the schema were taken."""
        with self._lock:
            return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self, path: Path) -> None:
        if self.version > len(SCHEMAS):
            self._connection.close()
            raise OutputFailed(f"{path} was written by a newer version of the service. Update, or use another folder.")
        for number in range(self.version, len(SCHEMAS)):
            sql = importlib.resources.files(__package__).joinpath(SCHEMAS[number]).read_text(encoding="utf-8")
            self._connection.executescript(f"BEGIN; {sql} PRAGMA user_version = {number + 1}; COMMIT;")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    code = errno.ENOSPC if error.sqlite_errorcode == sqlite3.SQLITE_FULL else errno.EIO
                    raise output_error(OSError(code, str(error)), "writing the table of jobs") from error
                raise

    # ---------------------------------------------------------------- writing

    def insert(self, job: JobRecord) -> None:
        """Add a job and note which blobs it needs."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO jobs (id, request_id, request_digest, spec, state, created, sequence) VALUES (?,?,?,?,?,?,?)",
                (job.id, job.request_id, job.request_digest, job.spec.to_json(), job.state, job.created, job.sequence),
            )
            blobs = {sha256 for _, sha256 in job.spec.blobs()}
            db.executemany("INSERT INTO job_blobs VALUES (?,?)", [(job.id, sha256) for sha256 in sorted(blobs)])

    def update(self, job: JobRecord) -> None:
        """Write everything that may change, with the assets of a finished job in the same transaction."""
        failure = job.failure
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state=?, stage=?, fraction=?, message=?, reason=?, reason_message=?, reason_metadata=?,"
                " started=?, ended=?, sequence=?, attempt=? WHERE id=?",
                (
                    job.state,
                    job.progress.stage,
                    job.progress.fraction,
                    job.progress.message,
                    failure and failure.reason,
                    failure and failure.message,
                    failure and json.dumps(failure.metadata),
                    job.started,
                    job.ended,
                    job.sequence,
                    job.attempt,
                    job.id,
                ),
            )
            db.executemany(
                "INSERT OR REPLACE INTO assets VALUES (?,?,?,?,?,?,?)",
                [(job.id, i, a.name, a.kind, a.media_type, a.size_bytes, a.sha256) for i, a in enumerate(job.assets)],
            )

    def delete(self, job_id: str) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM jobs WHERE id=?", (job_id,))

    # ---------------------------------------------------------------- reading

    def get(self, job_id: str) -> JobRecord | None:
        return self._one("SELECT * FROM jobs WHERE id=?", job_id)

    def by_request_id(self, request_id: str) -> JobRecord | None:
        return self._one("SELECT * FROM jobs WHERE request_id=?", request_id)

    def unfinished(self) -> list[JobRecord]:
        """In the order in which they came."""
        states = [s.value for s in JobState if not s.is_final]
        sql = f"SELECT * FROM jobs WHERE state IN ({','.join('?' * len(states))}) ORDER BY number"
        with self._lock:
            return [self._record(row) for row in self._connection.execute(sql, states).fetchall()]

    def page(
        self, *, before: int | None, size: int, states: Iterable[JobState] = ()
    ) -> tuple[list[JobRecord], int | None]:
        """Newest first: at most `size` jobs with numbers below `before`, and where the next page begins."""
        wanted = [s.value for s in states]
        where = [f"state IN ({','.join('?' * len(wanted))})"] if wanted else []
        where += ["number < ?"] if before is not None else []
        sql = "SELECT * FROM jobs" + (f" WHERE {' AND '.join(where)}" if where else "")
        values = [*wanted, *([before] if before is not None else []), size + 1]
        with self._lock:
            rows = self._connection.execute(f"{sql} ORDER BY number DESC LIMIT ?", values).fetchall()
            jobs = [self._record(row) for row in rows[:size]]
        return jobs, rows[size - 1]["number"] if len(rows) > size else None

    def blobs_in_use(self) -> set[str]:
        with self._lock:
            return {row[0] for row in self._connection.execute("SELECT DISTINCT sha256 FROM job_blobs")}

    def assets_in_use(self) -> set[str]:
        with self._lock:
            return {row[0] for row in self._connection.execute("SELECT DISTINCT sha256 FROM assets")}

    def _one(self, sql: str, value: str) -> JobRecord | None:
        with self._lock:
            row = self._connection.execute(sql, (value,)).fetchone()
            return None if row is None else self._record(row)

    def _record(self, row: sqlite3.Row) -> JobRecord:
        assets = self._connection.execute("SELECT * FROM assets WHERE job_id=? ORDER BY position", (row["id"],))
        failure = None
        if row["reason"] is not None:
            failure = JobFailure(row["reason"], row["reason_message"], json.loads(row["reason_metadata"]))
        return JobRecord(
            id=row["id"],
            request_id=row["request_id"],
            request_digest=row["request_digest"],
            spec=spec_from_json(row["spec"]),
            created=row["created"],
            state=JobState(row["state"]),
            progress=ProgressRecord(row["stage"], row["fraction"], message=row["message"]),
            failure=failure,
            assets=tuple(
                AssetRecord(a["name"], a["kind"], a["media_type"], a["size_bytes"], a["sha256"]) for a in assets
            ),
            started=row["started"],
            ended=row["ended"],
            sequence=row["sequence"],
            attempt=row["attempt"],
        )
