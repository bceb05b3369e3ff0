//! `patchyard sessions cp`: files between here and a session's sandbox.
//!
//! ```text
//!  here ─ archive, a thread ─▶ request ─▶ guest            SESSION:PATH as the target
//!  here ◀─ a thread, archive ─ answer ◀─ guest             SESSION:PATH as the source
//! ```

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use archive::ArchiveError;
use client::Client;
use protocol::ids::SessionId;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::error::Failure;
use crate::output::{in_line, line, note};

/// Bytes between the thread and the connection.
const PIPE: usize = 256 * 1024;

pub(crate) async fn run(client: &Client, from: &str, to: &str) -> Result<(), Failure> {
    match (remote(from), remote(to)) {
        (Some((session, path)), None) => out(client, session, path, to).await,
        (None, Some((session, path))) => into(client, session, path, from).await,
        _ => Err(Failure::Usage("one of the two has to be SESSION:PATH, and the other a path here".into())),
    }
}

/// The session and the path, where it is `SESSION:PATH`.
fn remote(text: &str) -> Option<(SessionId, &str)> {
    let (session, path) = text.split_once(':')?;
    Some((session.parse().ok()?, path))
}

async fn out(client: &Client, session: SessionId, path: &str, to: &str) -> Result<(), Failure> {
    let stream = client.files(session, path).await?;
    let target = PathBuf::from(to);
    let unpacked = tokio::task::spawn_blocking(move || {
        let reader = SyncIoBridge::new(StreamReader::new(stream));
        let (root, below) = anchor(&target)?;
        archive::unpack(root.as_fd(), &below, reader)
    });
    let unpacked = unpacked.await.map_err(|error| Failure::Internal(error.to_string()))?.map_err(failed)?;
    tell(unpacked.skipped.iter().map(|path| path.display().to_string()));
    line(&format!("{} files and folders, {} bytes", unpacked.entries, unpacked.bytes));
    Ok(())
}

async fn into(client: &Client, session: SessionId, path: &str, from: &str) -> Result<(), Failure> {
    let source = PathBuf::from(from);
    let (reader, writer) = tokio::io::duplex(PIPE);
    let packing = tokio::task::spawn_blocking(move || {
        let (root, below) = anchor(&source)?;
        archive::pack(root.as_fd(), &below, SyncIoBridge::new(writer))
    });
    let taken = client.put_files(session, path, reader).await;
    let packed = packing.await.map_err(|error| Failure::Internal(error.to_string()))?;
    // The sandbox's reason first: when it stops taking, packing here ends with a broken pipe.
    match (taken, packed) {
        (Ok(taken), Ok(packed)) => {
            tell(packed.skipped.iter().map(|path| path.display().to_string()));
            tell(taken.remarks.lines().map(str::to_owned));
            line(&format!("{} files and folders, {} bytes", packed.entries, packed.bytes));
            Ok(())
        }
        (_, Err(error)) if !matches!(error, ArchiveError::Stream(_)) => Err(failed(error)),
        (Err(error), _) => Err(error.into()),
        (Ok(_), Err(error)) => Err(failed(error)),
    }
}

/// The real folder that a path is in, and its name there: links above it are the person's own.
fn anchor(path: &Path) -> Result<(File, PathBuf), ArchiveError> {
    let io = |source: io::Error| ArchiveError::Io { path: path.to_owned(), source };
    let (folder, name) = match path.file_name() {
        Some(name) => (path.parent().filter(|parent| !parent.as_os_str().is_empty()), PathBuf::from(name)),
        // Such as `.` or `..`: the folder itself, by its own name.
        None => {
            let real = path.canonicalize().map_err(io)?;
            let name = real.file_name().map(PathBuf::from).unwrap_or_default();
            let folder = real.parent().unwrap_or(Path::new("/"));
            return Ok((File::open(folder).map_err(io)?, name));
        }
    };
    Ok((File::open(folder.unwrap_or(Path::new("."))).map_err(io)?, name))
}

fn failed(error: ArchiveError) -> Failure {
    Failure::Failed(error.to_string())
}

fn tell(skipped: impl Iterator<Item = String>) {
    for remark in skipped {
        note(&format!("left out, no file or folder: {}", in_line(&remark, 600)));
    }
}
