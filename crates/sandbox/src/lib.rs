//! Isolated machines for sessions.
//!
//! ```text
//!   server (unprivileged)                         sandbox-host (root)
//!   ├─ client::SandboxHost ── unix socket, JSON ──▶ host ─▶ slots · rootfs · bundle · cgroups
//!   │                                                        └─▶ runtime: crun or runc
//!   └─ guest_link::GuestLink ══ the sandbox's socket ═══════════════▶ guest (process 1)
//! ```
//!
//! `sandbox-host` only makes and ends sandboxes. What runs in one is asked of its guest directly, and
//! never passes through a process that is root on the host.

pub mod bundle;
mod cgroups;
pub mod client;
mod credentials;
mod embedded;
pub mod guest_link;
pub mod host;
pub mod images;
pub mod local;
mod loop_device;
mod mounts;
mod network;
mod process;
mod runtime;
mod shifted_copy;
mod slots;
mod sockets;
mod userns;

pub use embedded::guest_binary;
