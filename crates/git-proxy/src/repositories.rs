//! The folder of session repositories.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use failpoint::{Side, reached};
use protocol::ids::SessionId;
use tokio::fs;

use crate::command::Git;
use crate::error::GitError;
use crate::lfs::store;
use crate::mirror::MirrorTurns;

/// All session repositories and mirrors of a data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repositories {
    pub(crate) repos: PathBuf,
    pub(crate) mirrors: PathBuf,
    pub(crate) mirroring: Arc<MirrorTurns>,
}

impl Repositories {
    /// Those below `data/repos` and `data/mirrors`, which are made when missing.
    pub async fn open(data: &Path) -> Result<Self, GitError> {
        let this =
            Self { repos: data.join("repos"), mirrors: data.join("mirrors"), mirroring: Arc::default() };
        for dir in [&this.repos, &this.mirrors] {
            fs::create_dir_all(dir).await.map_err(|source| GitError::io("create", dir, source))?;
        }
        store::sweep(&this.repos, &this.mirrors).await;
        Ok(this)
    }

    /// Where a session's repository is.
    #[must_use]
    pub fn path(&self, session: SessionId) -> PathBuf {
        self.repos.join(format!("{session}.git"))
    }

    /// The repository of a session that has one.
    pub(crate) async fn existing(&self, session: SessionId) -> Result<PathBuf, GitError> {
        let path = self.path(session);
        match fs::try_exists(path.join("HEAD")).await {
            Ok(true) => Ok(path),
            Ok(false) => Err(GitError::NoRepository(session)),
            Err(source) => Err(GitError::io("look for", path, source)),
        }
    }

    /// Makes an empty repository. What was there before under the same id is an unfinished creation
    /// and is replaced.
    pub(crate) async fn create(&self, session: SessionId) -> Result<PathBuf, GitError> {
        self.delete(session).await?;
        let path = self.path(session);
        init(&path).await?;
        Ok(path)
    }

    /// Removes a session's repository; done also when there is none.
    pub async fn delete(&self, session: SessionId) -> Result<(), GitError> {
        let path = self.path(session);
        reached(Side::Before, "repository", || "removed".into());
        match fs::remove_dir_all(&path).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(GitError::io("remove", path, source)),
        }
    }

    /// Sessions that have a repository.
    pub async fn sessions(&self) -> Result<Vec<SessionId>, GitError> {
        let failed = |source| GitError::io("list", &self.repos, source);
        let mut entries = fs::read_dir(&self.repos).await.map_err(failed)?;
        let mut sessions = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".git")?.parse().ok()) {
                sessions.push(id);
            }
        }
        Ok(sessions)
    }
}

/// Makes an empty bare repository without the samples that git would copy into it.
pub(crate) async fn init(path: &Path) -> Result<(), GitError> {
    Git::new("init", None)
        .args(["init", "--quiet", "--bare", "--template=", "--initial-branch=patchyard-none"])
        .arg(path)
        .run()
        .await?;
    Ok(())
}
