//! What ends a command, in one line, with an exit code.
//!
//! 0 done · 1 the task or command failed · 2 usage · 3 cannot reach or not allowed.

use client::ClientError;

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The command could not be done.
    #[error("{0}")]
    Failed(String),
    /// The server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server process.
    #[error(transparent)]
    Run(#[from] server::RunError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] server::config::ConfigError),
    /// A registry of images.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// A local git.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::BundleError),
    /// Something of this machine.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Client(error) if error.is_denied() || error.is_unreachable() => 3,
            Self::Client(ClientError::BadServer(_)) => 2,
            Self::Registry(error) => error.exit_code(),
            _ => 1,
        }
    }
}

/// An error with its causes, `a: b: c`; what a cause repeats is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}
