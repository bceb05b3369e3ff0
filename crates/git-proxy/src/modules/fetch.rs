//! Fetching the submodules of a commit, and those in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use policy::push::PushRules;
use policy::repository::{RepositoryUrl, RepositoryUrlError};
use policy::submodule::{self, SubmoduleError};
use protocol::ids::SessionId;
use tokio::fs;
use tokio::time::{Instant, timeout_at};

use super::attached::{self, AttachedModule};
use super::listing::{self, Named};
use crate::command::{Git, plain};
use crate::credential::Credential;
use crate::error::GitError;
use crate::import::take_from;
use crate::mirror::{FetchRules, Way, short_hash};
use crate::remote::{Remote, RemoteError};
use crate::repositories::{Repositories, init};

/// Where the repositories are, in that of the session.
pub(super) const FOLDER: &str = "modules";

/// How many submodules a session may have, with those in them.
const MOST: usize = 64;

/// How deep they may lie in each other.
const DEPTH: usize = 4;

/// How long all of them may take; what is not there then is left out.
const LIMIT: Duration = Duration::from_secs(150);

/// Who the server is at a host.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The credential for an address, where there is one.
    async fn of(&self, url: &RepositoryUrl) -> Option<Credential>;
}

/// A submodule that is there to be checked out. Its texts are plain: one line, no tabs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// The path of the repository that it is in, `.` for the session's own.
    pub within: String,
    /// Its name there.
    pub name: String,
    /// Where it is there.
    pub path: String,
    /// Its address.
    pub url: String,
    /// Its folder, below `modules` of the session's repository.
    pub store: String,
}

/// The submodules of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    /// Those that are there, an outer one before those in it.
    pub found: Vec<Module>,
    /// Which are not, and why, a sentence each.
    pub remarks: Vec<String>,
}

/// A repository whose submodules are wanted.
struct Level {
    repository: PathBuf,
    commit: String,
    url: Option<RepositoryUrl>,
    /// Its place in the workspace.
    within: String,
    depth: usize,
    /// Whether nobody but the session's own owner, or whom the operator named, had a hand in it.
    trusted: bool,
}

/// Why a submodule is left out.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error(transparent)]
    Refused(#[from] SubmoduleError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(
        "{0} wants a credential, and the server's goes to repositories of the session's own owner alone; an \
         operator opens others by `submodules` in [repositories]"
    )]
    Foreign(String),
    #[error("its commit {0} is not at {1}; push it there")]
    NoCommit(String, String),
    #[error("there was no time left for it; it is tried again with the next sandbox")]
    Time,
}

impl Repositories {
    /// Brings the submodules of a commit beside the session's repository. `url` is where the session came
    /// from. What is there already is not asked for again.
    pub async fn fetch_modules(
        &self,
        session: SessionId,
        (url, commit): (Option<&RepositoryUrl>, &str),
        credentials: &dyn Credentials,
        rules: &FetchRules,
    ) -> Result<Modules, GitError> {
        let own = self.existing(session).await?;
        let until = Instant::now() + LIMIT;
        let mut modules = Modules::default();
        let mut attached = Vec::new();
        let mut levels = vec![Level {
            repository: own.clone(),
            commit: commit.to_owned(),
            url: url.cloned(),
            within: ".".into(),
            depth: 0,
            trusted: true,
        }];
        while let Some(level) = levels.pop() {
            let named = match listing::of(&level.repository, &level.commit).await? {
                Ok(named) => named,
                Err(reason) => {
                    modules
                        .remarks
                        .push(format!("The submodules of `{}` are left out: {reason}.", level.within));
                    continue;
                }
            };
            if level.depth == DEPTH && !named.is_empty() {
                let words = format!("The submodules in `{}` are left out: they lie too deep.", level.within);
                modules.remarks.push(words);
                continue;
            }
            for (number, one) in named.iter().enumerate() {
                if modules.found.len() == MOST {
                    let words =
                        format!("No more than {MOST} submodules are fetched; the others are left out.");
                    modules.remarks.push(words);
                    levels.clear();
                    break;
                }
                let work = self.one(&own, &level, (one, &named[..number]), (url, credentials, rules));
                let done = timeout_at(until, work).await.unwrap_or(Err(Missing::Time));
                match done {
                    Ok((module, next, shown)) => {
                        attached.extend(next.url.clone().map(|url| AttachedModule { url, shown }));
                        modules.found.push(module);
                        levels.push(next);
                    }
                    Err(reason) => {
                        let path = plain(&joined(&level.within, &one.path));
                        modules.remarks.push(format!("The submodule `{path}` is left empty: {reason}."));
                    }
                }
            }
        }
        if !attached.is_empty() {
            attached::add(&own, attached).await?;
        }
        Ok(modules)
    }

