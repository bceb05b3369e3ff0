//! Whether a sandbox ran into its limits.
//!
//! Read on the host, from the sandbox's control groups, which every user may read: the kernel's word
//! rather than the guest's. Only of a full disk the guest has to tell.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::hands::Exceeded;
use protocol::ids::SandboxId;
use protocol::sandbox_spec::Limits;

/// What the kernel counts for one sandbox.
#[derive(Debug)]
pub(super) struct Counters {
    /// None: nothing has a limit of ours.
    limits: Option<Limits>,
    /// Kills for memory.
    kills: Option<PathBuf>,
    /// Processes that could not be started.
    refusals: Option<PathBuf>,
}

/// The counts at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    kills: u64,
    refusals: u64,
}

impl Counters {
    /// Those of a sandbox; where there is none, nothing is ever counted.
    pub(super) fn of(sandbox: SandboxId, limits: Limits) -> Self {
        let first = |candidates: [&str; 2]| {
            let paths = candidates.map(|path: &str| PathBuf::from(path.replace("{}", &sandbox.to_string())));
            paths.into_iter().find(|path| path.exists())
        };
        Self {
            limits: Some(limits),
            kills: first([
                "/sys/fs/cgroup/patchyard/{}/memory.events",
                "/sys/fs/cgroup/memory/patchyard/{}/memory.oom_control",
            ]),
            refusals: first([
                "/sys/fs/cgroup/patchyard/{}/pids.events",
                "/sys/fs/cgroup/pids/patchyard/{}/pids.events",
            ]),
        }
    }

    /// Those of a machine that is no sandbox.
    pub(super) fn none() -> Self {
        Self { limits: None, kills: None, refusals: None }
    }

    /// The counts so far.
    pub(super) fn read(&self) -> Counts {
        let count = |path: &Option<PathBuf>, name| path.as_deref().and_then(|path| count(path, name));
        Counts {
            kills: count(&self.kills, "oom_kill ").unwrap_or(0),
            refusals: count(&self.refusals, "max ").unwrap_or(0),
        }
    }

    /// The limit that was hit since then. `claimed` is what the guest says of it.
    pub(super) fn exceeded(&self, since: Counts, claimed: Option<Exceeded>) -> Option<Exceeded> {
        let (now, limits) = (self.read(), self.limits?);
        if now.kills > since.kills {
            Some(Exceeded::Memory(limits.memory_bytes))
        } else if matches!(claimed, Some(Exceeded::Disk(_))) {
            Some(Exceeded::Disk(limits.disk_bytes))
        } else if now.refusals > since.refusals {
            Some(Exceeded::Processes(limits.pids))
        } else {
            None
        }
    }
}

fn count(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|count| count.trim().parse().ok())
}
