//! What can go wrong in the store.

use std::path::PathBuf;

use protocol::ids::{EnvironmentId, Epoch, SessionId};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such session, or no more.
    #[error("there is no session {0}")]
    NoSession(SessionId),
    /// Another writer took the session over.
    #[error("session {session} is written by generation {newest} now, not {given}")]
    Fenced { session: SessionId, given: Epoch, newest: Epoch },
    /// The idempotency key was used with other content.
    #[error("this idempotency key was used before with other content; use a new key for a new request")]
    KeyReused,
    /// Somebody reads an older state, which keeps the write-ahead log as it is.
    #[error(
        "what was deleted is still in the write-ahead log, since somebody reads from it; it goes with the next try"
    )]
    StillRead,
    /// There is no such environment.
    #[error("there is no environment {0}")]
    NoEnvironment(EnvironmentId),
    /// Another environment that is not archived has the name.
    #[error("there is an environment `{0}` already; choose another name, or archive that one")]
    NameTaken(String),
    /// Somebody else changed the environment in between.
    #[error("the environment was changed in between: it is at revision {newest} now, and {given} was edited")]
    Stale { given: u64, newest: u64 },
    /// The default environment cannot be archived.
    #[error("the default environment cannot be archived; make another one the default first")]
    ArchivesDefault,
    /// An archived environment cannot be the default or be edited.
    #[error("the environment is archived; bring it back first")]
    Archived,
    /// Too many prompts wait.
    #[error("{0} prompts already wait in this session; wait for a turn to end")]
    QueueFull(usize),
    /// A blob is over the cap.
    #[error("{size} bytes are over the cap of {cap} for one blob")]
    BlobTooLarge { size: u64, cap: u64 },
    /// There is no such blob.
    #[error("there is no blob {0} in this session")]
    NoBlob(String),
    /// The database was written by a newer version.
    #[error(
        "{} was written by a newer patchyard (schema {found}, this one knows {known}); \
         start that version, or give another data directory with --data", path.display()
    )]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    /// Another server has the data directory.
    #[error("{} is in use by another patchyard; stop it, or give another data directory with --data", path.display())]
    InUse { path: PathBuf },
    /// A sealed text does not open: another key, or damage.
    #[error("{0} does not open with its key; the data directory is damaged or mixed from two")]
    Unsealable(&'static str),
    /// Stored data that no version wrote.
    #[error("{what} in the database cannot be read")]
    Damaged {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// SQLite's own error.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A file's.
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The batch that this write was part of could not be committed.
    #[error("the write could not be committed: {0}")]
    NotCommitted(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
