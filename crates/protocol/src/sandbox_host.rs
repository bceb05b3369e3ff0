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
use crate::ids::{SandboxId, SessionId};

/// The longest request or answer.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// How strongly a sandbox is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Namespaces of the host's kernel.
    Container,
}

/// What a sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory, swap included.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
}

impl Default for Limits {
    /// 4 cores, 16 GB, 4,096 processes: what Claude Code on the web gives a session
    /// (`reference/sandbox-security.md` section 2, product docs).
    fn default() -> Self {
        Self { memory_bytes: 16_000_000_000, cpu_millis: 4_000, pids: 4_096 }
    }
}

/// A request of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum HostRequest {
    /// What this host can do; found by doing.
    Probe,
    /// Makes and starts a sandbox. The session's repository, `repos/<session>.git`, is mounted
    /// read-only at [`REPOSITORY_MOUNT`].
    Create { sandbox: SandboxId, session: SessionId, image: String, limits: Limits },
    /// Takes a sandbox down; done also when there was none.
    Destroy { sandbox: SandboxId },
    /// The sandboxes of this data directory that still run.
    List,
    /// The images that can be used.
    Images,
}

/// Where a sandbox finds the session repository.
pub const REPOSITORY_MOUNT: &str = "/run/patchyard/repository.git";

/// Where a sandbox finds our programs: `patchyard-guest` and `check-tools`.
pub const GUEST_BIN: &str = "/run/patchyard/bin";

/// An answer of `sandbox-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum HostAnswer {
    /// To [`HostRequest::Probe`].
    Probed(HostReport),
    /// To [`HostRequest::Create`].
    Created { attachment: Attachment, tier: Tier },
    /// To [`HostRequest::Destroy`].
    Destroyed,
    /// To [`HostRequest::List`].
    Sandboxes { attachments: Vec<Attachment> },
    /// To [`HostRequest::Images`].
    Images { names: Vec<String> },
    /// To any of them: what happened, to what, why, and what to do next.
    Failed { code: HostErrorCode, message: String },
}

/// Why a request failed, for those who decide on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostErrorCode {
    /// No runtime works here.
    NoRuntime,
    /// There is no such image.
    NoImage,
    /// The sandbox did not start.
    Start,
    /// The request made no sense.
    BadRequest,
    /// Something of the host failed.
    Internal,
}

/// What a host can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Each runtime that was tried.
    pub runtimes: Vec<RuntimeReport>,
    /// Each limit, and whether it is enforced.
    pub limits: Vec<LimitReport>,
    /// The images that can be used.
    pub images: Vec<String>,
}

/// One runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeReport {
    /// Name of the binary, such as `crun`.
    pub name: String,
    /// Its version line, where it was found.
    pub version: Option<String>,
    /// Whether it is the one that is used.
    pub chosen: bool,
    /// Why it does not work, and how to mend that.
    pub why_not: Option<String>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReport {
    /// `memory`, `pids`, `cpu`.
    pub name: String,
    /// Whether the kernel enforces it here.
    pub enforced: bool,
    /// By what, or why not.
    pub note: String,
}
