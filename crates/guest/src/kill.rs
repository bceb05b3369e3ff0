//! Ends everything that a command started.
//!
//! ```text
//!   SIGSTOP to all ──▶ who belongs to the command? ──▶ SIGKILL to those, SIGCONT to the rest
//!                          nothing moves meanwhile          └── any left alive? once more
//! ```
//!
//! A member is a process of the command's group or session, a descendant by parent, or one whose
//! environment carries the command's marker, which daemons inherit. Who clears its environment, leaves
//! the session and is orphaned can hide from this, but not from [`everything`].
//!
//! All is stopped first, bystanders for some milliseconds too: against a fork bomb, looking while it
//! runs is a race, and one in which the bomb has nearly all of the processor. (A bystander that somebody
//! had stopped before is stopped no more afterwards.) On a machine of somebody's the bystanders are not ours to
//! stop: there members alone are stopped, and looked for again until nobody new is found.
//!
//! Nothing here forks: it works when the sandbox has no process left to give.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::ids::ExecId;

use crate::environment::MARKER;
use crate::ground::Ground;
use crate::procfs::{self, Process};
use crate::reaper::Reaper;

/// All processes that there are but process 1, which is the one that asks.
const ALL: Pid = Pid::from_raw(-1);

/// Between two looks at processes that are about to die.
const DEATH_POLL: Duration = Duration::from_millis(2);

/// Looks for new members of a command whose members are being stopped.
const STOP_ROUNDS: usize = 200;

/// Looks for the dying before giving up on the unkillable (in the kernel's uninterruptible sleep).
const DEATH_ROUNDS: usize = 2_500;

/// Kills what belongs to this command and returns once it is dead. Without a leader, whose number may be
/// another's by now, it is what the command left behind.
pub async fn command(exec: ExecId, leader: Option<Pid>, reaper: &Reaper, ground: Ground) {
    let marker = format!("{MARKER}={exec}");
    for _ in 0..DEATH_ROUNDS {
        // Without an `await` until all go on again.
        let left = if ground.is_ours() {
            let _ = kill(ALL, Signal::SIGSTOP);
            let left = members(leader, marker.as_bytes());
            send_all(&left, Signal::SIGKILL);
            let _ = kill(ALL, Signal::SIGCONT);
            left
        } else {
            let left = hold(|| members(leader, marker.as_bytes()));
            send_all(&left, Signal::SIGKILL);
            left
        };
        if left.is_empty() || !died(&left).await {
            break;
        }
    }
    // The dead count against the process limit until they are collected.
    reaper.collect();
}

/// Stops who is found, and looks again until nobody new is there.
fn hold(find: impl Fn() -> Vec<Process>) -> Vec<Process> {
    let mut held = HashSet::new();
    for _ in 0..STOP_ROUNDS {
        let found = find();
        let fresh: Vec<Process> = found.iter().filter(|process| held.insert(process.pid)).copied().collect();
        if fresh.is_empty() {
            return found;
        }
        send_all(&fresh, Signal::SIGSTOP);
    }
    find()
}

/// Waits for the death of the killed, without stopping anybody else for it; says whether all died.
async fn died(killed: &[Process]) -> bool {
    for _ in 0..DEATH_ROUNDS {
        if !killed.iter().any(|process| procfs::is_alive(process.pid)) {
            return true;
        }
        tokio::time::sleep(DEATH_POLL).await;
    }
    false
}

/// Kills every process of the sandbox but this one, or on a machine all that descends from this one, and returns
/// once they are gone.
pub async fn everything(reaper: &Reaper, ground: Ground) {
    if !ground.is_ours() {
        return offspring(reaper).await;
    }
    for _ in 0..DEATH_ROUNDS {
        // The kernel walks all processes under its own lock, so nothing forks away from this.
        let none_left = kill(ALL, Signal::SIGKILL) == Err(Errno::ESRCH);
        reaper.collect();
        if none_left || procfs::processes().is_empty() {
            return;
        }
        tokio::time::sleep(DEATH_POLL).await;
    }
}

/// Kills all that descends from this process, to which orphans come.
async fn offspring(reaper: &Reaper) {
    for _ in 0..DEATH_ROUNDS {
        let left = hold(descendants);
        send_all(&left, Signal::SIGKILL);
        let gone = left.is_empty() || !died(&left).await;
        reaper.collect();
        if gone {
            return;
        }
    }
}

fn descendants() -> Vec<Process> {
    let me = Pid::this().as_raw();
    let mut processes = procfs::processes();
    processes.retain(Process::is_alive);
    let children: Vec<i32> =
        processes.iter().filter(|process| process.parent == me).map(|process| process.pid).collect();
    select(&processes, None, |pid| children.contains(&pid))
}

fn send_all(processes: &[Process], signal: Signal) {
    for process in processes {
        // It may have ended since the look.
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
}

fn members(leader: Option<Pid>, marker: &[u8]) -> Vec<Process> {
    let mut processes = procfs::processes();
    processes.retain(Process::is_alive);
    select(&processes, leader.map(Pid::as_raw), |pid| procfs::has_environment(pid, marker))
}

/// Which of these processes belong to the command with this leader.
fn select(processes: &[Process], leader: Option<i32>, is_marked: impl Fn(i32) -> bool) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut open = Vec::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process.pid);
        let is_led = |leader| [process.pid, process.group, process.session].contains(&leader);
        if leader.is_some_and(is_led) || is_marked(process.pid) {
            open.push(process.pid);
        }
    }
    let mut found = HashSet::new();
    while let Some(pid) = open.pop() {
        if found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    processes.iter().filter(|process| found.contains(&process.pid)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32, session: i32) -> Process {
        Process { pid, parent, group, session, state: b'S' }
    }

    #[test]
    fn members_are_found_by_group_session_parent_and_marker() {
        let processes = [
            process(10, 1, 10, 10),  // the leader
            process(11, 10, 10, 10), // its group
            process(12, 1, 12, 10),  // its session
            process(13, 11, 13, 13), // a descendant that left the session
            process(14, 13, 14, 14), // and its child
            process(15, 1, 15, 15),  // orphaned, marked
            process(16, 15, 16, 16), // child of the marked one
            process(20, 1, 20, 20),  // another command
            process(21, 20, 20, 20),
        ];
        let found: Vec<i32> =
            select(&processes, Some(10), |pid| pid == 15).iter().map(|process| process.pid).collect();
        assert_eq!(found, [10, 11, 12, 13, 14, 15, 16]);
        let left: Vec<i32> =
            select(&processes, None, |pid| pid == 15).iter().map(|process| process.pid).collect();
        assert_eq!(left, [15, 16], "of a command that ended, only what it marked");
    }
}
