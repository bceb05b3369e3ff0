//! Files inside a folder, or inside a tar archive on disk, by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use tar::EntryType;

use super::entries::{Budget, Entries};

/// The most names that an archive of an image may have: it holds layers and documents, not files.
const MAX_NAMES: usize = 100_000;

/// How often a name may lead to another one.
const MAX_LINKS: usize = 8;

/// Files by name.
pub(super) enum Files {
    /// In a folder.
    Folder(OwnedFd),
    /// In an unpacked archive.
    Archive { file: File, members: HashMap<Vec<u8>, Member> },
}

/// A file of an archive.
pub(super) enum Member {
    /// Its bytes.
    At { offset: u64, size: u64 },
    /// Another name, which it is the same as.
    Link(Vec<u8>),
}

impl Files {
    pub(super) fn in_folder(path: &Path) -> io::Result<Self> {
        Ok(Self::Folder(File::open(path)?.into()))
    }

    /// Reads where everything lies in an archive.
    pub(super) fn in_archive(file: File, mut budget: Budget) -> io::Result<Self> {
        let mut members = HashMap::new();
        let mut entries =
            Entries::new(Section { file: &file, at: 0, end: file.metadata()?.len() }, &mut budget);
        while let Some(entry) = entries.next()? {
            let name = tidy(&entry.name);
            let member = match entry.kind {
                EntryType::Regular | EntryType::Continuous => {
                    Member::At { offset: entries.position(), size: entry.size }
                }
                EntryType::Link => Member::Link(tidy(&entry.link)),
                EntryType::Symlink => Member::Link(beside(&name, &entry.link)),
                _ => continue,
            };
            members.insert(name, member);
            if members.len() > MAX_NAMES {
                return Err(io::Error::other("it has too many names for an archive of an image"));
            }
        }
        Ok(Self::Archive { file, members })
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// A file, and its length.
    pub(super) fn open(&self, name: &str) -> io::Result<(Box<dyn Read + '_>, u64)> {
        match self {
            Self::Folder(folder) => {
                // A pipe in its place would be waited for.
                let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
                let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH);
                let file = File::from(openat2(folder, name, how)?);
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(io::Error::other("it is no file"));
                }
                Ok((Box::new(file), metadata.len()))
            }
            Self::Archive { file, members } => {
                let mut name = name.as_bytes();
                for _ in 0..MAX_LINKS {
                    match members.get(name) {
                        Some(Member::At { offset, size }) => {
                            let end = offset.saturating_add(*size);
                            return Ok((Box::new(Section { file, at: *offset, end }), *size));
                        }
                        Some(Member::Link(other)) => name = other,
                        None => return Err(io::ErrorKind::NotFound.into()),
                    }
                }
                Err(io::Error::other("its links lead in a circle"))
            }
        }
    }

    /// A small file whole.
    pub(super) fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let (reader, size) = self.open(name)?;
        if size > most {
            return Err(io::Error::other(format!("it has {size} bytes; at most {most} are read")));
        }
        let mut bytes = Vec::new();
        reader.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A part of a file, read by position.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.at);
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A name as documents write it: no `./` before it, no `/` after it.
pub(super) fn tidy(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

/// The name that a link in an archive leads to, by its words alone.
fn beside(name: &[u8], link: &[u8]) -> Vec<u8> {
    let tidied = tidy(name);
    let mut parts: Vec<_> = tidied.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in link.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_an_archive_lead_to_names_of_it() {
        assert_eq!(beside(b"a/layer.tar", b"../b/layer.tar"), b"b/layer.tar");
        assert_eq!(beside(b"a", b"../../../b"), b"b");
        assert_eq!(tidy(b"./a//b/"), b"a/b");
    }
}
