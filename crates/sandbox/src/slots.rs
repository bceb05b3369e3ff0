//! Ranges of ids, one per sandbox, no two sandboxes of this machine with the same.
//!
//! ```text
//!   <registry>/<slot>     a file per range in use: the folder of the sandbox that holds it
//!
//!   base = 600,000,000 + slot × 65,536
//! ```
//!
//! A range is free again when its file is gone, or when the folder that it names is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::bundle::IdRange;

/// Ids of one sandbox: what programs expect, `nobody` included.
const SIZE: u32 = 65_536;

/// The host's id of the first sandbox's root.
const FIRST: u32 = 600_000_000;

/// Ranges of one machine.
const SLOTS: u32 = 16_384;

/// The registry of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    folder: PathBuf,
    taken_by_others: Vec<(u32, u32)>,
}

impl Slots {
    /// The registry in this folder. Ranges that the system has promised to its users are left out.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut taken_by_others = Vec::new();
        for file in ["/etc/subuid", "/etc/subgid"] {
            taken_by_others.extend(promised(&fs::read_to_string(file).unwrap_or_default()));
        }
        Ok(Self { folder, taken_by_others })
    }

    /// The ids of some slots that follow each other.
    pub(crate) fn range(slot: u32, count: u32) -> IdRange {
        IdRange { base: FIRST + slot * SIZE, size: SIZE * count }
    }

    /// Takes so many free slots, one after the other, for the sandbox with this folder, which has to exist
    /// already; the first of them.
    pub(crate) fn take(&self, holder: &Path, count: u32) -> io::Result<u32> {
        let _lock = self.lock()?;
        let mut free = 0;
        for slot in 0..SLOTS {
            free = if self.is_free(slot)? { free + 1 } else { 0 };
            if free == count {
                let first = slot + 1 - count;
                (first..=slot).try_for_each(|slot| self.write(&self.file(slot), holder))?;
                return Ok(first);
            }
        }
        Err(io::Error::other(format!("all {SLOTS} ranges of ids are in use; end some sandboxes first")))
    }

    fn is_free(&self, slot: u32) -> io::Result<bool> {
        let range = Self::range(slot, 1);
        if self.taken_by_others.iter().any(|other| overlaps(range, *other)) {
            return Ok(false);
        }
        match fs::read(self.file(slot)) {
            Ok(bytes) => Ok(!Path::new(OsStr::from_bytes(&bytes)).exists()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Gives slots back, those that are this sandbox's.
    pub(crate) fn give_back(&self, slot: u32, count: u32, holder: &Path) -> io::Result<()> {
        let _lock = self.lock()?;
        for slot in slot..slot + count {
            let file = self.file(slot);
            if fs::read(&file).is_ok_and(|bytes| bytes == holder.as_os_str().as_bytes()) {
                fs::remove_file(&file)?;
            }
        }
        Ok(())
    }

    fn file(&self, slot: u32) -> PathBuf {
        self.folder.join(slot.to_string())
    }

    fn write(&self, file: &Path, holder: &Path) -> io::Result<()> {
        let new = self.folder.join(".new");
        fs::write(&new, holder.as_os_str().as_bytes())?;
        fs::rename(new, file)
    }

    fn lock(&self) -> io::Result<Flock<File>> {
        let file = File::options().create(true).append(true).open(self.folder.join(".lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
    }
}

/// The ranges in a file of the form `name:first:count`.
fn promised(text: &str) -> impl Iterator<Item = (u32, u32)> + '_ {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(1);
        Some((fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?))
    })
}

fn overlaps(range: IdRange, (first, count): (u32, u32)) -> bool {
    u64::from(first) < u64::from(range.base) + u64::from(range.size)
        && u64::from(range.base) < u64::from(first) + u64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_its_holder_is_gone_or_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots { folder: folder.path().join("ids"), taken_by_others: Vec::new() };
        fs::create_dir(&slots.folder).unwrap();
        let holders = ["a", "b", "c"].map(|name| folder.path().join(name));
        for holder in &holders {
            fs::create_dir(holder).unwrap();
        }
        assert_eq!(slots.take(&holders[0], 1).unwrap(), 0);
        assert_eq!(slots.take(&holders[1], 1).unwrap(), 1);
        slots.give_back(1, 1, &holders[0]).unwrap();
        assert_eq!(slots.take(&holders[2], 1).unwrap(), 2, "only the holder can give back");
        fs::remove_dir(&holders[0]).unwrap();
        assert_eq!(slots.take(&holders[2], 1).unwrap(), 0);
        slots.give_back(1, 1, &holders[1]).unwrap();
        assert_eq!(slots.take(&holders[2], 1).unwrap(), 1);
        assert_eq!(slots.take(&holders[1], 2).unwrap(), 3, "2 is taken, and two follow each other");
        slots.give_back(3, 2, &holders[1]).unwrap();
        assert_eq!(slots.take(&holders[1], 1).unwrap(), 3);
    }

    #[test]
    fn ranges_promised_to_users_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let taken_by_others = promised("ann:100000:65536\nbob:600000000:65537\nbroken\n:x:y\n").collect();
        let slots = Slots { folder: folder.path().to_owned(), taken_by_others };
        assert_eq!(slots.take(folder.path(), 1).unwrap(), 2, "0 and the first id of 1 are promised");
    }
}
