//! Which submodules a session has, for its git door.

use std::path::Path;

use policy::repository::RepositoryUrl;
use protocol::ids::SessionId;
use tokio::fs;

use super::fetch::FOLDER;
use crate::error::GitError;
use crate::repositories::Repositories;

/// A submodule that was fetched for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedModule {
    /// Where it is.
    pub url: RepositoryUrl,
    /// Whether its host is shown the server's credential.
    pub shown: bool,
}

impl AttachedModule {
    fn line(&self) -> String {
        format!("{} {}\n", if self.shown { "shown" } else { "open" }, self.url)
    }

    fn of_line(line: &str) -> Option<Self> {
        let (word, url) = line.split_once(' ')?;
        Some(Self { url: RepositoryUrl::parse(url, &[]).ok()?, shown: word == "shown" })
    }
}

impl Repositories {
    /// The submodules of a session that can be reached over the network; none where the list cannot be read.
    pub async fn attached_modules(&self, session: SessionId) -> Vec<AttachedModule> {
        read(&self.path(session)).await
    }
}

async fn read(repository: &Path) -> Vec<AttachedModule> {
    let text = fs::read_to_string(repository.join(FOLDER).join("attached")).await.unwrap_or_default();
    text.lines().filter_map(AttachedModule::of_line).collect()
}

/// Adds these to a session's. What was attached once stays: its clone is in the workspace.
pub(super) async fn add(repository: &Path, new: Vec<AttachedModule>) -> Result<(), GitError> {
    let mut all = read(repository).await;
    for one in new {
        match all.iter_mut().find(|known| known.url == one.url) {
            Some(known) => known.shown = one.shown,
            None => all.push(one),
        }
    }
    let (path, next) =
        (repository.join(FOLDER).join("attached"), repository.join(FOLDER).join("attached.next"));
    let text: String = all.iter().map(AttachedModule::line).collect();
    fs::write(&next, text).await.map_err(|source| GitError::io("write", &next, source))?;
    fs::rename(&next, &path).await.map_err(|source| GitError::io("write", &path, source))
}
