//! Signals as something to wait for, and how they reach the command.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpgid};

/// What a caller passes on to the command.
pub(crate) const FORWARDED: &[Signal] =
    &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Signals that are read instead of acting.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// From here on these signals wait to be read.
    pub(crate) fn hold(signals: impl IntoIterator<Item = Signal>) -> nix::Result<Self> {
        let set: SigSet = signals.into_iter().collect();
        let before = SigSet::thread_get_mask()?;
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, before })
    }

    /// The next one that waits.
    pub(crate) fn next(&self) -> Option<Signal> {
        let about = self.fd.read_signal().ok().flatten()?;
        i32::try_from(about.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
    }

    /// What a program that is started from here has to begin with.
    pub(crate) fn release(&self) {
        let _ = self.before.thread_set_mask();
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of these can be read, or its other end is gone.
pub(crate) fn wait<const N: usize>(places: [Option<BorrowedFd<'_>>; N]) -> [bool; N] {
    let mut asked: Vec<PollFd<'_>> =
        places.iter().flatten().map(|place| PollFd::new(*place, PollFlags::POLLIN)).collect();
    while poll(&mut asked, PollTimeout::NONE) == Err(Errno::EINTR) {}
    let mut answers = asked.iter().map(|one| one.revents().is_some_and(|events| !events.is_empty()));
    places.map(|place| place.is_some() && answers.next().unwrap_or(false))
}

/// Sends a signal to the command: to the process groups of what bubblewrap's process 1 has started.
pub(crate) fn forward(bwrap: Pid, signal: Signal) {
    for first in children(bwrap) {
        for command in children(first) {
            let group = getpgid(Some(command)).unwrap_or(command);
            // Never our own: the command is in a session of its own from its first moment on.
            if Ok(group) != getpgid(None) && group.as_raw() > 1 {
                let _ = kill(Pid::from_raw(-group.as_raw()), signal);
            }
        }
    }
}

/// The children of a process.
pub(crate) fn children(of: Pid) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
