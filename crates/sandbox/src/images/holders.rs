//! Who stands on which tree.
//!
//! ```text
//!   .holders/<digest of the holder's path>   { "tree": inode of its rootfs, "holder": path }
//!
//!   held = there is a record, and the path that it names exists
//! ```
//!
//! The path is the folder of a sandbox: it is there as long as the sandbox is, whatever becomes of the
//! process that made it. The inode stays the same when a tree is moved aside, and is not given to
//! another one while a holder lives, because a held tree is not removed.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::place::Place;
use super::place::private_folder;
use super::record;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    tree: u64,
    holder: PathBuf,
}

/// Writes down that `holder` stands on this tree; to be called under the lock. A holder has one tree.
pub(super) fn hold(place: &Place, tree: BorrowedFd<'_>, holder: &Path) -> io::Result<()> {
    let folder = place.path().join(".holders");
    private_folder(&folder)?;
    let record = Record { tree: fstat(tree)?.st_ino, holder: holder.to_owned() };
    // Not waited for: after a loss of power there are no sandboxes either.
    let mut file = tempfile::Builder::new().prefix(".holder-").tempfile_in(&folder)?;
    file.write_all(&serde_json::to_vec(&record)?)?;
    file.persist(record_of(place, holder))?;
    Ok(())
}

/// Forgets that `holder` stands anywhere; done also when it does not.
pub(super) fn release(place: &Place, holder: &Path) -> io::Result<()> {
    match fs::remove_file(record_of(place, holder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn record_of(place: &Place, holder: &Path) -> PathBuf {
    place.path().join(".holders").join(Digest::of(holder.as_os_str().as_encoded_bytes()).hex())
}

/// How many stand on each tree, by its inode. Records of those that are gone are removed; to be called
/// under the lock.
pub(super) fn held(place: &Place) -> HashMap<u64, usize> {
    let mut trees = HashMap::new();
    for entry in fs::read_dir(place.path().join(".holders")).into_iter().flatten().flatten() {
        match record::read::<Record>(&entry.path()) {
            Some(record) if fs::symlink_metadata(&record.holder).is_ok() => {
                *trees.entry(record.tree).or_default() += 1;
            }
            _ => {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    trees
}
