//! A process that is measured, and what the kernel says of one.

use std::process::Child;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::Failure;

/// One that was started here. Dropped, it is killed.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Process {
    /// Seconds of CPU that it and its children used, threads that have ended included.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_of(self.0.id().cast_signed())
    }

    /// What it and its children have in memory, in kB.
    pub(crate) fn memory(&self) -> f64 {
        memory_of(self.0.id().cast_signed())
    }
}

fn cpu_of(pid: i32) -> f64 {
    let clock = clock_getcpuclockid(Pid::from_raw(pid));
    let own = clock.and_then(ClockId::now).map_or(0.0, |used| Duration::from(used).as_secs_f64());
    own + children_of(pid).into_iter().map(cpu_of).sum::<f64>()
}

fn memory_of(pid: i32) -> f64 {
    rss_kib(pid).unwrap_or(0.0) + children_of(pid).into_iter().map(memory_of).sum::<f64>()
}

/// Resident memory of one process, in KiB.
pub(crate) fn rss_kib(pid: i32) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_ascii_whitespace().nth(1).ok_or("no size")?.parse()?)
}

/// What a process started.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
