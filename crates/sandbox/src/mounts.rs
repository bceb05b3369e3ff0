//! The mounts that make a sandbox's root.
//!
//! ```text
//!   image/rootfs ── copy of the mount, ids shifted, read-only ──▶ lower ─┐
//!   upper, work  (the sandbox's own folder) ─────────────────────────────┴▶ overlay: the root
//!   session repository ── ids shifted, read-only ──▶ repository
//! ```
//!
//! All of it happens in a mount namespace of `sandbox-host`'s own: a host that is killed leaves no
//! mount behind, and the running sandboxes keep theirs.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A path that names an open descriptor of this process, and cannot be led elsewhere.
pub(crate) fn path_of(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Gives this thread, and all that it starts, a mount namespace of its own.
pub(crate) fn enter_own_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    without_second_tree(Path::new("/sys/fs/cgroup"))
}

/// Some runtimes refuse to work where the control groups are of version 1 and a version 2 tree is
/// mounted beside them. So that is left out, in a folder of trees of our own: in the host's, the
/// runtime would take the bare mount point for one more tree and write into it.
fn without_second_tree(trees: &Path) -> io::Result<()> {
    if !trees.join("unified/cgroup.procs").exists() {
        return Ok(());
    }
    let mut mounted = Vec::new();
    let mut links = Vec::new();
    for entry in std::fs::read_dir(trees)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_symlink() {
            links.push((std::fs::read_link(&path)?, path));
        } else if kind.is_dir() && !path.ends_with("unified") {
            mounted.push((copy_of(open_path(&path)?.as_fd())?, path));
        }
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), trees, Some("tmpfs"), flags, Some("mode=0755,size=64k"))?;
    for (tree, path) in mounted {
        std::fs::create_dir(&path)?;
        move_mount(tree.as_fd(), &c_path(&path)?)?;
    }
    for (target, path) in links {
        std::os::unix::fs::symlink(target, path)?;
    }
    Ok(())
}

/// A small file system in memory, for mount points and bundles. Others may pass through it but not
/// look: shifted ids have to reach what is below.
pub(crate) fn memory(target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some("mode=0711,size=64m"))?)
}

/// An overlay. The folders are given open, so that no name in their paths can be misread as an option.
pub(crate) fn overlay(
    target: &Path,
    lower: &Path,
    upper: BorrowedFd<'_>,
    work: BorrowedFd<'_>,
) -> io::Result<()> {
    let lower = open_path(lower)?;
    // Volatile: nothing in a sandbox outlives it, so nobody needs to wait for its disk.
    let options = format!(
        "volatile,lowerdir={},upperdir={},workdir={}",
        path_of(&lower).display(),
        path_of(&upper).display(),
        path_of(&work).display()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()))?)
}

/// Shows a folder at `target`, read-only, without setuid and devices, with its ids moved as the user
/// namespace says.
pub(crate) fn shifted(
    source: BorrowedFd<'_>,
    target: &Path,
    ids: BorrowedFd<'_>,
    executable: bool,
) -> io::Result<()> {
    let tree = copy_of(source)?;
    let mut set =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_IDMAP;
    if !executable {
        set |= libc::MOUNT_ATTR_NOEXEC;
    }
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(ids.as_raw_fd().cast_unsigned()),
    };
    // SAFETY: `attributes` is a complete structure of the size that is given with it.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of_val(&attributes),
        )
    })?;
    let target = c_path(target)?;
    move_mount(tree.as_fd(), &target)
}

/// A copy of the mount that this folder is in, from the folder down, that is mounted nowhere yet.
fn copy_of(folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: an open descriptor and an empty path that lives over the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, folder.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Takes a mount away; its users keep it. Done also when there is none.
pub(crate) fn detach(target: &Path) {
    let _ = umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
}

/// Opens a folder below another one without following a single link.
pub(crate) fn open_beneath(folder: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: an all-zero `open_how` is a valid value of that plain C struct.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_RDONLY) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path and `how` live over the call, whose last argument is the size of `how`.
    let opened = owned(unsafe {
        libc::syscall(libc::SYS_openat2, folder.as_raw_fd(), path.as_ptr(), &raw const how, size_of_val(&how))
    });
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::other("a part of this path is a link; remove the link"),
        _ => error,
    })
}

/// Opens a folder as a mere place.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, nix::sys::stat::Mode::empty())?)
}

fn move_mount(tree: BorrowedFd<'_>, target: &CStr) -> io::Result<()> {
    // SAFETY: an open descriptor, and two paths that live over the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(check(result)?).map_err(|_| io::Error::other("a descriptor out of range"))?;
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
