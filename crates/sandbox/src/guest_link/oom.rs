//! Whether the kernel killed something of a sandbox for memory.
//!
//! Read on the host, from the sandbox's control group, which every user may read: the kernel's word
//! rather than the guest's.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::ids::SandboxId;

/// The kernel's count of kills for memory in one sandbox.
#[derive(Debug)]
pub(super) struct OomCounter(Option<PathBuf>);

impl OomCounter {
    /// That of a sandbox; without one, nothing is ever counted.
    pub(super) fn of(sandbox: SandboxId) -> Self {
        let candidates = [
            format!("/sys/fs/cgroup/patchyard/{sandbox}/memory.events"),
            format!("/sys/fs/cgroup/memory/patchyard/{sandbox}/memory.oom_control"),
        ];
        Self(candidates.into_iter().map(PathBuf::from).find(|path| path.exists()))
    }

    /// The count so far.
    pub(super) fn read(&self) -> u64 {
        self.0.as_deref().and_then(count).unwrap_or(0)
    }
}

fn count(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok())
}
