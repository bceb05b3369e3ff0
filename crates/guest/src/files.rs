//! Files of the sandbox, in parts.
//!
//! ```text
//!   write: part 0 ─▶ .<name>.patchyard-<random> beside the target ─▶ … ─▶ last part ─▶ rename
//!             └── connection lost, or begun anew: the part file goes
//! ```
//!
//! Everything is done at once on the one thread: regular files do not block, and anything else is
//! refused before it could.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use protocol::guest::MAX_CHUNK;
use protocol::hands::{DirEntry, FileChunk, FileKind, FileStat, HandsError};

/// Entries of one folder that are given.
const MAX_ENTRIES: usize = 10_000;

/// Entries of one folder that are looked at; the rest of a larger one is not seen.
const MAX_ENTRIES_READ: usize = 100_000;

/// Bytes of names in one reply, so that it fits into a frame with all that surrounds them.
const MAX_NAMES: usize = 768 * 1024;

/// Files that may be half written at a time.
const MAX_OPEN_WRITES: usize = 64;

/// Links in a row before it counts as a loop, as in the kernel.
const MAX_LINKS: usize = 40;

/// The files that this connection is writing.
#[derive(Debug, Default)]
pub struct Files {
    writes: HashMap<String, PartFile>,
}

/// A file's new content on its way; removed unless it was put in place.
#[derive(Debug)]
struct PartFile {
    file: File,
    part: PathBuf,
    target: PathBuf,
    written: u64,
    mode: u32,
    placed: bool,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.part);
        }
    }
}

impl Files {
    /// Reads at most `limit` bytes, and never more than one chunk.
    pub fn read(&self, path: &str, offset: u64, limit: u64) -> Result<FileChunk, HandsError> {
        let failed = |error: io::Error| refusal(path, &error);
        absolute(path)?;
        // Looked at before it is opened: opening some devices does something.
        regular(path, &fs::metadata(path).map_err(failed)?)?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        regular(path, &metadata)?;
        let mut bytes = vec![0; usize::try_from(limit).unwrap_or(MAX_CHUNK).min(MAX_CHUNK)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        bytes.truncate(filled);
        Ok(FileChunk { bytes, size: metadata.len() })
    }

    /// Takes one part of a file's new content; parts come in order, the first at 0.
    pub fn write(&mut self, path: &str, offset: u64, bytes: &[u8], last: bool) -> Result<(), HandsError> {
        let failed = |error: io::Error| refusal(path, &error);
        absolute(path)?;
        let mut part = if offset == 0 {
            self.writes.remove(path);
            if self.writes.len() >= MAX_OPEN_WRITES {
                let limit = format!("more than {MAX_OPEN_WRITES} files are being written at a time");
                return Err(HandsError::Limit(limit));
            }
            begin(path)?
        } else {
            let part = self.writes.remove(path).filter(|part| part.written == offset);
            part.ok_or_else(|| HandsError::Io {
                path: path.to_owned(),
                reason: format!("a part for offset {offset} came out of order"),
            })?
        };
        part.file.write_all(bytes).map_err(failed)?;
        part.written += bytes.len() as u64;
        if last {
            // Only now: a write takes special bits away.
            part.file.set_permissions(fs::Permissions::from_mode(part.mode)).map_err(failed)?;
            fs::rename(&part.part, &part.target).map_err(failed)?;
            part.placed = true;
        } else {
            self.writes.insert(path.to_owned(), part);
        }
        Ok(())
    }

    /// Facts of a path, links followed.
    pub fn stat(path: &str) -> Result<FileStat, HandsError> {
        absolute(path)?;
        let metadata = fs::metadata(path).map_err(|error| refusal(path, &error))?;
        let modified_ms =
            metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000);
        Ok(FileStat {
            kind: kind(metadata.file_type()),
            size: metadata.len(),
            mode: metadata.mode() & 0o7777,
            modified_ms,
        })
    }

