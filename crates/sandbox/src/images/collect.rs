//! Taking away what no name refers to and nobody stands on.
//!
//! ```text
//!   .trees/<digest>, .old.*/<name>   unnamed and not held ─┐
//!   .new-*                           its maker is dead ────┼▶ .gone-*  ─▶ removed, without the lock
//!   .pulls/<manifest>                old, nobody pulls it ─┘
//! ```

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::error::ImageError;
use super::holders;
use super::place::{Found, Place, inode_of};

/// How long an interrupted pull may be taken up again.
const PULL_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Collects. What cannot be removed now is found again the next time.
pub(super) fn collect(place: &Place) -> Result<(), ImageError> {
    if !place.path().is_dir() {
        return Ok(());
    }
    let doomed = {
        let _lock = place.lock()?;
        let held = holders::held(place);
        let named: HashSet<_> = place
            .names()
            .iter()
            .filter_map(|name| match place.find(name) {
                Some(Found::Stored(reference)) => Some(reference.digest.hex()),
                _ => None,
            })
            .collect();
        let is_held = |rootfs: &Path| inode_of(rootfs).is_some_and(|inode| held.contains_key(&inode));
        let mut doomed = Vec::new();
        for tree in entries(&place.path().join(".trees")) {
            let is_named = tree.file_name().and_then(OsStr::to_str).is_some_and(|name| named.contains(name));
            if !is_named && !is_held(&tree.join("rootfs")) {
                doomed.extend(aside(place, &tree));
            }
        }
        for entry in entries(place.path()) {
            let name = entry.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let goes = match name {
                _ if name.starts_with(".gone-") => true,
                _ if name.starts_with(".new-") => !is_locked(&entry.join("alive")),
                _ if name.starts_with(".old.") => {
                    entries(&entry).iter().all(|old| !is_held(&old.join("rootfs")))
                }
                _ => false,
            };
            if goes {
                doomed.extend(aside(place, &entry));
            }
        }
        doomed.extend(old_pulls(place).iter().filter_map(|pull| aside(place, pull)));
        doomed
    };
    for path in doomed {
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "what is left of an image could not be removed");
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Moves it where nothing finds it any more.
fn aside(place: &Place, path: &Path) -> Option<PathBuf> {
    if path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(".gone-")) {
        return Some(path.to_owned());
    }
    let gone = tempfile::Builder::new().prefix(".gone-").tempdir_in(place.path()).ok()?.keep();
    fs::rename(path, &gone).is_ok().then_some(gone)
}

fn old_pulls(place: &Place) -> Vec<PathBuf> {
    let mut pulls = entries(&place.path().join(".pulls"));
    pulls.retain(|pull| {
        let lock = pull.join("lock");
        let age = fs::metadata(&lock).and_then(|metadata| metadata.modified()).ok();
        let is_old = age.and_then(|time| time.elapsed().ok()).is_none_or(|age| age > PULL_KEPT);
        is_old && !is_locked(&lock)
    });
    pulls
}

/// Whether a living process has locked this file.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}
