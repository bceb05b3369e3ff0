//! The process that stands between the caller and the sandbox, and outlives either.
//!
//! ```text
//!   proxy (a child) ─ placeholders, TMPDIR ─▶ stage (a child) ─▶ wait ─┬─ it ended ──────────┬─▶ every process
//!                                                                      └─ the caller is gone ┘   gone ─▶ clean up
//! ```
//!
//! Nothing is cleaned up before the last process of the sandbox has ended: a placeholder that goes takes
//! the guard with it.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid};

use super::placeholders::Placeholders;
use super::proxy::Proxy;
use super::signals::{Signals, children, forward, wait};
use super::stage::Stage;

/// What the keeper is given.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) stage: Stage,
    /// Bytes are signals to pass on; its end is the end of the caller.
    pub(crate) orders: OwnedFd,
    /// Where to say why nothing was run.
    pub(crate) report: OwnedFd,
    /// The command's own terminal, and whether its errors go there too.
    pub(crate) terminal: Option<(OwnedFd, bool)>,
    pub(crate) signals: Signals,
    /// What the command's network goes through, until it runs.
    pub(crate) proxy: Option<Proxy>,
}

impl Keeper {
    /// Runs the command; the exit status that the caller is to have.
    pub(crate) fn run(mut self) -> i32 {
        let _ = setsid();
        let _ = nix::sys::prctl::set_child_subreaper(true);
        let Some(proxy) = self.proxy.take() else { return self.fail("there is no proxy") };
        let (proxy, listeners) = match proxy.start() {
            Ok(started) => started,
            Err(error) => return self.fail(&format!("no process for the proxy: {error}")),
        };
        self.stage.proxy = listeners.try_clone().ok();
        let status = self.guarded(proxy);
        // It tells what is left to tell, and ends.
        drop(listeners);
        let _ = waitpid(proxy, None);
        status
    }

    /// Runs the command among its placeholders.
    fn guarded(mut self, proxy: Pid) -> i32 {
        let mut read_only = std::mem::take(&mut self.stage.plan.read_only);
        let begun = Placeholders::begin(&self.stage.folder, &self.stage.plan.absent, &mut read_only);
        self.stage.plan.read_only = read_only;
        let mut placeholders = match begun {
            Ok(placeholders) => placeholders,
            Err(error) => return self.fail(&format!("placeholders for protected files: {error}")),
        };
        let status = match placeholders.temporary() {
            Ok(temporary) => {
                for (name, value) in &mut self.stage.environment {
                    if ["TMPDIR", "TMP", "TEMP"].iter().any(|known| name == known) {
                        *value = temporary.clone().into();
                    }
                }
                self.stage.temporary = temporary;
                self.watch(proxy)
            }
            Err(error) => self.fail(&format!("a folder for temporary files: {error}")),
        };
        placeholders.end();
        status
    }

    fn fail(&self, reason: &str) -> i32 {
        if let Ok(report) = self.report.try_clone() {
            let _ = File::from(report).write_all(reason.as_bytes());
        }
        1
    }

    fn watch(mut self, proxy: Pid) -> i32 {
        let terminal = self.terminal.take();
        // SAFETY: this process has one thread.
        let child = match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => child,
            Ok(ForkResult::Child) => self.become_stage(terminal),
            Err(error) => return self.fail(&format!("no process: {error}")),
        };
        drop(terminal);
        self.stage.proxy = None;
        let mut orders = self.orders.try_clone().ok().map(File::from);
        let mut status = None;
        while status.is_none() {
            let [asked, _] = wait([orders.as_ref().map(AsFd::as_fd), Some(self.signals.as_fd())]);
            while self.signals.next().is_some() {}
            if asked && let Some(file) = &mut orders {
                let mut order = [0];
                match file.read(&mut order) {
                    Ok(1) => {
                        if let Ok(signal) = Signal::try_from(i32::from(order[0])) {
                            forward(child, signal);
                        }
                    }
                    _ => {
                        let _ = kill(child, Signal::SIGKILL);
                        orders = None;
                    }
                }
            }
            status = reap(child, status);
        }
        end_all_but(proxy);
        status.unwrap_or(1)
    }

    fn become_stage(self, terminal: Option<(OwnedFd, bool)>) -> ! {
        // Bubblewrap ties itself to us once it runs; until then this does.
        let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
        let Self { stage, report, signals, .. } = self;
        if let Some((terminal, errors_too)) = terminal {
            let _ = nix::unistd::dup2_stdin(&terminal);
            let _ = nix::unistd::dup2_stdout(&terminal);
            if errors_too {
                let _ = nix::unistd::dup2_stderr(&terminal);
            }
        }
        signals.release();
        // SAFETY: sets the default action for signals that the Rust runtime ignores.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let reason = stage.run();
        let _ = File::from(report).write_all(reason.as_bytes());
        // SAFETY: ends this process without anything of its parent's being run twice.
        unsafe { libc::_exit(1) }
    }
}

/// Takes the ends of children; the status of the one that is waited for.
fn reap(child: Pid, mut status: Option<i32>) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => status = Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => status = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return status,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Ends what is left of the sandbox and waits for all of it.
fn end_all_but(proxy: Pid) {
    let own = nix::unistd::getpid();
    loop {
        let mut left = children(own);
        left.retain(|child| *child != proxy);
        if left.is_empty() {
            return;
        }
        for child in left {
            let _ = kill(child, Signal::SIGKILL);
        }
        let _ = waitpid(None, None);
    }
}
