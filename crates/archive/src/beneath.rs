//! Ways below a folder that no link can lead astray.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::ArchiveError;

/// Folders in each other.
const MAX_DEPTH: usize = 256;

/// The names of a path: no way up, and not too many.
pub(crate) fn names(path: &Path) -> Result<Vec<OsString>, ArchiveError> {
    let refuse = |reason| ArchiveError::Path { path: path.to_owned(), reason };
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refuse("`..` leads elsewhere; give the path itself"));
            }
        }
    }
    if names.len() > MAX_DEPTH {
        return Err(refuse("too many folders in each other"));
    }
    Ok(names)
}

/// Opens the folder below `root` that these names lead to.
pub(crate) fn folder(root: BorrowedFd<'_>, names: &[OsString]) -> Result<OwnedFd, ArchiveError> {
    let walked = |count: usize| names[..count].iter().collect::<std::path::PathBuf>();
    let mut folder = root.try_clone_to_owned().map_err(|error| ArchiveError::io(walked(0), error))?;
    for (index, name) in names.iter().enumerate() {
        folder = subfolder(folder.as_fd(), name).map_err(|errno| refusal(&walked(index + 1), errno))?;
    }
    Ok(folder)
}

/// Opens a folder in another one.
pub(crate) fn subfolder(folder: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

/// A refusal of the system in the words of the person who named the path.
pub(crate) fn refusal(path: &Path, errno: Errno) -> ArchiveError {
    let reason = match errno {
        Errno::ELOOP => "a part of this path is a link; name the place that it leads to",
        // What a link to a folder gives where a folder is asked for.
        Errno::ENOTDIR => "a part of this path is a link or no folder; name the place itself",
        errno => return ArchiveError::io(path, errno),
    };
    ArchiveError::Path { path: path.to_owned(), reason }
}
