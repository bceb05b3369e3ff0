//! Writing one archive into a tree.
//!
//! ```text
//!   entry ─▶ its folder, opened inside the tree ─▶ what is in its place goes ─▶ made anew, never followed
//!   .wh.NAME       of a layer: NAME of the layers below goes
//!   .wh..wh..opq   of a layer: everything of the layers below in this folder goes
//! ```
//!
//! Devices, pipes and sockets are left out: a sandbox gets its own.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use tar::EntryType;
use xattr::FileExt as _;

use super::entries::{Budget, Entries, Entry, bad};
use super::paths::{Folder, Root, Target, target};
use super::walk::{kind, look, names, open_folder, remove};

/// How much one image may unpack to, all its layers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of the unpacked archives.
    pub bytes: u64,
    /// Entries of the archives.
    pub entries: u64,
}

impl Default for Caps {
    /// Several times what the largest images in common use have.
    fn default() -> Self {
        Self { bytes: 128 << 30, entries: 10_000_000 }
    }
}

/// Ids that a sandbox has; owners beyond become `nobody`.
const IDS: u64 = 65_536;
const NOBODY: u32 = 65_534;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Whether names of removed things mean their removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// A layer above others.
    Applied,
    /// A whole tree, in which they are names like others.
    Ordinary,
}

/// A tree that archives are written into, one above the other.
pub(super) struct Writer {
    root: Root,
    budget: Budget,
    /// What the current layer wrote, by folder and name: its whiteouts do not mean that.
    own: HashSet<(u64, CString)>,
    whiteouts: Whiteouts,
}

impl Writer {
    /// Into an empty folder.
    pub(super) fn new(tree: OwnedFd, caps: Caps) -> io::Result<Self> {
        let budget = Budget { bytes: caps.bytes, entries: caps.entries };
        Ok(Self { root: Root::empty(tree)?, budget, own: HashSet::new(), whiteouts: Whiteouts::Ordinary })
    }

    /// Writes an archive, and reads it to its end.
    pub(super) fn apply(&mut self, archive: impl Read, whiteouts: Whiteouts) -> io::Result<()> {
        self.own.clear();
        self.whiteouts = whiteouts;
        let mut budget = self.budget;
        let mut entries = Entries::new(archive, &mut budget);
        while let Some(entry) = entries.next()? {
            self.write(&entry, &mut entries).map_err(|error| named(&entry, error))?;
        }
        entries.drain()?;
        self.budget = budget;
        Ok(())
    }

    fn write(&mut self, entry: &Entry, content: &mut impl Read) -> io::Result<()> {
        let Some(target) = target(&entry.name).map_err(bad)? else {
            // The top: only its owner and mode can be said.
            let top = open_folder(self.root.top(), &CString::from(c"."))?;
            return if entry.kind == EntryType::Directory { dress(&File::from(top), entry) } else { Ok(()) };
        };
        let name = target.name.to_bytes();
        if self.whiteouts == Whiteouts::Applied && name.starts_with(WHITEOUT) {
            return self.whiteout(&target);
        }
        let folder = self.root.open_or_make(&target.folder)?;
        match entry.kind {
            EntryType::Directory => self.folder(&folder, &target.name, entry)?,
            EntryType::Regular | EntryType::Continuous => {
                clear(&folder, &target.name)?;
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                let file =
                    openat(&folder.fd, target.name.as_c_str(), flags | OFlag::O_CLOEXEC, Mode::S_IRUSR)?;
                let mut file = File::from(file);
                io::copy(content, &mut file)?;
                dress(&file, entry)?;
            }
            EntryType::Symlink => {
                clear(&folder, &target.name)?;
                let link = CString::new(entry.link.as_slice())?;
                symlinkat(link.as_c_str(), &folder.fd, target.name.as_c_str())?;
                dress_link(&folder, &target.name, entry)?;
            }
            EntryType::Link => self.hard_link(&folder, &target.name, &entry.link)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Ok(()),
            _ => return Err(bad("it is of a kind that is not known")),
        }
        if self.whiteouts == Whiteouts::Applied {
            self.own.insert((folder.inode, target.name));
        }
        Ok(())
    }

