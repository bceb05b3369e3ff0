//! A file or folder as a tar stream.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use tar::{Builder, EntryType, Header};

use crate::beneath;
use crate::error::ArchiveError;

/// Files and folders in one archive.
const MAX_ENTRIES: u64 = 1_000_000;

/// What was packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files and folders.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left out: links, devices, sockets, pipes.
    pub skipped: Vec<PathBuf>,
}

/// Packs what is at `path` below `root`. Its own name is the first part of every name in the archive.
pub fn pack(root: BorrowedFd<'_>, path: &Path, out: impl Write) -> Result<Packed, ArchiveError> {
    let mut names = beneath::names(path)?;
    let name = names.pop().ok_or(ArchiveError::Path {
        path: path.to_owned(),
        reason: "all of a file system is too much; name a file or folder in it",
    })?;
    let folder = beneath::folder(root, &names)?;
    let mut packer = Packer { tar: Builder::new(Gate { out, shut: false }), packed: Packed::default() };
    let outcome = packer.add(folder.as_fd(), &name, Path::new(&name)).and_then(|()| {
        if packer.packed.entries == 0 {
            let reason = "this is a link or no file; name a file or folder";
            return Err(ArchiveError::Path { path: path.to_owned(), reason });
        }
        packer.tar.finish().and_then(|()| packer.tar.get_mut().flush()).map_err(ArchiveError::Stream)
    });
    // Dropped, a builder ends its archive in order: half of one must not pass for a whole.
    packer.tar.get_mut().shut = outcome.is_err();
    outcome.map(|()| packer.packed)
}

/// A writer that can be shut.
struct Gate<W> {
    out: W,
    shut: bool,
}

impl<W: Write> Write for Gate<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.shut { Err(std::io::ErrorKind::BrokenPipe.into()) } else { self.out.write(bytes) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.shut { Ok(()) } else { self.out.flush() }
    }
}

struct Packer<W: Write> {
    tar: Builder<Gate<W>>,
    packed: Packed,
}

impl<W: Write> Packer<W> {
    fn add(&mut self, folder: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<(), ArchiveError> {
        let failed = |errno| beneath::refusal(shown, errno);
        let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = kind(&stat);
        if kind != SFlag::S_IFREG && kind != SFlag::S_IFDIR {
            self.packed.skipped.push(shown.to_owned());
            return Ok(());
        }
        self.packed.entries += 1;
        if self.packed.entries > MAX_ENTRIES {
            return Err(ArchiveError::Limit("there are more than 1,000,000 files; copy a part of them"));
        }
        if kind == SFlag::S_IFDIR {
            return self.add_folder(folder, name, shown);
        }
        // It may have become something else since: a pipe would block for ever.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        if self::kind(&stat) != SFlag::S_IFREG {
            self.packed.skipped.push(shown.to_owned());
            return Ok(());
        }
        let size = stat.st_size.unsigned_abs();
        self.packed.bytes += size;
        let mut header = header(&stat, EntryType::Regular);
        header.set_size(size);
        // As many bytes as were announced, however many there are by now.
        let content = File::from(file).chain(std::io::repeat(0)).take(size);
        self.tar.append_data(&mut header, shown, content).map_err(ArchiveError::Stream)
    }

    fn add_folder(&mut self, folder: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<(), ArchiveError> {
        // The same cap on depth as on the way here.
        beneath::names(shown)?;
        let failed = |errno| beneath::refusal(shown, errno);
        let inner = beneath::subfolder(folder, name).map_err(failed)?;
        let mut header = header(&fstat(&inner).map_err(failed)?, EntryType::Directory);
        header.set_size(0);
        let as_folder = shown.join("");
        self.tar.append_data(&mut header, &as_folder, std::io::empty()).map_err(ArchiveError::Stream)?;
        let listed = inner.try_clone().map_err(|error| ArchiveError::io(shown, error))?;
        let mut names: Vec<OsString> = Vec::new();
        for entry in Dir::from_fd(listed).map_err(failed)?.iter() {
            let entry = entry.map_err(failed)?;
            let name = std::os::unix::ffi::OsStrExt::from_bytes(entry.file_name().to_bytes());
            if name != OsStr::new(".") && name != OsStr::new("..") {
                names.push(OsStr::to_owned(name));
            }
            if names.len() as u64 > MAX_ENTRIES {
                return Err(ArchiveError::Limit("a folder holds more than 1,000,000 files"));
            }
        }
        names.sort();
        for name in names {
            self.add(inner.as_fd(), &name, &shown.join(&name))?;
        }
        Ok(())
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn header(stat: &FileStat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header
}
