//! What process 1 sets up before anything else runs, and the environment that commands get.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;

use protocol::sandbox_host::GUEST_BIN;

/// The variable that marks a command and all that it starts.
pub const MARKER: &str = "PATCHYARD_EXEC";

/// The environment that every command of this sandbox begins with.
#[must_use]
pub fn base() -> Vec<(OsString, OsString)> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let path = format!("{GUEST_BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    [
        ("PATH", path.as_str()),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", shell),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec()
}

/// Hides process 1 from the tools of the sandbox: no tracing it, no reading of its descriptors.
pub fn hide_from_tools() {
    // SAFETY: PR_SET_DUMPABLE takes one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Lets go of the standard descriptors that the runtime left, which are memory of the host's.
pub fn let_go_of_output() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        for standard in 0..3 {
            // SAFETY: an open descriptor; the three replaced ones are used by nobody yet.
            unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), standard) };
        }
    }
}

/// Brings `lo` up where the runtime did not. Without the right to do so the sandbox has no loopback,
/// which its tools will see and say; nothing here depends on it.
pub fn loopback_up() {
    // SAFETY: an all-zero `ifreq` is a valid value of that plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo\0") {
        *place = byte.cast_signed();
    }
    // SAFETY: creates a descriptor from constants.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return;
    }
    // SAFETY: `socket` is ours, `request` lives over both calls and names the interface; the kernel
    // fills the flags, which is the union member that is read after it said so.
    unsafe {
        if libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut request) == 0 {
            let up = libc::IFF_UP as libc::c_short;
            if request.ifr_ifru.ifru_flags & up == 0 {
                request.ifr_ifru.ifru_flags |= up;
                libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
            }
        }
        libc::close(socket);
    }
}
