//! What `sandbox-host` is told, and what can go wrong with it.

use std::io;
use std::path::PathBuf;

use protocol::ids::LayerId;
use protocol::sandbox_host::HostErrorCode;
use protocol::sandbox_spec::TierRequest;

use super::rights::Rights;
use crate::images::ImageError;
use crate::runtime::RuntimeError;

/// Where the guest program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestProgram {
    /// The one that was built in.
    Embedded,
    /// A static program at this path.
    File(PathBuf),
}

/// What `sandbox-host` is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The server's data directory; exactly one `sandbox-host` at a time serves it.
    pub data_dir: PathBuf,
    /// Where to listen for the server; its folder has to exist.
    pub socket: PathBuf,
    /// The server's user, who may ask, and who owns the sockets and repositories; as seen from where
    /// `sandbox-host` was started.
    pub server_uid: u32,
    /// The server's group.
    pub server_gid: u32,
    /// Process 1 of the sandboxes.
    pub guest: GuestProgram,
    /// What it may do, as found before the process had threads.
    pub rights: Rights,
}

/// Why `sandbox-host` cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The operating system refused.
    #[error("sandbox-host could not {what}: {source}")]
    Io {
        /// What it tried.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another one is at work.
    #[error("another sandbox-host serves {} already; stop it first", .0.display())]
    Busy(PathBuf),
    /// Its thread broke down.
    #[error("sandbox-host broke down; its log says where")]
    Panicked,
}

/// Why one request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no sandbox runtime works here: {0}")]
    NoRuntime(String),
    #[error(
        "this host has no sandbox of the tier that is asked for ({}): {why_not}; nothing weaker is started. \
         `patchyard doctor` says how to get it, or choose another tier in the environment", words(*.request)
    )]
    NoTier { request: TierRequest, why_not: String },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("there is no layer {0}, or it stands on another image; it is made anew by the setup")]
    NoLayer(LayerId),
    #[error("{0}; allow it in the environment's settings, or mend the host: `patchyard doctor` says how")]
    NoLimit(String),
    #[error("the sandbox did not start: {0}")]
    Start(#[from] RuntimeError),
    #[error("{0}")]
    BadRequest(String),
    #[error("sandbox-host could not {what}: {source}")]
    Internal {
        what: String,
        #[source]
        source: io::Error,
    },
}

fn words(request: TierRequest) -> String {
    match request {
        TierRequest::AtLeast(tier) => format!("at least {tier}"),
        TierRequest::Exactly(tier) => tier.to_string(),
    }
}

impl Refusal {
    /// The class of the failure.
    pub(crate) fn code(&self) -> HostErrorCode {
        match self {
            Self::NoRuntime(_) => HostErrorCode::NoRuntime,
            Self::NoTier { .. } => HostErrorCode::NoTier,
            Self::Image(ImageError::Unknown { .. } | ImageError::Name(_) | ImageError::NotRoots(_)) => {
                HostErrorCode::NoImage
            }
            Self::Image(_) | Self::Internal { .. } => HostErrorCode::Internal,
            Self::NoLayer(_) => HostErrorCode::NoLayer,
            Self::NoLimit(_) => HostErrorCode::NoLimit,
            Self::Start(_) => HostErrorCode::Start,
            Self::BadRequest(_) => HostErrorCode::BadRequest,
        }
    }
}

/// Says what was tried when the operating system refused.
pub(crate) trait Trying<T> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, Refusal>;
}

impl<T> Trying<T> for io::Result<T> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, Refusal> {
        self.map_err(|source| Refusal::Internal { what: what(), source })
    }
}
