//! Going through a tree by open folders, never by a path: no link is followed, and no depth makes a
//! path too long.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The deepest that folders may lie in each other. Every level costs an open file.
pub(super) const MAX_DEPTH: usize = 128;

/// What kind of thing an entry is.
pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Opens a folder to read its names; a link in its place is refused.
pub(super) fn open_folder(parent: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, name.as_c_str(), flags, Mode::empty())?)
}

/// What an entry is, itself.
pub(super) fn look(parent: BorrowedFd<'_>, name: &CString) -> io::Result<FileStat> {
    Ok(fstatat(parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// The names in a folder, sorted.
pub(super) fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    // Opened anew: reading moves a position that the caller's descriptor shares.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = Dir::openat(folder, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// An entry, as a walk shows it.
pub(crate) struct Seen<'a> {
    /// The folder that it is in.
    pub(crate) parent: BorrowedFd<'a>,
    /// Its name there.
    pub(crate) name: &'a CString,
    /// Its path from the top, without a leading slash.
    pub(crate) path: &'a [u8],
    /// What it is.
    pub(crate) stat: FileStat,
}

/// Shows everything below a folder, sorted, each folder before what is in it.
pub(crate) fn walk(
    folder: BorrowedFd<'_>,
    visit: &mut impl FnMut(&Seen<'_>) -> io::Result<()>,
) -> io::Result<()> {
    below(folder, &mut Vec::new(), 0, visit)
}

fn below(
    folder: BorrowedFd<'_>,
    path: &mut Vec<u8>,
    depth: usize,
    visit: &mut impl FnMut(&Seen<'_>) -> io::Result<()>,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("folders lie more than {MAX_DEPTH} deep in each other")));
    }
    for name in names(folder)? {
        let stat = look(folder, &name)?;
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        visit(&Seen { parent: folder, name: &name, path, stat })?;
        if kind(&stat) == SFlag::S_IFDIR {
            below(open_folder(folder, &name)?.as_fd(), path, depth + 1, visit)?;
        }
        path.truncate(length);
    }
    Ok(())
}

/// Removes an entry with everything in it.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    if kind(&look(parent, name)?) == SFlag::S_IFDIR {
        let folder = open_folder(parent, name)?;
        for name in names(folder.as_fd())? {
            remove(folder.as_fd(), &name)?;
        }
        return Ok(unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir)?);
    }
    Ok(unlinkat(parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?)
}
