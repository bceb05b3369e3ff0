//! How code gets into a session's repository.
//!
//! ```text
//!  import_bundle · import_url ─▶ branches, tags, head, base          the packs of a mirror are linked
//!  start_branch ───────────────▶ refs/heads/<session branch> at base; HEAD names it
//!  import_checkpoint ──────────▶ the branch moves, refs/patchyard/checkpoints/<n> keeps it
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use protocol::api::{UPLOAD_HEAD_REF, UPLOAD_WIP_REF};
use protocol::event::Checkpoint;
use protocol::ids::SessionId;
use tokio::io::AsyncReadExt as _;

use crate::command::Git;
use crate::error::GitError;
use crate::mirror::{FetchRules, Mirror};
use crate::remote::Remote;
use crate::repositories::Repositories;

/// A branch of the user's that would be a file where `patchyard/…`, the sessions' branches, needs a
/// folder. It is left out; who starts from it has its commits nevertheless.
const IN_THE_WAY: &str = "patchyard";

/// The same for git.
const NOT_IN_THE_WAY: &str = "^refs/heads/patchyard";

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The commit that the user's branch points at.
    pub head: String,
    /// What the work starts from: `head`, or a commit on top with the uncommitted changes.
    pub base: String,
    /// The branch, where one is known.
    pub branch: Option<String>,
}

impl Repositories {
    /// Makes the session's repository from a bundle that a user uploaded.
    pub async fn import_bundle(&self, session: SessionId, bundle: &Path) -> Result<Imported, GitError> {
        if has_long_names(bundle).await {
            return Err(GitError::ObjectFormat("the upload".into()));
        }
        let repository = self.create(session).await?;
        let fetched = Git::new("import", Some(&repository))
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--force"])
            .arg(bundle)
            .args([
                "+refs/heads/*:refs/heads/*",
                "+refs/tags/*:refs/tags/*",
                "+refs/remotes/*:refs/remotes/*",
                "+refs/patchyard/upload/*:refs/patchyard/upload/*",
                NOT_IN_THE_WAY,
            ])
            .run()
            .await;
        match fetched {
            Ok(_) => {}
            Err(GitError::Git { words, .. }) => return Err(GitError::BadBundle(words)),
            Err(error) => return Err(error),
        }
        let head = resolve(&repository, UPLOAD_HEAD_REF)
            .await
            .map_err(|_| GitError::BadBundle(format!("it has no {UPLOAD_HEAD_REF}")))?;
        let base = resolve(&repository, UPLOAD_WIP_REF).await.unwrap_or_else(|_| head.clone());
        Ok(Imported { head, base, branch: None })
    }

    /// Makes the session's repository from an address, through its mirror.
    pub async fn import_url(
        &self,
        session: SessionId,
        remote: &Remote,
        branch: Option<&str>,
        rules: &FetchRules,
    ) -> Result<Imported, GitError> {
        let (mirror, url) = (self.refresh_mirror(remote, rules).await?, &remote.url);
        let known = || {
            let some: Vec<_> = mirror.branches().take(8).collect();
            if some.is_empty() { "no branches".into() } else { some.join(", ") }
        };
        let repository = url.to_string();
        let branch = match branch.map(ToOwned::to_owned).or_else(|| mirror.default_branch.clone()) {
            Some(branch) => branch,
            None if mirror.branches().next().is_none() => return Err(GitError::Empty(repository)),
            None => return Err(GitError::NoDefaultBranch { repository, known: known() }),
        };
        let Some(head) = mirror.branch(&branch).cloned() else {
            return Err(GitError::NoBranch { branch, repository, known: known() });
        };
        let repository = self.create(session).await?;
        take_from(&mirror, &repository).await?;
        if branch == IN_THE_WAY {
            let update = ["update-ref", UPLOAD_HEAD_REF, &head];
            Git::new("update-ref", Some(&repository)).args(update).run().await?;
        }
        Ok(Imported { base: head.clone(), head, branch: Some(branch) })
    }

    /// Makes a repository with what one commit of another session's is made of.
    pub async fn copy(&self, from: SessionId, to: SessionId, commit: &str) -> Result<(), GitError> {
        let source = self.existing(from).await?;
        let repository = self.create(to).await?;
        Git::new("import", Some(&repository))
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--no-tags"])
            .arg(&source)
            .args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", NOT_IN_THE_WAY])
            .arg(format!("+{commit}:refs/patchyard/base"))
            .run()
            .await?;
        Ok(())
    }

