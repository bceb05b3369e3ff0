//! Why a command did not run in the local sandbox.

use std::io;
use std::path::PathBuf;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// This machine cannot do it.
    #[error("this machine cannot sandbox a command: {0}")]
    Unavailable(String),
    /// A settings file is no use.
    #[error("{path} cannot be taken as settings: {reason}; mend it, since what it denies is not known")]
    Settings {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The command cannot be run where it is asked for.
    #[error("{0}")]
    Refused(String),
    /// There is no such program.
    #[error("{0}: no such program in PATH")]
    NoProgram(String),
    /// The sandbox could not be put together.
    #[error("the sandbox could not be put together: {0}")]
    Stage(String),
    /// Something of this machine.
    #[error("{action} failed")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl LocalError {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// What a script is told: 3 not allowed or not possible here, 127 no such program, 1 the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unavailable(_) | Self::Refused(_) => 3,
            Self::NoProgram(_) => 127,
            Self::Settings { .. } | Self::Stage(_) | Self::Io { .. } => 1,
        }
    }
}
