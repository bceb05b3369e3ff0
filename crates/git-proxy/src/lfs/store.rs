//! Where large files are kept.
//!
//! ```text
//!   mirrors/<key>.lfs/4d/7a/4d7a…                    of one address, for all its sessions
//!   repos/<session>.git/lfs/objects/4d/7a/4d7a…      a link to the same file; git-lfs inside looks here, too
//! ```

use std::io;
use std::path::{Path, PathBuf};

use protocol::ids::SessionId;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use ulid::Ulid;

use super::hashed::Hashed;
use super::pointer::Pointer;
use crate::error::GitError;
use crate::repositories::Repositories;

/// Where objects are until they have a name.
const INCOMING: &str = "incoming";

/// A folder of objects. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Objects(PathBuf);

impl Objects {
    /// Those of a session's repository.
    pub(super) fn of_repository(repository: &Path) -> Self {
        Self(repository.join("lfs/objects"))
    }

    pub(super) fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(super) fn place(&self, pointer: &Pointer) -> PathBuf {
        self.0.join(pointer.oid.place())
    }

    /// Whether an object is there. Only what was hashed gets a name here.
    pub(super) async fn has(&self, pointer: &Pointer) -> bool {
        fs::metadata(self.place(pointer)).await.is_ok_and(|file| file.is_file() && file.len() == pointer.size)
    }

    /// A file to take an object in.
    pub(super) async fn begin(&self, pointer: Pointer) -> Result<Incoming, GitError> {
        let folder = self.0.join(INCOMING);
        fs::create_dir_all(&folder).await.map_err(|source| GitError::io("create", &folder, source))?;
        let path = folder.join(Ulid::generate().to_string());
        let file = fs::File::create(&path).await.map_err(|source| GitError::io("create", &path, source))?;
        let unfinished = Unfinished(path);
        Ok(Incoming { file, unfinished, place: self.place(&pointer), hashed: Hashed::new(pointer) })
    }

    /// Lets an object of another folder be here, too.
    pub(super) async fn link(&self, from: &Self, pointer: &Pointer) -> Result<(), GitError> {
        let (source, place) = (from.place(pointer), self.place(pointer));
        make_parent(&place).await?;
        match fs::hard_link(&source, &place).await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            Err(_) => {}
        }
        // On another file system, for one.
        fs::copy(&source, &place).await.map(drop).map_err(|source| GitError::io("copy to", &place, source))
    }
}

/// Removed where it is not finished.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already where it became an object.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An object that comes in.
pub(super) struct Incoming {
    file: fs::File,
    unfinished: Unfinished,
    place: PathBuf,
    hashed: Hashed,
}

impl Incoming {
    /// Takes the next piece.
    pub(super) async fn push(&mut self, piece: axum::body::Bytes) -> Result<(), String> {
        let piece = self.hashed.push(piece).map_err(|error| error.to_string())?;
        self.write(piece).await
    }

    async fn write(&mut self, piece: Option<axum::body::Bytes>) -> Result<(), String> {
        let Some(piece) = piece else { return Ok(()) };
        self.file.write_all(&piece).await.map_err(|error| format!("it cannot be kept: {error}"))
    }

    /// Gives it its name, where it is what it is called.
    pub(super) async fn end(mut self) -> Result<(), String> {
        let last = self.hashed.end().map_err(|error| error.to_string())?;
        self.write(last).await?;
        let kept = async {
            self.file.flush().await?;
            if let Some(folder) = self.place.parent() {
                fs::create_dir_all(folder).await?;
            }
            fs::rename(&self.unfinished.0, &self.place).await
        };
        kept.await.map_err(|error: std::io::Error| format!("it cannot be kept: {error}"))
    }
}

async fn make_parent(place: &Path) -> Result<(), GitError> {
    let Some(folder) = place.parent() else { return Ok(()) };
    fs::create_dir_all(folder).await.map_err(|source| GitError::io("create", folder, source))
}

/// Lets a new repository have the large files of another one.
pub(crate) async fn link_all(from: &Path, to: &Path) -> Result<(), GitError> {
    let (source, target) = (Objects::of_repository(from).0, Objects::of_repository(to).0);
    let failed = |error| GitError::io("link large files to", &target, error);
    let (from, to) = (source.clone(), target.clone());
    let linked = tokio::task::spawn_blocking(move || link_below(&from, &to, 2)).await;
    linked.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
}

/// Objects lie two folders deep; what is not finished does not.
fn link_below(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        match (entry.file_type()?.is_dir(), depth) {
            (true, 0) => {}
            (true, _) if entry.file_name() == INCOMING => {}
            (true, _) => link_below(&path, &place, depth - 1)?,
            (false, 0) => {
                std::fs::create_dir_all(to)?;
                std::fs::hard_link(&path, &place)?;
            }
            (false, _) => {}
        }
    }
    Ok(())
}

/// Takes away what a crash left unfinished.
pub(crate) async fn sweep(repos: &Path, mirrors: &Path) {
    for (folder, below) in [(repos, Path::new("lfs/objects")), (mirrors, Path::new(""))] {
        let Ok(mut entries) = fs::read_dir(folder).await else { continue };
        while let Ok(Some(entry)) = entries.next_entry().await {
            // Mostly there is none.
            let _ = fs::remove_dir_all(entry.path().join(below).join(INCOMING)).await;
        }
    }
}

impl Repositories {
    /// Where a session's large files are.
    pub(super) async fn large_files(&self, session: SessionId) -> Result<Objects, GitError> {
        Ok(Objects::of_repository(&self.existing(session).await?))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::lfs::pointer::Oid;

    #[tokio::test]
    async fn what_is_whole_has_a_name_and_goes_along_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (repos, mirrors) = (dir.path().join("repos"), dir.path().join("mirrors"));
        let (one, two) = (repos.join("one.git"), repos.join("two.git"));
        let objects = Objects::of_repository(&one);
        let pointer = |content: &[u8]| Pointer {
            oid: Oid::of_digest(Sha256::digest(content).into()),
            size: content.len() as u64,
        };
        let mut whole = objects.begin(pointer(b"whole")).await.unwrap();
        whole.push(Bytes::from_static(b"wh")).await.unwrap();
        whole.push(Bytes::from_static(b"ole")).await.unwrap();
        whole.end().await.unwrap();
        let mut wrong = objects.begin(pointer(b"right")).await.unwrap();
        wrong.push(Bytes::from_static(b"wrong")).await.unwrap();
        assert!(wrong.end().await.is_err());
        let crashed = objects.begin(pointer(b"right")).await.unwrap();
        std::mem::forget(crashed.unfinished);
        link_all(&one, &two).await.unwrap();
        link_all(&repos.join("none.git"), &two).await.unwrap();
        let linked = Objects::of_repository(&two);
        assert!(objects.has(&pointer(b"whole")).await && linked.has(&pointer(b"whole")).await);
        assert!(!objects.has(&pointer(b"right")).await && !linked.0.join(INCOMING).exists());
        assert_eq!(std::fs::read_dir(objects.0.join(INCOMING)).unwrap().count(), 1);
        sweep(&repos, &mirrors).await;
        assert!(!objects.0.join(INCOMING).exists() && objects.has(&pointer(b"whole")).await);
    }
}
