//! A sandbox to be, with all that it needs.

use std::os::fd::OwnedFd;

use protocol::ids::{SandboxId, SessionId};
use protocol::sandbox_spec::SandboxSpec;

use super::layers::Lower;
use super::record::{Record, slots_of};
use crate::bundle::IdRange;
use crate::images::ImageConfig;
use crate::runtime::Runtime;

/// The socket that a guest makes itself.
pub(super) const GUEST_SOCKET: &str = "guest.sock";

/// A sandbox to be, with all that it needs.
pub(super) struct Plan {
    pub(super) sandbox: SandboxId,
    pub(super) session: Option<SessionId>,
    pub(super) spec: SandboxSpec,
    pub(super) unenforced: Vec<String>,
    pub(super) image: OwnedFd,
    pub(super) settings: ImageConfig,
    pub(super) layers: Vec<Lower>,
    pub(super) repository: Option<OwnedFd>,
    pub(super) runtime: Runtime,
}

impl Plan {
    pub(super) fn slots(&self) -> u32 {
        slots_of(&self.spec)
    }

    pub(super) fn record(&self, slot: u32, ids: IdRange) -> Record {
        Record {
            sandbox: self.sandbox,
            session: self.session,
            spec: self.spec.clone(),
            tier: self.runtime.kind().tier,
            unenforced: self.unenforced.clone(),
            slot,
            ids,
            runtime: self.runtime.name().to_owned(),
            disk: None,
            init: None,
        }
    }
}
