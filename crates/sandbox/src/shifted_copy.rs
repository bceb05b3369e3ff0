//! Trees with their owners moved, for who cannot mount them so.
//!
//! ```text
//!   tree ── cp -a ──▶ .new ── each owner moved ──▶ renamed: the copy, never written again
//! ```
//!
//! Ids can be moved by a mount only where one is root of the machine. Otherwise each range of ids needs
//! its own copy of what it stands on; where the file system shares blocks, that costs names only.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::bundle::IdRange;
use crate::images::walk::{self, Seen};
use crate::mounts;

/// Who owns a thing whose owner has no place in a range.
const NOBODY: u32 = 65_534;

/// How often a tree is copied that changes meanwhile.
const ATTEMPTS: usize = 3;

/// What becomes of owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Those from `stored` on are moved to this range; others become nobody.
    Moved { stored: u32, to: IdRange },
    /// All become this one.
    All(u32),
}

impl Owners {
    fn of(self, id: u32) -> u32 {
        match self {
            Self::Moved { stored, to } => {
                let inside = id.checked_sub(stored).filter(|inside| *inside < to.size);
                to.base + inside.unwrap_or(NOBODY)
            }
            Self::All(owner) => owner,
        }
    }
}

/// The copy of a tree that lies beside it by this name, made if it is not there. Who removes the folder
/// that both are in removes it, too.
pub(crate) fn beside(tree: BorrowedFd<'_>, name: &str, owners: Owners) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = openat(tree, "..", flags, Mode::empty())?;
    let (kept, new) =
        (mounts::path_of(&folder).join(name), mounts::path_of(&folder).join(format!("{name}.new")));
    let wanted = owners.of(nix::sys::stat::fstat(tree)?.st_uid);
    // The host's numbers behind our ids may have changed since it was made.
    if fs::symlink_metadata(&kept).is_ok_and(|about| about.uid() != wanted) {
        fs::remove_dir_all(&kept)?;
    }
    if !kept.is_dir() {
        if new.is_dir() {
            fs::remove_dir_all(&new)?;
        }
        copy(&mounts::path_of(&tree), &new, owners)?;
        fs::rename(&new, &kept)?;
    }
    mounts::open_path(&kept)
}

/// Copies a tree to a place where nothing is yet. What a dead predecessor left there is for the caller to
/// remove, and what is there after an error, too.
pub(crate) fn copy(source: &Path, target: &Path, owners: Owners) -> io::Result<()> {
    let mut attempt = 1;
    while let Err(error) = copy_once(source, target) {
        // What was there when it was listed and is gone when it is read, such as a file that git is
        // just making.
        if attempt == ATTEMPTS {
            return Err(error);
        }
        fs::remove_dir_all(target)?;
        attempt += 1;
    }
    let folder = fs::File::open(target)?;
    let mut seen = HashSet::new();
    walk::walk(folder.as_fd(), &mut |entry: &Seen<'_>| {
        // A file with several names has one owner, which is moved once.
        let is_first = entry.stat.st_nlink < 2
            || walk::kind(&entry.stat) == SFlag::S_IFDIR
            || seen.insert((entry.stat.st_dev, entry.stat.st_ino));
        if is_first { give(entry.parent, entry.name, &entry.stat, owners) } else { Ok(()) }
    })?;
    let top = CString::new(".")?;
    give(folder.as_fd(), &top, &nix::sys::stat::fstat(&folder)?, owners)
}

/// Gives one thing to its new owner. A change of owner takes rights away that the file gives: they are put
/// back.
fn give(parent: BorrowedFd<'_>, name: &CString, stat: &FileStat, owners: Owners) -> io::Result<()> {
    let (user, group) = (owners.of(stat.st_uid), owners.of(stat.st_gid));
    let is_file = walk::kind(stat) == SFlag::S_IFREG;
    let rights = if is_file { Rights::of(parent, name)? } else { Rights::default() };
    let no_follow = AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(parent, name.as_c_str(), Some(Uid::from_raw(user)), Some(Gid::from_raw(group)), no_follow)?;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    if is_file && mode.intersects(Mode::S_ISUID | Mode::S_ISGID) {
        fchmodat(parent, name.as_c_str(), mode, FchmodatFlags::FollowSymlink)?;
    }
    rights.put_back(parent, name)
}

/// Rights that a program has by its file.
#[derive(Default)]
struct Rights(Option<Vec<u8>>);

/// The attribute that holds them.
const CAPABILITY: &str = "security.capability";

impl Rights {
    fn of(parent: BorrowedFd<'_>, name: &CString) -> io::Result<Self> {
        match xattr::get(at(parent, name), CAPABILITY) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Self(None)),
            found => found.map(Self),
        }
    }

    fn put_back(self, parent: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
        self.0.map_or(Ok(()), |value| xattr::set(at(parent, name), CAPABILITY, &value))
    }
}

/// A thing in an open folder, as a path.
fn at(parent: BorrowedFd<'_>, name: &CString) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    mounts::path_of(&parent).join(std::ffi::OsStr::from_bytes(name.as_bytes()))
}

fn copy_once(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir(target)?;
    // Both by descriptors that the program has itself: our paths may lead through ours, which are none of
    // its business, and which it may not look at once we made files as somebody else.
    let output = Command::new("cp")
        .args(["-a", "--reflink=auto", "--", ".", "/proc/self/fd/0/"])
        .current_dir(source)
        .stdin(fs::File::open(target)?)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words: String = words.lines().next().unwrap_or("it gave no reason").chars().take(300).collect();
    Err(io::Error::other(format!("cp: {words}")))
}
