//! Why files could not be packed or unpacked.

use std::io;
use std::path::PathBuf;

/// An error of packing or unpacking.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A path that is none of ours to go.
    #[error("{}: {reason}", .path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is more than is taken.
    #[error("{0}")]
    Limit(&'static str),
    /// The stream is no archive, or ended in the middle.
    #[error("the archive cannot be read or written: {0}")]
    Stream(#[source] io::Error),
}

impl ArchiveError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }
}
