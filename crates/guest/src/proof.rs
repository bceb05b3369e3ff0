//! What a sandbox has to refuse, tried from inside.
//!
//! ```text
//!   throw-away container ─▶ each attempt ── refused ──▶ the next
//!                                        └─ done ─────▶ named, and the runtime is not used
//! ```
//!
//! A runtime that starts a container does not keep it apart by that: the same filter of system calls can be
//! read in two ways (youki 0.7.0 takes masks for values), or not at all. So the filter, the rights and the
//! read-only files are believed when they have held.

#![allow(unsafe_code)]

use std::io;

use nix::errno::Errno;

/// Whether something could be done.
type Attempt = fn() -> bool;

/// Tries everything; names what was possible.
#[must_use]
pub fn possible() -> Vec<&'static str> {
    let attempts: [(&str, Attempt); 9] = [
        ("to make a namespace by clone", clone),
        ("to type into a terminal", type_into_terminal),
        ("to load a program into the kernel", || reaches_kernel(libc::SYS_bpf, [0, 0, 0])),
        ("to set up io_uring", || reaches_kernel(libc::SYS_io_uring_setup, [1, 0, 0])),
        ("to use the kernel's keys", || reaches_kernel(libc::SYS_keyctl, [0, -3, 0])),
        ("to open a socket to the kernel's ciphers", || socket(libc::AF_ALG, libc::SOCK_SEQPACKET)),
        ("to mount a file system", mount),
        ("to write the kernel's switches", || {
            std::fs::File::options().write(true).open("/proc/sys/kernel/core_pattern").is_ok()
        }),
        // Last: in a namespace of its own it would have other rights.
        ("to make a namespace by unshare", unshare),
    ];
    attempts.into_iter().filter(|(_, attempt)| attempt()).map(|(what, _)| what).collect()
}

fn unshare() -> bool {
    // SAFETY: a plain system call on a flag.
    unsafe { libc::unshare(libc::CLONE_NEWUSER) == 0 }
}

fn clone() -> bool {
    let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    // SAFETY: without a stack of its own the child goes on as after a fork, in a process with one thread, and
    // ends at once.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if child == 0 {
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    child > 0
}

/// Without a terminal: what gets past the filter is told that there is none.
fn type_into_terminal() -> bool {
    // SAFETY: a descriptor that is never open, and the address of one byte.
    let done = unsafe { libc::ioctl(-1, libc::TIOCSTI, c"x".as_ptr()) };
    done == 0 || !was_refused()
}

fn reaches_kernel(call: libc::c_long, [first, second, third]: [libc::c_long; 3]) -> bool {
    // SAFETY: integers, and null where these calls take an address.
    let done = unsafe { libc::syscall(call, first, second, third, 0, 0) };
    done >= 0 || !was_refused()
}

fn socket(family: i32, kind: i32) -> bool {
    // SAFETY: makes a descriptor from constants; it goes with the process.
    unsafe { libc::socket(family, kind, 0) >= 0 }
}

fn mount() -> bool {
    // SAFETY: three texts that live over the call, and no data.
    let done =
        unsafe { libc::mount(c"none".as_ptr(), c"/".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) };
    done == 0
}

/// Whether the last call was turned away, and not for what it asked.
fn was_refused() -> bool {
    matches!(Errno::last(), Errno::EPERM | Errno::ENOSYS | Errno::EACCES)
}

/// The proof as one line: an error names what was possible.
///
/// # Errors
///
/// When something was.
pub fn run() -> io::Result<()> {
    let possible = possible();
    match possible.is_empty() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "what a sandbox has to refuse was possible in it: {}",
            possible.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside a kernel that refuses nothing, the attempts that change nothing are seen as possible.
    #[test]
    fn what_is_not_refused_is_named() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        assert!(type_into_terminal());
        assert!(reaches_kernel(libc::SYS_io_uring_setup, [1, 0, 0]));
    }
}
