//! What the server may ask of `sandbox-host`, the privileged process.
//!
//! ```text
//!  frame: u32 little-endian length │ JSON      one request, one answer, then the next
//! ```
//!
//! Requests are owned and serialisable, and name things by id: every path is derived by
//! `sandbox-host` from its own data directory, none is taken from the server.

use serde::{Deserialize, Serialize};

use crate::attachment::Attachment;
use crate::egress::{Door, Gateway};
use crate::ids::{LayerId, SandboxId, SessionId};
use crate::sandbox_spec::{Limits, SandboxSpec, Tier};

/// The longest request or answer.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// A request of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum HostRequest {
    /// What this host can do; found by doing. With `bench`, a throw-away container of each
    /// tier is run a few times and timed.
    Probe { bench: bool },
    /// Makes and starts a sandbox. With a session, its repository is attached at once; without one it
    /// waits, warm, for [`HostRequest::Attach`].
    Create { sandbox: SandboxId, session: Option<SessionId>, spec: SandboxSpec },
    /// Gives a waiting sandbox to a session: its repository, `repos/<session>.git`, is mounted read-only
    /// at [`REPOSITORY_MOUNT`].
    Attach { sandbox: SandboxId, session: SessionId },
    /// A connection to the guest of a sandbox whose attachment names no socket. The answer is followed by
    /// one byte that carries the connection's descriptor.
    Connect { sandbox: SandboxId },
    /// Opens the listeners of a sandbox's network, inside of it. The answer is followed by one byte that
    /// carries their descriptors. Whoever held such listeners before has to have let go of them.
    Listen { sandbox: SandboxId },
    /// Opens the listeners of a sandbox that the server itself holds, in the same way.
    Gateways { sandbox: SandboxId },
    /// Ends a sandbox, and keeps what it wrote as a layer for later ones.
    Seal { sandbox: SandboxId, layer: LayerId },
    /// Takes a sandbox down; done also when there was none.
    Destroy { sandbox: SandboxId },
    /// The sandboxes of this data directory that still run.
    List,
    /// The saved layers.
    Layers,
    /// Removes a saved layer; sandboxes that stand on it keep it. Done also when there was none.
    DropLayer { layer: LayerId },
    /// The images that can be used.
    Images,
}

impl HostRequest {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Probe { .. } => "probe",
            Self::Create { .. } => "create",
            Self::Attach { .. } => "attach",
            Self::Connect { .. } => "connect",
            Self::Listen { .. } => "listen",
            Self::Gateways { .. } => "gateways",
            Self::Seal { .. } => "seal",
            Self::Destroy { .. } => "destroy",
            Self::List => "list",
            Self::Layers => "layers",
            Self::DropLayer { .. } => "drop_layer",
            Self::Images => "images",
        }
    }
}

/// Where a sandbox finds the session repository.
pub const REPOSITORY_MOUNT: &str = "/run/patchyard/repository.git";

/// The folder in which a guest that was given no socket makes its own, `guest.sock`.
pub const ATTACHMENT_MOUNT: &str = "/run/patchyard/attachment";

/// The folder in which a sandbox whose network stack is its own finds a socket for each of
/// [`RELAYED`](crate::egress::RELAYED).
pub const DOORS_MOUNT: &str = "/run/patchyard/doors";

/// Where a sandbox finds our programs: `patchyard-guest` and `check-tools`.
pub const GUEST_BIN: &str = "/run/patchyard/bin";

/// What the guest program's words begin with where a container runtime may speak, too.
pub const GUEST_WORDS: &str = "patchyard-guest: ";

/// An answer of `sandbox-host`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum HostAnswer {
    /// To [`HostRequest::Probe`].
    Probed(HostReport),
    /// To [`HostRequest::Create`].
    Created(Made),
    /// To [`HostRequest::Attach`].
    Attached,
    /// To [`HostRequest::Connect`].
    Connected,
    /// To [`HostRequest::Listen`]: what each descriptor is for.
    Listening { doors: Vec<Door> },
    /// To [`HostRequest::Gateways`]: what each descriptor is for.
    GatewaysOpen { gateways: Vec<Gateway> },
    /// To [`HostRequest::Seal`].
    Sealed(SavedLayer),
    /// To [`HostRequest::Destroy`].
    Destroyed,
    /// To [`HostRequest::List`].
    Sandboxes { sandboxes: Vec<Made> },
    /// To [`HostRequest::Layers`].
    Layers { layers: Vec<SavedLayer> },
    /// To [`HostRequest::DropLayer`].
    Dropped,
    /// To [`HostRequest::Images`].
    Images { images: Vec<ImageInfo> },
    /// To any of them: what happened, to what, why, and what to do next.
    Failed { code: HostErrorCode, message: String },
}

/// A sandbox that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Which one, whose, and how to reach it.
    pub attachment: Attachment,
    /// How strongly it is kept apart.
    pub tier: Tier,
    /// By which runtime.
    pub runtime: String,
    /// What it may use.
    pub limits: Limits,
    /// Promised limits that do not hold here, a sentence each.
    pub unenforced: Vec<String>,
}

/// What an earlier sandbox wrote, kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLayer {
    /// Which one.
    pub layer: LayerId,
    /// Bytes on the host's disk.
    pub bytes: u64,
}

/// An image that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Its name.
    pub name: String,
    /// Changes exactly when its content does.
    pub id: String,
}

/// Why a request failed, for those who decide on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostErrorCode {
    /// No runtime works here.
    NoRuntime,
    /// The tier that is asked for cannot be had here.
    NoTier,
    /// A promised limit cannot be enforced here.
    NoLimit,
    /// There is no such image.
    NoImage,
    /// There is no such layer.
    NoLayer,
    /// The sandbox did not start.
    Start,
    /// The request made no sense.
    BadRequest,
    /// Something of the host failed.
    Internal,
}

/// What a host can do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// Each tier.
    pub tiers: Vec<TierReport>,
    /// Each runtime that was tried.
    pub runtimes: Vec<RuntimeReport>,
    /// Each limit, and whether it is enforced.
    pub limits: Vec<LimitReport>,
    /// The images that can be used.
    pub images: Vec<ImageInfo>,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TierReport {
    /// Which one.
    pub tier: Tier,
    /// The runtime that gives it here.
    pub runtime: Option<String>,
    /// Why it cannot be had, and how to mend that.
    pub why_not: Option<String>,
    /// Limits that do not hold in it although the host has them.
    pub lacks: Vec<String>,
    /// A throw-away container made, run and ended, in milliseconds, ascending; with `bench` only.
    pub start_ms: Vec<f64>,
}

/// One runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeReport {
    /// Name of the binary, such as `crun`.
    pub name: String,
    /// The tier that it gives.
    pub tier: Tier,
    /// Its version line, where it was found.
    pub version: Option<String>,
    /// Whether it is the one that is used for its tier.
    pub chosen: bool,
    /// Why it does not work, and how to mend that.
    pub why_not: Option<String>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReport {
    /// `memory`, `pids`, `cpu`, `disk`.
    pub name: String,
    /// Whether it is enforced here.
    pub enforced: bool,
    /// By what, or why not and how to mend that.
    pub note: String,
}
