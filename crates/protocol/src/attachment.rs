//! The attachment is the identity.
//!
//! ```text
//!   sandbox ── guest ══ unix socket that the host bound ══ server
//!                       └── what arrives here is this session's, whatever it says
//! ```
//!
//! `sandbox-host` binds one socket per sandbox outside of it and hands only the listening end in.
//! Whoever answers on that path speaks for the session below and for no other: no token, no claim
//! inside the bytes can change that. A sandbox that waits for a session speaks for nobody yet.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{SandboxId, SessionId};

/// How the server reaches one sandbox, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The session that everything on this attachment belongs to, once it has one.
    pub session: Option<SessionId>,
    /// The sandbox behind it.
    pub sandbox: SandboxId,
    /// The socket on which the guest answers; without one, `sandbox-host` is asked for a connection.
    pub guest_socket: Option<PathBuf>,
}
