//! A user namespace as a table of ids, for mounts that shift them.
//!
//! ```text
//!   clone(new user namespace) ─▶ child waits ─▶ we write its maps ─▶ we keep its namespace ─▶ child ends
//! ```

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// One run of ids that moves as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shift {
    /// The first id as it is stored.
    pub(crate) stored: u32,
    /// What the first id becomes on this host.
    pub(crate) seen: u32,
    /// How many ids.
    pub(crate) count: u32,
}

/// A namespace with these maps; it lives as long as the descriptor.
pub(crate) fn with_shift(users: Shift, groups: Shift) -> io::Result<OwnedFd> {
    let child = waiting_child()?;
    let namespace = fill(child, users, groups);
    // It only waits, so there is nothing that it could be in the middle of.
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
    namespace
}

fn fill(child: Pid, users: Shift, groups: Shift) -> io::Result<OwnedFd> {
    for (name, shift) in [("uid_map", users), ("gid_map", groups)] {
        let line = format!("{} {} {}\n", shift.stored, shift.seen, shift.count);
        std::fs::write(format!("/proc/{child}/{name}"), line)?;
    }
    Ok(File::open(format!("/proc/{child}/ns/user"))?.into())
}

fn waiting_child() -> io::Result<Pid> {
    let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    // SAFETY: without a stack and without shared memory this is a fork. The child makes only system
    // calls until it is killed: by us, or by the kernel when this thread ends.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => loop {
            // SAFETY: plain system calls, in a process of one thread.
            unsafe {
                libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0);
            }
        },
        pid if pid > 0 => {
            i32::try_from(pid).map(Pid::from_raw).map_err(|_| io::Error::other("a process id out of range"))
        }
        _ => Err(io::Error::last_os_error()),
    }
}
