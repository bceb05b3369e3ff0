-- Bodies, views and keys are sealed; the other columns hold no content.

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    -- The generation that may append.
    epoch      INTEGER NOT NULL,
    -- The newest seq.
    head       INTEGER NOT NULL,
    archived   INTEGER NOT NULL DEFAULT 0,
    -- The session's data key, sealed with the master key.
    data_key   BLOB NOT NULL,
    -- protocol::view::SessionView as JSON, sealed with the data key.
    view       BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE events (
    -- The place in the whole store.
    pos        INTEGER PRIMARY KEY AUTOINCREMENT,
    session    TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    -- Unix microseconds.
    at         INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    turn       TEXT,
    thread     TEXT,
    causation  INTEGER,
    -- The body as JSON, sealed with the data key; NULL where it is in the blob.
    body       BLOB,
    blob       TEXT,
    UNIQUE (session, seq)
);

-- A request that was accepted once, and what it was answered.
CREATE TABLE accepted (
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    answer      TEXT NOT NULL,
    session     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX accepted_by_session ON accepted (session);

-- Tokens, browser sessions and one-time codes: SHA-256 of the secret, never the secret.
CREATE TABLE access (
    hash    BLOB PRIMARY KEY,
    kind    TEXT NOT NULL CHECK (kind IN ('token', 'browser', 'code')),
    name    TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER
) WITHOUT ROWID;
