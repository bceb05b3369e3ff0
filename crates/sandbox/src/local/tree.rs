//! Mounts by descriptor: copies that are mounted nowhere yet, changed, then put in place.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::mounts::path_of;

/// A copy of a mount, or of all mounts below a place.
#[derive(Debug)]
pub(crate) struct Tree {
    fd: OwnedFd,
    whole: bool,
}

impl Tree {
    /// Copies what is mounted at this place; `whole`: with all that is mounted below.
    pub(crate) fn copy(place: BorrowedFd<'_>, whole: bool) -> io::Result<Self> {
        let mut flags =
            libc::OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
        if whole {
            flags |= libc::AT_RECURSIVE as libc::c_uint;
        }
        // SAFETY: an open descriptor, and an empty path that lives over the call.
        let fd =
            owned(unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) })?;
        Ok(Self { fd, whole })
    }

    /// Adds attributes, and moves the ids as the user namespace says.
    pub(crate) fn set(&self, attributes: u64, ids: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut set = attributes | libc::MOUNT_ATTR_NOSUID;
        if ids.is_some() {
            set |= libc::MOUNT_ATTR_IDMAP;
        }
        let attributes = libc::mount_attr {
            attr_set: set,
            attr_clr: 0,
            propagation: 0,
            userns_fd: ids.map_or(0, |ids| u64::from(ids.as_raw_fd().cast_unsigned())),
        };
        let flags = libc::AT_EMPTY_PATH | if self.whole { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: `attributes` is a complete structure of the size that is given with it.
        check(unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.fd.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw const attributes,
                size_of_val(&attributes),
            )
        })
        .map(drop)
    }

    /// Puts it in place: on top of what is there, a link too.
    pub(crate) fn attach(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: open descriptors, and empty paths that live over the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.fd.as_raw_fd(),
                c"".as_ptr(),
                place.as_raw_fd(),
                c"".as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
            )
        })
        .map(drop)
    }
}

/// Opens a mere place below a folder, without following a single link; the last part may be one.
pub(crate) fn place(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open(root, path, libc::O_PATH | libc::O_NOFOLLOW)
}

/// Opens something below a folder, without following a single link.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero `open_how` is a valid value of that plain C struct.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    how.resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path and `how` live over the call, whose last argument is the size of `how`.
    owned(unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of_val(&how))
    })
}

/// A small file system in memory at this place.
pub(crate) fn memory(place: &impl AsFd, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), &path_of(place), Some("tmpfs"), flags, Some(options))?)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(check(result)?).map_err(|_| io::Error::other("a descriptor out of range"))?;
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
