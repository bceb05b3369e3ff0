//! Where large files are kept.
//!
//! ```text
//!   mirrors/<key>.lfs/4d/7a/4d7a…                    of one address, for all its sessions
//!   repos/<session>.git/lfs/objects/4d/7a/4d7a…      a link to the same file; git-lfs inside looks here, too
//! ```

use std::path::{Path, PathBuf};

use protocol::ids::SessionId;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use ulid::Ulid;

use super::hashed::Hashed;
use super::pointer::Pointer;
use crate::error::GitError;
use crate::repositories::Repositories;

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
        let folder = self.0.join("incoming");
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

impl Repositories {
    /// Where a session's large files are.
    pub(super) async fn large_files(&self, session: SessionId) -> Result<Objects, GitError> {
        Ok(Objects::of_repository(&self.existing(session).await?))
    }
}
