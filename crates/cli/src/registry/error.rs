//! What can go wrong with a registry.

use std::io;
use std::path::PathBuf;

use sandbox::images::ImageError;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// Not a reference.
    #[error("`{text}` names no image of a registry: {why}; it is like ubuntu:24.04 or host/path/name:tag")]
    Reference {
        /// As given.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It does not answer.
    #[error("the registry {registry} cannot be reached ({tries} tries): {source}")]
    Unreachable {
        /// Its name.
        registry: String,
        /// How often it was tried.
        tries: u32,
        /// Why the last time.
        #[source]
        source: reqwest::Error,
    },
    /// It wants to know who asks.
    #[error(
        "the registry {registry} refuses {what}: {words}; sign in with: patchyard image login {registry}"
    )]
    Denied {
        /// Its name.
        registry: String,
        /// What was asked for.
        what: String,
        /// What it says.
        words: String,
    },
    /// There is no such thing.
    #[error("the registry {registry} has no {what}; check the name and the tag")]
    Missing {
        /// Its name.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// It answers what makes no sense.
    #[error("the registry {registry} answered {what} with {words}")]
    Answer {
        /// Its name.
        registry: String,
        /// What was asked for.
        what: String,
        /// What came.
        words: String,
    },
    /// Where it sends us would show a password or an image to the network.
    #[error("the registry {registry} leads to {url}, which is not encrypted; --insecure allows that")]
    Unencrypted {
        /// Its name.
        registry: String,
        /// Where to.
        url: String,
    },
    /// The image itself.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file of this machine.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kept logins cannot be opened.
    #[error("the kept logins in {} cannot be opened: {why}; sign in again after removing it", .path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
}

impl RegistryError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Reference { .. } => 2,
            Self::Unreachable { .. } | Self::Denied { .. } | Self::Unencrypted { .. } => 3,
            _ => 1,
        }
    }
}
