//! Files on their way out of the sandbox or into it, as a tar stream on a standard stream.
//!
//! Run as commands of their own: they do what root inside may do, and nothing more.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use archive::ArchiveError;

/// Skipped files that are told by name.
const MAX_TOLD: usize = 20;

/// Writes the archive of what is at this path to standard output.
pub fn pack(path: &str) -> Result<(), ArchiveError> {
    let out = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    let packed = archive::pack(root()?.as_fd(), Path::new(path), out)?;
    tell(&packed.skipped);
    Ok(())
}

/// Takes an archive from standard input and puts it to this path.
pub fn unpack(path: &str) -> Result<(), ArchiveError> {
    let unpacked = archive::unpack(root()?.as_fd(), Path::new(path), std::io::stdin().lock())?;
    tell(&unpacked.skipped);
    Ok(())
}

fn root() -> Result<File, ArchiveError> {
    File::open("/").map_err(|source| ArchiveError::Io { path: "/".into(), source })
}

/// Says what was left out.
fn tell(skipped: &[PathBuf]) {
    let mut out = std::io::stderr().lock();
    for path in skipped.iter().take(MAX_TOLD) {
        let _ = writeln!(out, "left out, no file or folder: {}", path.display());
    }
    if skipped.len() > MAX_TOLD {
        let _ = writeln!(out, "left out as well: {} more", skipped.len() - MAX_TOLD);
    }
}
