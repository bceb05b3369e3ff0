//! Why a local session cannot begin or go on.

use std::path::PathBuf;

/// What is in the way.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Options or input that make no sense.
    #[error("{0}")]
    Usage(String),
    /// No way to a model.
    #[error(
        "no key for a model: set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, and ANTHROPIC_BASE_URL where the model is \
         elsewhere"
    )]
    NoKey,
    /// The way to the model cannot be used.
    #[error("the model cannot be asked: {0}")]
    Model(String),
    /// Settings that must hold cannot be read.
    #[error("{0}")]
    Settings(String),
    /// No conversation of this id.
    #[error("no conversation found with session ID: {0}")]
    NoSession(String),
    /// A conversation of this id is there already.
    #[error("the session ID {0} is in use already")]
    InUse(String),
    /// There is nothing to go on with.
    #[error("no conversation found to continue in this folder")]
    NothingToContinue,
    /// A file.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The session's log took no more.
    #[error("the session cannot go on: {0}")]
    Port(#[from] protocol::agent_port::PortError),
}
