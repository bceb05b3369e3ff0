//! The processes of a server, found by their parent.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::must::Must as _;

/// One of the processes that `serve` is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What was started.
    Supervisor,
    /// The unprivileged server.
    Server,
    /// What makes sandboxes.
    SandboxHost,
    /// What sandboxes reach the network through.
    Egress,
}

impl Part {
    /// Its process, below this supervisor.
    pub(super) fn find(self, supervisor: i32) -> Option<i32> {
        let word = match self {
            Self::Supervisor => return Some(supervisor),
            Self::Server => "server",
            Self::SandboxHost => "sandbox-host",
            Self::Egress => "egress",
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| {
            parent(*pid) == Some(supervisor) && arguments(*pid).iter().skip(1).take(2).eq(["internal", word])
        })
    }
}

/// Whether there is such a process, and not merely its exit code.
pub(super) fn lives(pid: i32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// Ends a process the hard way and waits until it is gone.
pub(super) fn kill_hard(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).must("a process to kill");
    wait_gone(pid);
}

/// Waits until a process that ends is gone.
pub(super) fn wait_gone(pid: i32) {
    let until = std::time::Instant::now() + super::DEADLINE;
    // The kernel tells no stranger of a process's end.
    while lives(pid) {
        assert!(std::time::Instant::now() < until, "process {pid} does not end");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn parent(pid: i32) -> Option<i32> {
    state_and_parent(pid).map(|(_, parent)| parent)
}

fn state_and_parent(pid: i32) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, but the last bracket ends it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn arguments(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
