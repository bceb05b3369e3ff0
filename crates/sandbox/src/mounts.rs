//! The mounts that make a sandbox's root.
//!
//! ```text
//!   image/rootfs ── copy of the mount, ids shifted, read-only ──▶ lower ─┐
//!   saved layer ── the same ─────────────────────────────────────▶ lower ─┤
//!   the sandbox's disk: upper, work ── ids shifted ──────────────────────┴▶ overlay: the root
//!   session repository ── ids shifted, read-only ──▶ repository, also while the sandbox runs
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

use crate::credentials;

/// A path that names an open descriptor of this process, and cannot be led elsewhere.
pub(crate) fn path_of(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Gives this thread, and all that it starts, a mount namespace of its own.
pub(crate) fn enter_own_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?)
}

/// Some runtimes refuse to work where the control groups are of version 1 and a version 2 tree is
/// mounted beside them. So that is left out, in a folder of trees of our own: in the host's, the
/// runtime would take the bare mount point for one more tree and write into it.
pub(crate) fn without_second_tree(trees: &Path) -> io::Result<()> {
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

/// An overlay of what is in these folders, the topmost first, below what is written. The folders are
/// given open, so that no name in their paths can be misread as an option.
///
/// The overlay does its own work, such as its first folder in `work`, as whoever mounted it: that has
/// to be an id that the shifted disk can store, so `owner` mounts it. With `setuid`, programs may gain the
/// rights of their owners, who are all of the sandbox's own range. `notes` says where the overlay notes
/// what it has to remember.
pub(crate) fn overlay(
    target: &Path,
    lowers: &[PathBuf],
    [upper, work]: [BorrowedFd<'_>; 2],
    owner: u32,
    setuid: bool,
    notes: Notes,
) -> io::Result<()> {
    let lowers = lowers.iter().map(|path| open_path(path)).collect::<io::Result<Vec<_>>>()?;
    let stack: Vec<_> = lowers.iter().map(|lower| path_of(lower).display().to_string()).collect();
    // Volatile: what a sandbox writes is kept only once it was ended in order, so nobody needs to wait
    // for its disk. Without xino a file keeps the number that it has in its layer, also in another
    // stack: git's index stays true.
    let options = format!(
        "volatile,xino=off{},lowerdir={},upperdir={},workdir={}",
        if notes == Notes::User { ",userxattr" } else { "" },
        stack.join(":"),
        path_of(&upper).display(),
        path_of(&work).display()
    );
    let nosuid = if setuid { MsFlags::empty() } else { MsFlags::MS_NOSUID };
    let flags = nosuid | MsFlags::MS_NODEV;
    on_own_thread(|| {
        credentials::make_files_as(owner)?;
        Ok(mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()))?)
    })
}

/// The attributes in which an overlay notes things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notes {
    /// Those that only root of the machine may write.
    Trusted,
    /// Those that every owner may write; of the sandbox they are hidden.
    User,
}

/// Does something that changes the thread for good on a thread that ends with it.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|_| Err(io::Error::other("the thread that mounts broke down")))
    })
}

/// Does something with files that no process started meanwhile by another thread can hold, not even between
/// its fork and its exec: a mount with a file open for writing somewhere refuses to have its ids shifted.
pub(crate) fn with_files_of_its_own<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_FILES)?;
        work()
    })
}

/// How a mounted tree may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Read and written, programs run.
    Write,
    /// Read, programs run.
    Run,
    /// Read only.
    Read,
}

impl Use {
    fn attributes(self) -> u64 {
        let always = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        match self {
            Self::Write => always,
            Self::Run => always | libc::MOUNT_ATTR_RDONLY,
            Self::Read => always | libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC,
        }
    }
}

/// A folder's tree without setuid and devices, with its ids moved as the user namespace says, mounted
/// nowhere yet.
pub(crate) fn shifted(source: BorrowedFd<'_>, ids: Option<BorrowedFd<'_>>, how: Use) -> io::Result<OwnedFd> {
    let tree = copy_of(source)?;
    shift(tree.as_fd(), ids, how)?;
    Ok(tree)
}

/// Moves the ids of a tree that is mounted nowhere yet; without a namespace they stay.
pub(crate) fn shift(tree: BorrowedFd<'_>, ids: Option<BorrowedFd<'_>>, how: Use) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: how.attributes() | ids.map_or(0, |_| libc::MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: 0,
        userns_fd: ids.map_or(0, |ids| u64::from(ids.as_raw_fd().cast_unsigned())),
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
    })
    .map(drop)
}

/// The file system on a device, mounted nowhere yet.
pub(crate) fn file_system(kind: &CStr, device: &Path, how: Use) -> io::Result<OwnedFd> {
    // SAFETY: a string that lives over the call.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    let configure = |command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char| {
        // SAFETY: an open descriptor, and strings (or null where the command takes none) that live over
        // the call.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) })
    };
    let device = c_path(device)?;
    configure(libc::FSCONFIG_SET_STRING, c"source".as_ptr(), device.as_ptr())?;
    if how != Use::Write {
        configure(libc::FSCONFIG_SET_FLAG, c"ro".as_ptr(), std::ptr::null())?;
    }
    configure(libc::FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    let attributes = how.attributes() | libc::MOUNT_ATTR_NOATIME;
    // SAFETY: an open descriptor and constants.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes) })
}

/// Mounts a tree at a path.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    move_mount(tree, &c_path(target)?)
}

/// Mounts a tree at a path inside the mount namespace that a process lives in.
pub(crate) fn attach_inside(tree: OwnedFd, process: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_FS)?;
        nix::sched::setns(process, CloneFlags::CLONE_NEWNS)?;
        move_mount(tree.as_fd(), &target)
    })
}

/// The tree below a folder, mounted nowhere yet.
pub(crate) fn tree(folder: &Path) -> io::Result<OwnedFd> {
    copy_of(open_path(folder)?.as_fd())
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
