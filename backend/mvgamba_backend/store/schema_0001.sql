CREATE TABLE jobs (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    request_id      TEXT NOT NULL UNIQUE,
    request_digest  TEXT NOT NULL,
    spec            TEXT NOT NULL,
    state           TEXT NOT NULL,
    stage           TEXT NOT NULL DEFAULT '',
    fraction        REAL NOT NULL DEFAULT 0,
    message         TEXT NOT NULL DEFAULT '',
    reason          TEXT,
    reason_message  TEXT,
    reason_metadata TEXT,
    created         REAL NOT NULL,
    started         REAL,
    ended           REAL,
    sequence        INTEGER NOT NULL DEFAULT 0,
    attempt         INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_state ON jobs (state, number);

CREATE TABLE assets (
    job_id      TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    media_type  TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    sha256      TEXT NOT NULL,
    PRIMARY KEY (job_id, name)
);
CREATE INDEX assets_by_content ON assets (sha256);

CREATE TABLE job_blobs (
    job_id  TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    sha256  TEXT NOT NULL,
    PRIMARY KEY (job_id, sha256)
);
CREATE INDEX job_blobs_by_content ON job_blobs (sha256);
