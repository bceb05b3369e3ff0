//! A tar stream as files.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tar::{Archive, Entry, EntryType};

use crate::beneath;
use crate::error::ArchiveError;

/// Files and folders in one archive.
const MAX_ENTRIES: u64 = 1_000_000;

/// Open folders that are kept for the entries that follow.
const KEPT_OPEN: usize = 64;

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files and folders.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left out: links, devices and the like.
    pub skipped: Vec<PathBuf>,
}

/// Unpacks an archive of one file or folder to `path` below `root`, as `cp -r` would: into it when it is
/// a folder, else as it. What is there is replaced file by file.
pub fn unpack(root: BorrowedFd<'_>, path: &Path, input: impl Read) -> Result<Unpacked, ArchiveError> {
    let mut names = beneath::names(path)?;
    let (folder, rename) = match beneath::folder(root, &names) {
        Ok(folder) => (folder, None),
        Err(error) => {
            let name = names.pop().ok_or(error)?;
            (beneath::folder(root, &names)?, Some(name))
        }
    };
    let mut unpacker =
        Unpacker { folder, rename, top: None, open: HashMap::new(), done: Unpacked::default() };
    let mut archive = Archive::new(input);
    for entry in archive.entries().map_err(ArchiveError::Stream)? {
        unpacker.take(entry.map_err(ArchiveError::Stream)?)?;
    }
    if unpacker.done.entries == 0 {
        let nothing = io::Error::new(io::ErrorKind::UnexpectedEof, "it holds no file");
        return Err(ArchiveError::Stream(nothing));
    }
    Ok(unpacker.done)
}

struct Unpacker {
    folder: OwnedFd,
    /// What the top of the archive is called here.
    rename: Option<OsString>,
    /// What it is called there.
    top: Option<OsString>,
    open: HashMap<Vec<OsString>, OwnedFd>,
    done: Unpacked,
}

impl Unpacker {
    fn take<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), ArchiveError> {
        let path = entry.path().map_err(ArchiveError::Stream)?.into_owned();
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::Directory) {
            self.done.skipped.push(path);
            return Ok(());
        }
        self.done.entries += 1;
        if self.done.entries > MAX_ENTRIES {
            return Err(ArchiveError::Limit("the archive holds more than 1,000,000 files"));
        }
        let mut names = self.names(&path)?;
        let mode = Mode::from_bits_truncate(entry.header().mode().map_err(ArchiveError::Stream)? & 0o777);
        if kind == EntryType::Directory {
            self.folder(&names, &path, mode | Mode::S_IRWXU)?;
            return Ok(());
        }
        let Some(name) = names.pop() else { return Ok(()) };
        let usual = Mode::from_bits_truncate(0o755);
        let folder = self.folder(&names, &path, usual)?;
        let file = fresh(folder, &name, mode).map_err(|errno| beneath::refusal(&path, errno))?;
        self.done.bytes += copy(&mut entry, file, &path)?;
        Ok(())
    }

    /// The names that lead to an entry here. All entries are below one top.
    fn names(&mut self, path: &Path) -> Result<Vec<OsString>, ArchiveError> {
        if path.is_absolute() {
            let reason = "an absolute name in the archive; nothing of it is unpacked";
            return Err(ArchiveError::Path { path: path.to_owned(), reason });
        }
        let mut names = beneath::names(path)?;
        let Some(first) = names.first_mut() else { return Ok(names) };
        let top = self.top.get_or_insert_with(|| first.clone());
        if first != top {
            let reason = "the archive holds more than one file or folder; unpack it elsewhere";
            return Err(ArchiveError::Path { path: path.to_owned(), reason });
        }
        if let Some(rename) = &self.rename {
            first.clone_from(rename);
        }
        Ok(names)
    }

    /// Opens a folder, and makes what is missing on the way.
    fn folder(
        &mut self,
        names: &[OsString],
        path: &Path,
        mode: Mode,
    ) -> Result<BorrowedFd<'_>, ArchiveError> {
        if names.is_empty() {
            return Ok(self.folder.as_fd());
        }
        if !self.open.contains_key(names) {
            let opened = self.make(names, mode).map_err(|errno| beneath::refusal(path, errno))?;
            if self.open.len() >= KEPT_OPEN {
                self.open.clear();
            }
            self.open.insert(names.to_vec(), opened);
        }
        Ok(self.open[names].as_fd())
    }

    fn make(&self, names: &[OsString], mode: Mode) -> Result<OwnedFd, Errno> {
        let mut folder: Option<OwnedFd> = None;
        for name in names {
            let parent = folder.as_ref().map_or(self.folder.as_fd(), AsFd::as_fd);
            let is_new = match mkdirat(parent, name.as_os_str(), mode) {
                Ok(()) => true,
                Err(Errno::EEXIST) => false,
                Err(errno) => return Err(errno),
            };
            let opened = beneath::subfolder(parent, name)?;
            if is_new {
                // Whatever the mask is.
                fchmod(&opened, mode)?;
            }
            folder = Some(opened);
        }
        folder.ok_or(Errno::ENOENT)
    }
}

/// A new file in the place of whatever is there; a folder stays and is an error.
fn fresh(folder: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> Result<File, Errno> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(folder, name, flags, mode)?;
    fchmod(&file, mode)?;
    Ok(file.into())
}

fn copy(from: &mut impl Read, mut to: File, path: &Path) -> Result<u64, ArchiveError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut copied = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::Stream(error)),
        };
        to.write_all(&buffer[..count]).map_err(|error| ArchiveError::io(path, error))?;
        copied += count as u64;
    }
}