    /// Makes the session's branch at `base` and lets HEAD name it, so that a clone checks it out.
    pub async fn start_branch(&self, session: SessionId, branch: &str, base: &str) -> Result<(), GitError> {
        let repository = self.existing(session).await?;
        let name = format!("refs/heads/{branch}");
        Git::new("update-ref", Some(&repository)).args(["update-ref", &name, base]).run().await?;
        Git::new("symbolic-ref", Some(&repository)).args(["symbolic-ref", "HEAD", &name]).run().await?;
        Ok(())
    }

    /// Takes in the workspace's state: a bundle with the session's branch, made in the sandbox.
    /// The branch moves there, and a private ref of its own keeps this state.
    pub async fn import_checkpoint(
        &self,
        session: SessionId,
        branch: &str,
        number: u64,
        bundle: &Path,
    ) -> Result<Checkpoint, GitError> {
        let repository = self.existing(session).await?;
        let kept = format!("refs/patchyard/checkpoints/{number}");
        Git::new("import", Some(&repository))
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--force"])
            .arg(bundle)
            .arg(format!("+refs/heads/{branch}:{kept}"))
            .run()
            .await?;
        self.move_branch(&repository, branch, &kept).await
    }

    /// The state of the session's branch as it is, kept as a checkpoint: where nothing was committed.
    pub async fn keep_checkpoint(
        &self,
        session: SessionId,
        branch: &str,
        number: u64,
    ) -> Result<Checkpoint, GitError> {
        let repository = self.existing(session).await?;
        let kept = format!("refs/patchyard/checkpoints/{number}");
        let tip = format!("refs/heads/{branch}");
        Git::new("update-ref", Some(&repository)).args(["update-ref", &kept, &tip]).run().await?;
        self.move_branch(&repository, branch, &kept).await
    }

    async fn move_branch(&self, repository: &Path, branch: &str, kept: &str) -> Result<Checkpoint, GitError> {
        let commit = resolve(repository, kept).await?;
        let tree = resolve(repository, &format!("{commit}^{{tree}}")).await?;
        let name = format!("refs/heads/{branch}");
        Git::new("update-ref", Some(repository)).args(["update-ref", &name, &commit]).run().await?;
        Ok(Checkpoint { commit, tree })
    }
}

/// Gives a new repository all that a mirror has.
async fn take_from(mirror: &Mirror, repository: &Path) -> Result<(), GitError> {
    if let Err(error) = link_objects(mirror.path.clone(), repository.to_owned()).await {
        // On another file system, for one.
        tracing::debug!(mirror = %mirror.path.display(), %error, "the packs of a mirror could not be linked");
        let fetch = Git::new("import", Some(repository))
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--no-tags"])
            .arg(&mirror.path)
            .args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", NOT_IN_THE_WAY]);
        fetch.run().await?;
        return Ok(());
    }
    let in_the_way = format!("refs/heads/{IN_THE_WAY}");
    let refs = mirror.refs.iter().filter(|(name, _)| **name != in_the_way);
    let orders: String = refs.map(|(name, object)| format!("create {name} {object}\n")).collect();
    Git::new("update-ref", Some(repository)).args(["update-ref", "--stdin"]).input(orders).run().await?;
    Ok(())
}

/// Gives a repository the packs of another one as links to the same files: git never changes a pack.
async fn link_objects(from: PathBuf, to: PathBuf) -> std::io::Result<()> {
    let linked = tokio::task::spawn_blocking(move || {
        let (from, to) = (from.join("objects/pack"), to.join("objects/pack"));
        for entry in std::fs::read_dir(&from)?.flatten() {
            let name = entry.file_name();
            let kind = Path::new(&name).extension().and_then(OsStr::to_str);
            // The index goes last, in the order of git itself: a pack is there once its index is.
            if matches!(kind, Some("pack" | "rev")) {
                std::fs::hard_link(entry.path(), to.join(&name))?;
            }
        }
        for entry in std::fs::read_dir(&from)?.flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "idx") {
                std::fs::hard_link(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    });
    linked.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Whether a bundle says that its objects have SHA-256 names; git itself would only find them broken.
async fn has_long_names(bundle: &Path) -> bool {
    let mut head = Vec::new();
    if let Ok(file) = tokio::fs::File::open(bundle).await {
        // What cannot be read git tells better.
        let _ = file.take(1024).read_to_end(&mut head).await;
    }
    let mut lines = head.split(|byte| *byte == b'\n').skip(1).take_while(|line| line.starts_with(b"@"));
    lines.any(|line| line == b"@object-format=sha256")
}

/// The object that a name stands for.
pub(crate) async fn resolve(repository: &Path, name: &str) -> Result<String, GitError> {
    Git::new("rev-parse", Some(repository))
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options", name])
        .text()
        .await
}
