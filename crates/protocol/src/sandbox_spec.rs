//! What a sandbox is to be: how strongly kept apart, from what, and how much it may use.

use serde::{Deserialize, Serialize};

use crate::ids::LayerId;

/// How strongly a sandbox is kept apart, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Namespaces of the host's kernel.
    Container,
    /// A kernel of its own in user space.
    Gvisor,
    /// A virtual machine.
    Vm,
}

impl Tier {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::Container, Self::Gvisor, Self::Vm];

    /// Its word in settings and on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Gvisor => "gvisor",
            Self::Vm => "vm",
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Which tiers will do. What cannot be had is refused with the reason; nothing weaker is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TierRequest {
    /// This one or a stronger one; the weakest that works here is taken.
    AtLeast(Tier),
    /// This one only.
    Exactly(Tier),
}

impl TierRequest {
    /// Whether a sandbox of this tier will do.
    #[must_use]
    pub fn accepts(self, tier: Tier) -> bool {
        match self {
            Self::AtLeast(least) => tier >= least,
            Self::Exactly(wanted) => tier == wanted,
        }
    }
}

impl Default for TierRequest {
    fn default() -> Self {
        Self::AtLeast(Tier::Container)
    }
}

/// What a sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory, swap included. Who goes over is killed; from nine tenths on the kernel takes
    /// memory back harder.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes of disk for everything that the sandbox writes.
    pub disk_bytes: u64,
    /// Open files per process.
    pub open_files: u64,
}

impl Limits {
    /// Where the kernel begins to take memory back: the soft limit below the hard one.
    #[must_use]
    pub fn soft_memory_bytes(&self) -> u64 {
        self.memory_bytes / 10 * 9
    }
}

impl Default for Limits {
    /// 4 cores, 16 GB, 30 GB of disk: what Claude Code on the web gives a session; 4,096 processes and
    /// 65,536 open files.
    fn default() -> Self {
        Self {
            memory_bytes: 16_000_000_000,
            cpu_millis: 4_000,
            pids: 4_096,
            disk_bytes: 30_000_000_000,
            open_files: 65_536,
        }
    }
}

/// What is done about a promised limit that this host cannot enforce.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unenforced {
    /// The sandbox is made, and the session's log says which limit does not hold.
    #[default]
    Tell,
    /// No sandbox is made.
    Refuse,
}

/// A sandbox to be. Two equal ones can stand in for each other until a session has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The image's name.
    pub image: String,
    /// Which tiers will do.
    pub tier: TierRequest,
    /// What it may use.
    pub limits: Limits,
    /// What is done about a limit that cannot be had.
    pub unenforced: Unenforced,
    /// Whether containers may be made inside: a wider range of ids, and new privileges allowed.
    pub nested: bool,
    /// A saved layer that lies between the image and what the sandbox writes.
    pub layer: Option<LayerId>,
}

impl SandboxSpec {
    /// A sandbox of this image with everything else as usual.
    #[must_use]
    pub fn of_image(image: &str, limits: Limits) -> Self {
        Self {
            image: image.to_owned(),
            tier: TierRequest::default(),
            limits,
            unenforced: Unenforced::default(),
            nested: false,
            layer: None,
        }
    }
}