    /// Brings one; where to look for those in it, and whether its host was shown a credential.
    async fn one(
        &self,
        own: &Path,
        level: &Level,
        (one, before): (&Named, &[Named]),
        (url, credentials, rules): (Option<&RepositoryUrl>, &dyn Credentials, &FetchRules),
    ) -> Result<(Module, Level, bool), Missing> {
        submodule::check_name(&one.name)?;
        submodule::check_path(&one.path)?;
        let twice = |known: &Named| {
            submodule::collide(&known.path, &one.path) || submodule::collide(&known.name, &one.name)
        };
        if before.iter().any(twice) {
            return Err(SubmoduleError::Twice.into());
        }
        let at = submodule::resolve(level.url.as_ref(), &one.url, &rules.file_roots)?;
        let trusted = level.trusted && submodule::may_show(url, &at, &rules.submodules);
        if let (RepositoryUrl::File { path }, false) = (&at, trusted) {
            // Opened for those who begin sessions, not for the authors of what they work on.
            let outside = RepositoryUrlError::OutsideRoots(path.display().to_string());
            return Err(SubmoduleError::from(outside).into());
        }
        let credential = credentials.of(&at).await;
        let kept_back = credential.is_some() && !trusted;
        let remote = Remote {
            url: at.clone(),
            credential: credential.filter(|_| trusted),
            push: PushRules::default(),
        };
        let store = short_hash(&at.to_string());
        let path = own.join(FOLDER).join(format!("{store}.git"));
        self.bring(&path, &remote, &one.commit, rules).await.map_err(|error| match error {
            Missing::Git(GitError::Remote(
                RemoteError::NoCredential { .. } | RemoteError::NotFound { .. } | RemoteError::Denied { .. },
            )) if kept_back => Missing::Foreign(at.to_string()),
            other => other,
        })?;
        let module = Module {
            within: level.within.clone(),
            name: one.name.clone(),
            path: one.path.clone(),
            url: at.to_string(),
            store: format!("{store}.git"),
        };
        let next = Level {
            repository: path,
            commit: one.commit.clone(),
            url: Some(at),
            within: joined(&level.within, &one.path),
            depth: level.depth + 1,
            trusted,
        };
        Ok((module, next, trusted))
    }

    /// Lets a repository of ours have a commit of a remote one, and what its mirror has.
    async fn bring(
        &self,
        path: &Path,
        remote: &Remote,
        commit: &str,
        rules: &FetchRules,
    ) -> Result<(), Missing> {
        let there = fs::try_exists(path.join("HEAD")).await.unwrap_or(false);
        if there && has(path, commit).await {
            return Ok(());
        }
        let mirror = self.refresh_mirror(remote, rules).await?;
        if there {
            let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
            let fetch = ["fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--force"];
            Git::new("import", Some(path)).args(fetch).arg(&mirror.path).args(all).run().await?;
        } else {
            init(path).await?;
            take_from(&mirror, path).await?;
        }
        drop(mirror);
        if !has(path, commit).await {
            // Not behind a branch or tag; hosts give out commits by their names, too.
            let way = Way::to(remote, rules).await?;
            let fetched = way
                .git("fetch", path)
                .args(["fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--"])
                .args([way.address.as_str(), &format!("{commit}:refs/patchyard/pinned/{commit}")])
                .run()
                .await;
            if fetched.is_err() || !has(path, commit).await {
                let short = commit.chars().take(10).collect();
                return Err(Missing::NoCommit(short, remote.url.to_string()));
            }
        }
        Ok(())
    }
}

async fn has(repository: &Path, commit: &str) -> bool {
    let asked =
        ["cat-file", "-e", "--end-of-options", &format!("{commit}^{{commit}}")].map(ToOwned::to_owned);
    Git::new("cat-file", Some(repository)).args(asked).run().await.is_ok()
}

fn joined(within: &str, path: &str) -> String {
    if within == "." { path.to_owned() } else { format!("{within}/{path}") }
}
