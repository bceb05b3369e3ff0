//! Waits for every child, ours and adopted.
//!
//! ```text
//!   SIGCHLD ──▶ waitpid(-1) until none ──▶ status by pid ──▶ who waits for it
//!                                                        └─▶ nobody: an orphan, forgotten
//! ```

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use nix::errno::Errno;
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// The table of those who wait for a child.
#[derive(Debug, Default)]
pub struct Reaper {
    waiting: RefCell<HashMap<i32, oneshot::Sender<Ended>>>,
}

impl Reaper {
    /// Gives the end of a child that was started without an `await` in between.
    pub fn wait_for(&self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid.as_raw(), sender);
        receiver
    }

    /// Collects what has ended so far.
    pub fn collect(&self) {
        loop {
            let mut status = 0;
            // Not `nix`, which knows no name for a death by a real-time signal.
            // SAFETY: `status` is a valid place for the one integer that is written.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid < 0 && Errno::last() == Errno::EINTR {
                continue;
            }
            if pid <= 0 {
                return;
            }
            let ended = if libc::WIFSIGNALED(status) {
                Ended::Signal(libc::WTERMSIG(status))
            } else {
                Ended::Code(libc::WEXITSTATUS(status))
            };
            if let Some(sender) = self.waiting.borrow_mut().remove(&pid) {
                let _ = sender.send(ended);
            }
        }
    }
}

/// Hears of ended children; to be made before the first child.
pub fn listen() -> std::io::Result<Signal> {
    signal(SignalKind::child())
}

/// Reaps until the end of the process.
pub async fn run(reaper: Rc<Reaper>, mut signals: Signal) {
    while signals.recv().await.is_some() {
        reaper.collect();
    }
}
