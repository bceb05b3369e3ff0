//! What can go wrong with a repository.

use std::path::PathBuf;

use policy::address::AddressError;
use policy::repository::RepositoryUrlError;
use protocol::ids::SessionId;

use crate::remote::RemoteError;

/// An error of a session repository.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git said no.
    #[error("git {action} failed: {words}")]
    Git {
        /// What was tried.
        action: &'static str,
        /// git's own last words, one line.
        words: String,
    },
    /// git could not be started.
    #[error("git could not be started; install git 2.37 or newer")]
    Start(#[source] std::io::Error),
    /// git took too long.
    #[error("git {action} took longer than {seconds} s and was stopped")]
    Timeout {
        /// What was tried.
        action: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// The session has no repository.
    #[error("session {0} has no repository")]
    NoRepository(SessionId),
    /// The upload is not what it should be.
    #[error("the upload is no usable git bundle: {0}")]
    BadBundle(String),
    /// Objects are named by SHA-256.
    #[error("{0} names its objects by SHA-256; only repositories with SHA-1 names can be worked on")]
    ObjectFormat(String),
    /// No such branch.
    #[error("there is no branch `{branch}` in {repository}; it has {known}")]
    NoBranch {
        /// The wanted branch.
        branch: String,
        /// Where.
        repository: String,
        /// Some that there are.
        known: String,
    },
    /// The default branch is gone.
    #[error(
        "{repository} has no default branch that is there; name another one with `--branch`: it has {known}"
    )]
    NoDefaultBranch {
        /// Where.
        repository: String,
        /// Some that there are.
        known: String,
    },
    /// Nothing was ever committed.
    #[error("{0} has no commit yet; commit something first")]
    Empty(String),
    /// The address is refused.
    #[error(transparent)]
    Url(#[from] RepositoryUrlError),
    /// The repository's server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The address does not resolve.
    #[error("{host} does not resolve; check the address, or the name service of the server")]
    Resolve {
        /// The host.
        host: String,
        #[source]
        source: std::io::Error,
    },
    /// The folder that an address names cannot be used.
    #[error("cannot open {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The address must not be dialled.
    #[error(
        "{host} resolves to {address}, which {reason}; an operator can open it in [[repositories.allow]]"
    )]
    Address {
        /// The host.
        host: String,
        /// Where it resolves to.
        address: std::net::IpAddr,
        /// Why not.
        reason: AddressError,
    },
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl GitError {
    /// Whether git failed while it talked to the repository that an address names.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Remote(_) => true,
            Self::Git { action, .. } => crate::command::is_remote(action),
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
