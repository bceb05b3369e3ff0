//! What is written down of a sandbox, so that the next `sandbox-host` can end it.

use std::fs;
use std::io;
use std::path::Path;

use protocol::ids::{SandboxId, SessionId};
use protocol::sandbox_spec::{SandboxSpec, Tier};
use serde::{Deserialize, Serialize};

use super::disks::DiskRecord;
use crate::bundle::IdRange;
use crate::process::Watched;

/// The name of the record in a sandbox's folder.
const FILE: &str = "state.json";

/// A sandbox, as written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which one.
    pub(crate) sandbox: SandboxId,
    /// Whose; nobody's while it waits.
    pub(crate) session: Option<SessionId>,
    /// What it was to be.
    pub(crate) spec: SandboxSpec,
    /// How strongly it is kept apart.
    pub(crate) tier: Tier,
    /// Promised limits that do not hold.
    pub(crate) unenforced: Vec<String>,
    /// Where what it writes is kept, once there is something.
    pub(crate) disk: Option<DiskRecord>,
    /// The first of its ranges of ids.
    pub(crate) slot: u32,
    /// Its ids.
    pub(crate) ids: IdRange,
    /// The runtime that started it.
    pub(crate) runtime: String,
    /// Its process 1, once it was started.
    pub(crate) init: Option<Init>,
}

/// A process by its number and the time of its beginning, so that a later process with the same number
/// is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Init {
    /// The host's number of it.
    pub(crate) pid: i32,
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
}

impl Record {
    /// Reads the record in this folder; `None` when there is none that can be read.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }

    /// Puts the record into this folder, whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(".state.json");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, folder.join(FILE))
    }

    /// How many ranges it has, one after the other.
    pub(crate) fn slots(&self) -> u32 {
        slots_of(&self.spec)
    }

    /// Its process 1, if it lives.
    pub(crate) fn init(&self) -> Option<Watched> {
        self.init.and_then(|init| Watched::find(init.pid, init.start_time))
    }
}

/// How many ranges a sandbox of this kind has: one more, where containers inside need ids of their own.
pub(crate) fn slots_of(spec: &SandboxSpec) -> u32 {
    if spec.nested { 2 } else { 1 }
}
