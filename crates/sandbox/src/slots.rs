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

    /// The ids of a slot.
    pub(crate) fn range(slot: u32) -> IdRange {
        IdRange { base: FIRST + slot * SIZE, size: SIZE }
    }

    /// Takes a free slot for the sandbox with this folder, which has to exist already.
    pub(crate) fn take(&self, holder: &Path) -> io::Result<u32> {
        let _lock = self.lock()?;
        for slot in 0..SLOTS {
            let range = Self::range(slot);
            if self.taken_by_others.iter().any(|other| overlaps(range, *other)) {
                continue;
            }
            let file = self.folder.join(slot.to_string());
            match fs::read(&file) {
                Ok(bytes) if Path::new(OsStr::from_bytes(&bytes)).exists() => {}
                Ok(_) => return self.write(&file, holder).map(|()| slot),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return self.write(&file, holder).map(|()| slot);
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("all {SLOTS} ranges of ids are in use; end some sandboxes first")))
    }

    /// Gives a slot back, if it is this sandbox's.
    pub(crate) fn give_back(&self, slot: u32, holder: &Path) -> io::Result<()> {
        let _lock = self.lock()?;
        let file = self.folder.join(slot.to_string());
        if fs::read(&file).is_ok_and(|bytes| bytes == holder.as_os_str().as_bytes()) {
            fs::remove_file(&file)?;
        }
        Ok(())
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
        assert_eq!(slots.take(&holders[0]).unwrap(), 0);
        assert_eq!(slots.take(&holders[1]).unwrap(), 1);
        slots.give_back(1, &holders[0]).unwrap();
        assert_eq!(slots.take(&holders[2]).unwrap(), 2, "only the holder can give back");
        fs::remove_dir(&holders[0]).unwrap();
        assert_eq!(slots.take(&holders[2]).unwrap(), 0);
        slots.give_back(1, &holders[1]).unwrap();
        assert_eq!(slots.take(&holders[2]).unwrap(), 1);
    }

    #[test]
    fn ranges_promised_to_users_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let taken_by_others = promised("ann:100000:65536\nbob:600000000:65537\nbroken\n:x:y\n").collect();
        let slots = Slots { folder: folder.path().to_owned(), taken_by_others };
        assert_eq!(slots.take(folder.path()).unwrap(), 2, "0 and the first id of 1 are promised");
    }
}
