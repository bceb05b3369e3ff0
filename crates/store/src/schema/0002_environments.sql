-- What people typed is sealed with a key per environment, its name too; the columns hold no content.

CREATE TABLE environments (
    id         TEXT PRIMARY KEY,
    archived   INTEGER NOT NULL DEFAULT 0,
    -- The one that sessions get which name none; at most one row has 1.
    is_default INTEGER NOT NULL DEFAULT 0,
    revision   INTEGER NOT NULL,
    -- Unix milliseconds.
    created    INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    -- The environment's data key, sealed with the master key.
    data_key   BLOB NOT NULL,
    -- protocol::environment::EnvironmentSettings as JSON, sealed with the data key.
    settings   BLOB NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX one_default ON environments (is_default) WHERE is_default = 1;

-- What setups left for later sessions: the layers themselves are sandbox-host's.
CREATE TABLE setup_caches (
    layer       TEXT PRIMARY KEY,
    environment TEXT NOT NULL,
    -- Digest of everything that the content depends on.
    cache_key   BLOB NOT NULL UNIQUE,
    bytes       INTEGER NOT NULL,
    -- Unix milliseconds; used is the creation until a session began with it.
    created     INTEGER NOT NULL,
    used        INTEGER NOT NULL,
    -- store::SetupCacheFacts as JSON, sealed with the environment's data key.
    facts       BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX setup_caches_by_environment ON setup_caches (environment);
