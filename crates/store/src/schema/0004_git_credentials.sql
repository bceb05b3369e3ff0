-- What the server is at hosts of repositories: values that people set and nobody reads again but git-proxy.

CREATE TABLE git_credentials (
    id       TEXT PRIMARY KEY,
    -- The credential's data key, sealed with the master key.
    data_key BLOB NOT NULL,
    -- store::GitCredential as JSON, its host and user too, sealed with the data key.
    body     BLOB NOT NULL
) WITHOUT ROWID;
