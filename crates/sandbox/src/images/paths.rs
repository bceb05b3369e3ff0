//! Names in archives, and where they lead.
//!
//! ```text
//!   "./usr//bin/../x"  ─▶ refused        "/usr/bin/x" ─▶ usr/bin + x        "./" ─▶ the top
//! ```
//!
//! A folder on the way is looked up by the kernel, which takes the tree for the whole world
//! (`RESOLVE_IN_ROOT`): a link to `/etc` or `../../..` leads to that place of the tree. The last name
//! is never followed.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::walk::MAX_DEPTH;

/// The longest path, and the longest name, that the kernel takes.
const MAX_PATH: usize = 4095;
const MAX_PART: usize = 255;

/// Where an entry goes: the folder, and the name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) folder: PathBuf,
    pub(super) name: CString,
}

/// Takes a name of an archive apart; `None` for the top itself.
pub(super) fn target(name: &[u8]) -> Result<Option<Target>, &'static str> {
    if name.len() > MAX_PATH {
        return Err("a name is longer than the system allows");
    }
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("a name goes up by `..`"),
            _ if part.len() > MAX_PART => return Err("a part of a name is longer than the system allows"),
            _ if part.contains(&0) => return Err("a name has a zero byte"),
            _ => parts.push(part),
        }
    }
    let Some(last) = parts.pop() else { return Ok(None) };
    let name = CString::new(last).map_err(|_| "a name has a zero byte")?;
    Ok(Some(Target { folder: parts.iter().map(|part| OsStr::from_bytes(part)).collect(), name }))
}

/// A folder of the tree, open.
pub(super) struct Folder {
    pub(super) fd: OwnedFd,
    pub(super) inode: u64,
}

/// The tree that is being written; nobody else is at it.
pub(super) struct Root {
    fd: OwnedFd,
    /// How deep every folder lies, in a tree that is written from its beginning. Links make a short name
    /// lead deep, so the name does not tell.
    depths: Option<HashMap<u64, usize>>,
}

impl Root {
    /// An empty tree.
    pub(super) fn empty(fd: OwnedFd) -> io::Result<Self> {
        let depths = Some(HashMap::from([(fstat(&fd)?.st_ino, 0)]));
        Ok(Self { fd, depths })
    }

    /// A tree that was made already, to which a known file is added.
    pub(super) fn made(fd: OwnedFd) -> Self {
        Self { fd, depths: None }
    }

    /// The top itself.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a folder; `NotFound` when there is none.
    pub(super) fn open(&self, path: &Path) -> io::Result<Folder> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let fd = openat2(&self.fd, path, how)?;
        let inode = fstat(&fd)?.st_ino;
        Ok(Folder { fd, inode })
    }

    /// Opens a folder; those that are missing on the way are made.
    pub(super) fn open_or_make(&mut self, path: &Path) -> io::Result<Folder> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut way = PathBuf::new();
        let mut folder = self.open(&way)?;
        for part in path {
            way.push(part);
            folder = match self.open(&way) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Fails where a link leads nowhere: that is no folder to put things into.
                    self.make(&folder, &CString::new(part.as_bytes())?, 0o755)?;
                    self.open(&way)?
                }
                opened => opened?,
            };
        }
        Ok(folder)
    }

    /// Makes a folder in another one.
    pub(super) fn make(&mut self, parent: &Folder, name: &CString, mode: u32) -> io::Result<()> {
        let above = self.depths.as_ref().map(|depths| depths.get(&parent.inode).copied());
        let depth = above.map_or(0, |depth| depth.unwrap_or(MAX_DEPTH)) + 1;
        if depth > MAX_DEPTH {
            let words = format!("folders lie more than {MAX_DEPTH} deep in each other");
            return Err(io::Error::other(words));
        }
        match mkdirat(&parent.fd, name.as_c_str(), Mode::from_bits_truncate(mode)) {
            Err(Errno::EEXIST) => {
                let words = format!("{} is a link that leads nowhere, or no folder", name.to_string_lossy());
                return Err(io::Error::other(words));
            }
            made => made?,
        }
        if let Some(depths) = &mut self.depths {
            depths.insert(super::walk::look(parent.fd.as_fd(), name)?.st_ino, depth);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_or_refused() {
        let place = |folder: &str, name: &str| {
            Ok(Some(Target { folder: folder.into(), name: CString::new(name).unwrap() }))
        };
        assert_eq!(target(b"./usr//bin/x/"), place("usr/bin", "x"));
        assert_eq!(target(b"/etc/passwd"), place("etc", "passwd"));
        assert_eq!(target(b"x"), place("", "x"));
        for top in [&b""[..], b".", b"./", b"/"] {
            assert_eq!(target(top), Ok(None));
        }
        let long = [b'x'; 256];
        for bad in [&b".."[..], b"a/../b", b"a/..", b"/..", b"a\0b", &long, &[b'/'; 5000]] {
            assert!(target(bad).is_err());
        }
    }
}
