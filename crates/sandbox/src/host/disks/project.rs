//! A disk as a folder with a project quota, where the file system has them on (`prjquota`).
//!
//! ```text
//!   folder ── project number, inherited by all that is made in it ──▶ the kernel counts blocks
//! ```

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::mounts;

/// The project of the trial.
pub(super) const TRIAL: u32 = 0x7079_ffff;

/// The first project of ours; the sandbox's number follows.
const FIRST: u32 = 0x7079_0000;

/// `FS_IOC_FSSETXATTR` and `FS_XFLAG_PROJINHERIT`, from the kernel's `linux/fs.h`.
const SET_ATTRIBUTES: libc::Ioctl = 0x401C_5820;
const INHERIT: u32 = 0x200;

/// `Q_SETQUOTA` for projects: `QCMD(Q_SETQUOTA, PRJQUOTA)`, and which fields of the limits are given.
const SET_QUOTA: libc::c_int = 0x0080_0008_u32.cast_signed() << 8 | 2;
const BLOCK_LIMITS: u32 = 1;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// Makes a folder that may hold so many bytes.
pub(super) fn make(path: &Path, bytes: u64, number: u32) -> io::Result<OwnedFd> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let project = if number == TRIAL { TRIAL } else { FIRST + number };
    limit(&device_of(parent)?, project, bytes)?;
    std::fs::create_dir(path)?;
    let folder = File::open(path)?;
    let attributes = Attributes { flags: INHERIT, project, ..Attributes::default() };
    // SAFETY: an open descriptor, and a complete structure that lives over the call.
    if unsafe { libc::ioctl(folder.as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) } < 0 {
        return Err(io::Error::last_os_error());
    }
    mounts::tree(path)
}

fn limit(device: &Path, project: u32, bytes: u64) -> io::Result<()> {
    let name = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    // In units of 1 KiB.
    quota.dqb_bhardlimit = bytes / 1024;
    quota.dqb_bsoftlimit = bytes / 1024;
    quota.dqb_valid = BLOCK_LIMITS;
    let id = project.cast_signed();
    // SAFETY: a string and a structure that live over the call.
    let outcome = unsafe { libc::quotactl(SET_QUOTA, name.as_ptr(), id, (&raw mut quota).cast()) };
    if outcome < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::other(format!(
            "project quotas are not on for {} ({error})",
            device.display()
        )));
    }
    Ok(())
}

/// The block device of the file system that a path is on.
fn device_of(path: &Path) -> io::Result<PathBuf> {
    let number = std::fs::metadata(path)?.dev();
    let (major, minor) = (libc::major(number), libc::minor(number));
    let name = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"))
        .map_err(|_| io::Error::other("the data directory is on no block device"))?;
    let name = name.file_name().ok_or_else(|| io::Error::other("a device without a name"))?;
    Ok(Path::new("/dev").join(name))
}
