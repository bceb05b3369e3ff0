//! A disk as a btrfs subvolume with a quota group.
//!
//! Quotas are used where the operator has turned them on (`btrfs quota enable`), and are never turned
//! on by us: that changes the whole file system.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::statfs::{BTRFS_SUPER_MAGIC, statfs};

use crate::mounts;
use crate::process::{self, Outcome};

/// How long one order may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a subvolume that may hold so many bytes.
pub(super) fn make(path: &Path, bytes: u64) -> io::Result<OwnedFd> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    if statfs(parent)?.filesystem_type() != BTRFS_SUPER_MAGIC {
        return Err(io::Error::other("the data directory is on another file system"));
    }
    // Our own names lead through descriptors that the program does not have.
    let path = std::fs::canonicalize(parent)?.join(path.file_name().unwrap_or_default());
    tell(&["subvolume".as_ref(), "create".as_ref(), path.as_os_str()])?;
    let bytes = bytes.to_string();
    let limited = tell(&["qgroup".as_ref(), "limit".as_ref(), bytes.as_ref(), path.as_os_str()]);
    if let Err(error) = limited {
        remove(&path);
        let hint = "turn quotas on with `btrfs quota enable` to have a limit by them";
        return Err(io::Error::other(format!("{error}; {hint}")));
    }
    mounts::tree(&path)
}

/// Removes a subvolume, if this is one.
pub(super) fn remove(path: &Path) {
    let is_btrfs = statfs(path).is_ok_and(|found| found.filesystem_type() == BTRFS_SUPER_MAGIC);
    if is_btrfs && let Ok(path) = std::fs::canonicalize(path) {
        let _ = tell(&["subvolume".as_ref(), "delete".as_ref(), path.as_os_str()]);
    }
}

fn tell(arguments: &[&OsStr]) -> io::Result<()> {
    let program = ["/usr/bin/btrfs", "/usr/sbin/btrfs", "/sbin/btrfs", "/bin/btrfs"];
    let program = program.map(Path::new).into_iter().find(|path| path.exists());
    let program = program.ok_or_else(|| io::Error::other("`btrfs` is missing; install it: btrfs-progs"))?;
    let ended = process::run(program, arguments, None, PATIENCE)?;
    if ended.outcome == Outcome::Success {
        return Ok(());
    }
    let words = ended.said.lines().last().unwrap_or("it gave no reason").trim().to_owned();
    Err(io::Error::other(format!("btrfs refused: {words}")))
}
