//! Ranges of ids, one per sandbox, no two sandboxes of this machine with the same.
//!
//! ```text
//!   <registry>/<slot>     a file per range in use: the folder of the sandbox that holds it
//!
//!   root:  base = 600,000,000 + slot × 65,536
//!   else:  what the user was given, see `host::rights`
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
use crate::host::rights::{self, Given};

/// Ids of one sandbox: what programs expect, `nobody` included.
const SIZE: u32 = 65_536;

/// The host's id of the first sandbox's root.
const FIRST: u32 = 600_000_000;

/// Ranges of one machine.
const SLOTS: u32 = 16_384;

/// The registry of this machine, or of one of its users.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    folder: PathBuf,
    pool: Pool,
    taken_by_others: Vec<(u32, u32)>,
}

/// The ranges that there are.
#[derive(Debug, Clone)]
enum Pool {
    /// Root's: all from [`FIRST`] on.
    Machine,
    /// A user's, and how it gets more.
    Given { places: Vec<Given>, more: String },
}

impl Slots {
    /// The registry in this folder. Ranges that the system has promised to its users are left out.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut taken_by_others = Vec::new();
        for file in ["/etc/subuid", "/etc/subgid"] {
            taken_by_others.extend(promised(&fs::read_to_string(file).unwrap_or_default()));
        }
        Ok(Self { folder, pool: Pool::Machine, taken_by_others })
    }

    /// The registry of a user, of the places that it was given; `more` says how to get more.
    pub(crate) fn of_user(folder: PathBuf, places: Vec<Given>, more: String) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, pool: Pool::Given { places, more }, taken_by_others: Vec::new() })
    }

    /// The ids of some slots that follow each other; nothing where these do not exist, or do not.
    pub(crate) fn range(&self, slot: u32, count: u32) -> Option<IdRange> {
        match &self.pool {
            Pool::Machine => Some(IdRange { base: FIRST + slot * SIZE, size: SIZE * count }),
            Pool::Given { places, .. } => {
                let places = places.get(slot as usize..slot.checked_add(count)? as usize)?;
                let base = places.first()?.base;
                let is_one =
                    (0..).zip(places).all(|(index, place)| place.base == base + index * rights::SIZE);
                is_one.then_some(IdRange { base, size: rights::SIZE * count })
            }
        }
    }

    /// The ids of a container that holds nothing and is thrown away, where no slot is needed for it.
    pub(crate) fn trial(&self) -> Option<IdRange> {
        matches!(self.pool, Pool::Given { .. }).then_some(IdRange { base: rights::TRIAL, size: 1 })
    }

    /// For how many sandboxes at a time there are ids, and how to get more; nothing where that is no matter.
    pub(crate) fn room(&self) -> Option<(usize, &str)> {
        match &self.pool {
            Pool::Machine => None,
            Pool::Given { places, more } => Some((places.len(), more)),
        }
    }

    /// Whether only so many slots are left that who can do without should.
    pub(crate) fn are_scarce(&self, count: u32) -> io::Result<bool> {
        if matches!(self.pool, Pool::Machine) {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let mut free = 0;
        for slot in 0..self.count() {
            free += u32::from(self.is_free(slot)?);
        }
        Ok(free <= count)
    }

    fn count(&self) -> u32 {
        match &self.pool {
            Pool::Machine => SLOTS,
            Pool::Given { places, .. } => u32::try_from(places.len()).unwrap_or(u32::MAX),
        }
    }

    /// Takes so many free slots, one after the other, for the sandbox with this folder, which has to exist
    /// already; the first of them.
    pub(crate) fn take(&self, holder: &Path, count: u32) -> io::Result<u32> {
        let _lock = self.lock()?;
        let mut free = 0;
        for slot in 0..self.count() {
            free = if self.is_free(slot)? { free + 1 } else { 0 };
            if free >= count && self.range(slot + 1 - count, count).is_some() {
                let first = slot + 1 - count;
                (first..=slot).try_for_each(|slot| self.write(&self.file(slot), holder))?;
                return Ok(first);
            }
        }
        Err(io::Error::other(match self.room() {
            None => format!("all {SLOTS} ranges of ids are in use; end some sandboxes first"),
            Some((all, more)) => format!(
                "all ranges of ids are in use (this user has {all}; a sandbox takes {count}); end a sandbox \
                 first, or give the user more, as root: {more}"
            ),
        }))
    }

    fn is_free(&self, slot: u32) -> io::Result<bool> {
        let is_promised = |range| self.taken_by_others.iter().any(|other| overlaps(range, *other));
        if self.range(slot, 1).is_none_or(is_promised) {
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

    /// Of a user's slot by the host's number of its ids: whoever uses these knows it by the same name.
    fn file(&self, slot: u32) -> PathBuf {
        let place = match &self.pool {
            Pool::Machine => None,
            Pool::Given { places, .. } => places.get(slot as usize),
        };
        self.folder.join(place.map_or(slot, |place| place.outside).to_string())
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
        let slots =
            Slots { folder: folder.path().join("ids"), pool: Pool::Machine, taken_by_others: Vec::new() };
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
    fn a_users_places_are_known_by_the_hosts_numbers_and_two_lie_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let bases = [2, 2 + rights::SIZE, 400_000];
        let places = bases.map(|base| Given { base, outside: 100_000 + base }).to_vec();
        let slots = Slots::of_user(folder.path().join("ids"), places, "usermod x".into()).unwrap();
        assert_eq!(slots.take(folder.path(), 2).unwrap(), 0);
        assert_eq!(slots.range(0, 2), Some(IdRange { base: 2, size: 2 * rights::SIZE }));
        assert_eq!((slots.range(1, 2), slots.range(2, 2)), (None, None), "apart, and past the end");
        assert!(folder.path().join("ids/100002").exists());
        assert!(slots.are_scarce(1).unwrap() && !slots.are_scarce(0).unwrap());
        assert_eq!(slots.take(folder.path(), 1).unwrap(), 2);
        let full = slots.take(folder.path(), 1).unwrap_err().to_string();
        assert!(full.contains("this user has 3") && full.ends_with("as root: usermod x"), "{full}");
    }

    #[test]
    fn ranges_promised_to_users_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let taken_by_others = promised("ann:100000:65536\nbob:600000000:65537\nbroken\n:x:y\n").collect();
        let slots = Slots { folder: folder.path().to_owned(), pool: Pool::Machine, taken_by_others };
        assert_eq!(slots.take(folder.path(), 1).unwrap(), 2, "0 and the first id of 1 are promised");
    }
}
