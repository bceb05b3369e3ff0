//! Sandboxes as the host sees them, from outside of patchyard: for tests that look whether they are
//! gone, and for cleaning up after tests that failed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::process;

/// One sandbox of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// The session that it belongs to; empty while it waits for one.
    pub session: String,
    /// The host's number of its process 1.
    pub init: i32,
    runtime: String,
}

impl Sandbox {
    /// All of a data directory, by id.
    pub(super) fn all(data: &Path) -> Vec<Self> {
        let entries = fs::read_dir(data.join("workspaces")).into_iter().flatten().flatten();
        let mut all: Vec<Self> = entries.filter_map(|entry| Self::read(&entry.path())).collect();
        all.sort();
        all
    }

    fn read(folder: &Path) -> Option<Self> {
        let state: Value = serde_json::from_slice(&fs::read(folder.join("state.json")).ok()?).ok()?;
        let word = |field: &str| state[field].as_str().map(str::to_owned);
        Some(Self {
            id: word("sandbox")?,
            session: word("session").unwrap_or_default(),
            init: i32::try_from(state["init"]["pid"].as_i64()?).ok()?,
            runtime: word("runtime")?,
        })
    }

    /// The host's numbers of its processes.
    #[must_use]
    pub fn processes(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for group in self.groups() {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        found
    }

    /// Its control groups, the groups below included.
    #[must_use]
    pub fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|tree| tree.path().join("patchyard").join(&self.id))
            .chain([Path::new("/sys/fs/cgroup/patchyard").join(&self.id)])
            .filter(|path| path.is_dir())
            .collect();
        while let Some(path) = open.pop() {
            let below = fs::read_dir(&path).into_iter().flatten().flatten();
            open.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
            found.push(path);
        }
        found
    }

    /// What is left of it anywhere, in words; nothing when it is gone.
    #[must_use]
    pub fn traces(&self, data: &Path) -> Vec<String> {
        let mut found: Vec<String> = self.groups().iter().map(|path| path.display().to_string()).collect();
        if process::lives(self.init) {
            found.push(format!("process {}", self.init));
        }
        let paths = [
            data.join("workspaces").join(&self.id),
            data.join("run/sandboxes").join(format!("{}.sock", self.id)),
            Path::new("/run/patchyard/runtime").join(&self.runtime).join(&self.id),
            Path::new("/run/patchyard/mnt").join(&self.id),
        ];
        found.extend(
            paths
                .iter()
                .filter(|path| path.symlink_metadata().is_ok())
                .map(|path| path.display().to_string()),
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        found.extend(mounts.lines().filter(|line| line.contains(&self.id)).map(str::to_owned));
        found
    }

    /// Takes it away without patchyard.
    pub(super) fn remove(&self) {
        let root = Path::new("/run/patchyard/runtime").join(&self.runtime);
        let _ = Command::new(&self.runtime)
            .arg("--root")
            .arg(root)
            .args(["delete", "--force", &self.id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        for pid in self.processes() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        for pid in self.processes().into_iter().chain([self.init]) {
            process::wait_gone(pid);
        }
        // The deepest first.
        for group in self.groups().iter().rev() {
            let _ = fs::remove_dir(group);
        }
    }
}