    /// Entries of a folder, sorted by name.
    pub fn list(path: &str) -> Result<Vec<DirEntry>, HandsError> {
        let failed = |error: io::Error| refusal(path, &error);
        absolute(path)?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)?.take(MAX_ENTRIES_READ) {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_or(FileKind::Other, kind);
            entries.push(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut room = MAX_NAMES;
        let fitting = entries
            .iter()
            .take(MAX_ENTRIES)
            .take_while(|entry| {
                let fits = entry.name.len() + 8 <= room;
                room = room.saturating_sub(entry.name.len() + 8);
                fits
            })
            .count();
        entries.truncate(fitting);
        Ok(entries)
    }
}

/// Makes the part file beside the file that is really meant, with its owner.
fn begin(path: &str) -> Result<PartFile, HandsError> {
    let failed = |error: io::Error| refusal(path, &error);
    let target = follow(path)?;
    let old = match fs::symlink_metadata(&target) {
        Ok(metadata) => {
            regular(path, &metadata)?;
            Some(metadata)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(HandsError::WrongKind { path: path.to_owned(), reason: "not the name of a file".into() });
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let part = folder.join(part_name(name).map_err(failed)?);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
    if let Some(old) = &old {
        // Kept where that is possible.
        let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
    }
    let mode = old.map_or_else(|| 0o666 & !mask(), |old| old.mode() & 0o7777);
    Ok(PartFile { file, part, target, written: 0, mode, placed: false })
}

/// The bits that new files do not have here. There is one thread, so that nobody sees the other mask.
fn mask() -> u32 {
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    nix::sys::stat::umask(mask);
    mask.bits()
}

/// The file behind a path, links followed, also where it does not exist yet.
fn follow(path: &str) -> Result<PathBuf, HandsError> {
    let mut target = PathBuf::from(path);
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(link) => {
                let folder = target.parent().unwrap_or(Path::new("/")).to_owned();
                target = folder.join(link);
            }
            // No link, or nothing there: this is the one that is meant.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                if matches!(target.components().next_back(), Some(Component::Normal(_))) {
                    return Ok(target);
                }
                return Err(HandsError::WrongKind { path: path.to_owned(), reason: "is a directory".into() });
            }
            Err(error) => return Err(refusal(path, &error)),
        }
    }
    Err(HandsError::WrongKind { path: path.to_owned(), reason: "too many levels of links".into() })
}

/// `.<name>.patchyard-<random>`, with the name cut so that the whole is a valid one.
fn part_name(name: &std::ffi::OsStr) -> io::Result<OsString> {
    let mut random = [0; 8];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut random)?;
    let name: String = name.to_string_lossy().chars().take(40).collect();
    Ok(format!(".{name}.patchyard-{:016x}", u64::from_ne_bytes(random)).into())
}

fn absolute(path: &str) -> Result<(), HandsError> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(HandsError::WrongKind { path: path.to_owned(), reason: "not an absolute path".into() })
}

fn regular(path: &str, metadata: &fs::Metadata) -> Result<(), HandsError> {
    let reason = match kind(metadata.file_type()) {
        FileKind::File => return Ok(()),
        FileKind::Directory => "is a directory",
        FileKind::Symlink => "is a link",
        FileKind::Other => "is a device, pipe or socket, not a file",
    };
    Err(HandsError::WrongKind { path: path.to_owned(), reason: reason.into() })
}

fn kind(file_type: fs::FileType) -> FileKind {
    if file_type.is_file() {
        FileKind::File
    } else if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Other
    }
}

fn refusal(path: &str, error: &io::Error) -> HandsError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::NotFound => HandsError::NotFound { path },
        ErrorKind::PermissionDenied => HandsError::Denied { path },
        ErrorKind::NotADirectory => {
            HandsError::WrongKind { path, reason: "a part of the path is not a directory".into() }
        }
        ErrorKind::IsADirectory => HandsError::WrongKind { path, reason: "is a directory".into() },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            HandsError::Limit(format!("{path}: no space left in the sandbox; remove something first"))
        }
        _ => HandsError::Io { path, reason: error.to_string() },
    }
}
