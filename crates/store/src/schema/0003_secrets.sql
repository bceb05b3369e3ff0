-- Values that people set and nobody reads again but egress.

CREATE TABLE secrets (
    environment TEXT NOT NULL,
    name        TEXT NOT NULL,
    -- The value, sealed with the environment's data key.
    value       BLOB NOT NULL,
    PRIMARY KEY (environment, name)
) WITHOUT ROWID;