    fn folder(&mut self, parent: &Folder, name: &CString, entry: &Entry) -> io::Result<()> {
        match look(parent.fd.as_fd(), name) {
            Ok(stat) if kind(&stat) == SFlag::S_IFDIR => {}
            Ok(_) => {
                clear(parent, name)?;
                self.root.make(parent, name, 0o700)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.root.make(parent, name, 0o700)?,
            Err(error) => return Err(error),
        }
        dress(&File::from(open_folder(parent.fd.as_fd(), name)?), entry)
    }

    /// Links to what the tree has already, never to what is outside.
    fn hard_link(&self, folder: &Folder, name: &CString, link: &[u8]) -> io::Result<()> {
        let from = target(link).map_err(bad)?.ok_or_else(|| bad("it is a hard link to the top"))?;
        let source =
            self.root.open(&from.folder).map_err(|_| bad("it is a hard link to what is not there"))?;
        if (source.inode, &from.name) == (folder.inode, name) {
            return Ok(());
        }
        let stat = look(source.fd.as_fd(), &from.name);
        if kind(&stat.map_err(|_| bad("it is a hard link to what is not there"))?) == SFlag::S_IFDIR {
            return Err(bad("it is a hard link to a folder"));
        }
        clear(folder, name)?;
        linkat(&source.fd, from.name.as_c_str(), &folder.fd, name.as_c_str(), AtFlags::empty())?;
        Ok(())
    }

    fn whiteout(&self, target: &Target) -> io::Result<()> {
        let folder = match self.root.open(&target.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder?,
        };
        let name = target.name.to_bytes();
        if name == OPAQUE {
            return self.clear_below(folder.fd.as_fd(), folder.inode);
        }
        // Notes of an old file system to itself.
        if name.starts_with(b".wh..wh.") {
            return Ok(());
        }
        let name = &name[WHITEOUT.len()..];
        if matches!(name, b"" | b"." | b"..") {
            return Err(bad("it removes what cannot be removed"));
        }
        self.clear_one(folder.fd.as_fd(), folder.inode, &CString::new(name)?)
    }

    /// Removes what is of the layers below in a folder.
    fn clear_below(&self, folder: BorrowedFd<'_>, inode: u64) -> io::Result<()> {
        names(folder)?.iter().try_for_each(|name| self.clear_one(folder, inode, name))
    }

    fn clear_one(&self, folder: BorrowedFd<'_>, inode: u64, name: &CString) -> io::Result<()> {
        let stat = match look(folder, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            stat => stat?,
        };
        let is_own = self.own.contains(&(inode, name.clone()));
        if kind(&stat) == SFlag::S_IFDIR {
            self.clear_below(open_folder(folder, name)?.as_fd(), stat.st_ino)?;
            return match unlinkat(folder, name.as_c_str(), UnlinkatFlags::RemoveDir) {
                _ if is_own => Ok(()),
                Err(Errno::ENOTEMPTY) => Ok(()),
                removed => Ok(removed?),
            };
        }
        if !is_own {
            unlinkat(folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(())
    }
}

fn named(entry: &Entry, error: io::Error) -> io::Error {
    let name: String = String::from_utf8_lossy(&entry.name).chars().take(200).collect();
    io::Error::new(error.kind(), format!("`{}`: {error}", name.escape_debug()))
}

/// Removes what is in the place of an entry.
fn clear(folder: &Folder, name: &CString) -> io::Result<()> {
    match remove(folder.fd.as_fd(), name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    let id = |id: u64| u32::try_from(id).ok().filter(|_| id < IDS).unwrap_or(NOBODY);
    (Uid::from_raw(id(entry.uid)), Gid::from_raw(id(entry.gid)))
}

fn time(entry: &Entry) -> TimeSpec {
    TimeSpec::new(i64::try_from(entry.mtime).unwrap_or(0), 0)
}

/// Owner, attributes, mode and time, in an order in which none undoes another.
fn dress(file: &File, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = owner(entry);
    fchown(file, Some(uid), Some(gid))?;
    for (name, value) in &entry.attributes {
        // Others are of the host: its security modules, and the marks that overlays set.
        let is_kept =
            name == "security.capability" || name.starts_with("user.") && !name.starts_with("user.overlay.");
        if is_kept {
            match file.set_xattr(name, value) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                set => set?,
            }
        }
    }
    fchmod(file, Mode::from_bits_truncate(entry.mode & 0o7777))?;
    Ok(futimens(file, &time(entry), &time(entry))?)
}

fn dress_link(folder: &Folder, name: &CString, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = owner(entry);
    let name = name.as_c_str();
    fchownat(&folder.fd, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(utimensat(&folder.fd, name, &time(entry), &time(entry), UtimensatFlags::NoFollowSymlink)?)
}

/// Opens a folder to write a tree into.
pub(super) fn open_tree(path: &Path) -> io::Result<OwnedFd> {
    Ok(OwnedFd::from(File::open(path)?))
}
