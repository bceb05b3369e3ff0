//! Whose files a thread of ours makes.

#![allow(unsafe_code)]

use std::io;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`, one half of all rights.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// From here on this thread makes files as another user, with all the rights that it has. For a thread
/// that ends soon.
pub(crate) fn make_files_as(id: u32) -> io::Result<()> {
    setfsgid(Gid::from_raw(id));
    // Takes the rights over files of others away from the effective set; they are put back below.
    setfsuid(Uid::from_raw(id));
    let mut header = Header { version: VERSION, pid: 0 };
    let mut rights = [Half::default(); 2];
    // SAFETY: a header and the two halves that this version of it announces, all of them ours.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, rights.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for half in &mut rights {
        half.effective = half.permitted;
    }
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, rights.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
