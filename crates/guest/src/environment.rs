//! What process 1 sets up before anything else runs, and the environment that commands get.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use protocol::sandbox_host::GUEST_BIN;

use crate::ground::Ground;

/// The variable that marks a command and all that it starts.
pub const MARKER: &str = "PATCHYARD_EXEC";

/// The environment that every command begins with: what the guest was started with, which in a sandbox is what
/// the image sets, and there what programs expect besides.
#[must_use]
pub fn base(ground: Ground) -> Vec<(OsString, OsString)> {
    if !ground.is_ours() {
        return std::env::vars_os().collect();
    }
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let usual =
        [("USER", "root"), ("LOGNAME", "root"), ("SHELL", shell), ("LANG", "C.UTF-8"), ("TERM", "dumb")];
    let mut variables: BTreeMap<OsString, OsString> =
        usual.map(|(name, value)| (name.into(), value.into())).into();
    variables.extend(std::env::vars_os());
    let mut path = OsString::from(format!("{GUEST_BIN}:"));
    path.push(variables.get(OsStr::new("PATH")).map_or(OsStr::new("/usr/bin:/bin"), OsString::as_os_str));
    variables.insert("PATH".into(), path);
    variables.into_iter().collect()
}

/// Hides process 1 from the tools of the sandbox: no tracing it, no reading of its descriptors.
pub fn hide_from_tools() {
    // SAFETY: PR_SET_DUMPABLE takes one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// The user that process 1 is: nobody else in a sandbox, and no user of any image.
const GUEST_ID: libc::c_long = 64_999;

/// Makes process 1 another user than its commands, so that none of them may trace it or look into it.
/// It keeps its rights, and the files that it makes stay root's. Where the kernel cannot tell the two
/// apart, as gVisor's, it stays root.
pub fn become_guest() -> io::Result<()> {
    // SAFETY: plain system calls on integers. By number, because the library's functions would change
    // every thread, and this process has one.
    unsafe {
        libc::syscall(libc::SYS_setfsuid, 0);
        if libc::syscall(libc::SYS_setfsuid, -1) != 0 {
            return Ok(());
        }
        check(libc::c_long::from(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0)))?;
        check(libc::syscall(libc::SYS_setresgid, GUEST_ID, GUEST_ID, GUEST_ID))?;
        check(libc::syscall(libc::SYS_setresuid, GUEST_ID, GUEST_ID, GUEST_ID))?;
        libc::syscall(libc::SYS_setfsgid, 0);
        libc::syscall(libc::SYS_setfsuid, 0);
    }
    all_rights()
}

/// Makes the effective rights what the permitted ones are.
fn all_rights() -> io::Result<()> {
    // `_LINUX_CAPABILITY_VERSION_3`, this process.
    let mut header: [u32; 2] = [0x2008_0522, 0];
    // Effective, permitted, inheritable, twice.
    let mut rights = [0_u32; 6];
    // SAFETY: a header, and the two times three words that this version of it announces.
    unsafe {
        check(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), rights.as_mut_ptr()))?;
        (rights[0], rights[3]) = (rights[1], rights[4]);
        check(libc::syscall(libc::SYS_capset, header.as_mut_ptr(), rights.as_ptr()))
    }
}

/// Makes a command root before it begins. Safe between fork and exec.
pub fn become_root() -> io::Result<()> {
    // SAFETY: plain system calls on integers.
    unsafe {
        check(libc::syscall(libc::SYS_setresgid, 0, 0, 0))?;
        check(libc::syscall(libc::SYS_setresuid, 0, 0, 0))
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
