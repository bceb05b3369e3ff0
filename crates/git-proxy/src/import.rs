//! How code gets into a session's repository.
//!
//! ```text
//!  import_bundle · import_url ─▶ branches, tags, head, base          the packs of a mirror are linked
//!  start_branch ───────────────▶ refs/heads/<session branch> at base; HEAD names it
//!  import_checkpoint ──────────▶ refs/patchyard/checkpoints/<n> keeps it, refs/patchyard/link goes on
//!  move_branch ────────────────▶ the session's branch, at the end of a turn
//! ```

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use protocol::api::{UPLOAD_HEAD_REF, UPLOAD_WIP_REF};
use protocol::event::Checkpoint;
use protocol::ids::SessionId;
use tokio::io::AsyncReadExt as _;

use crate::command::Git;
use crate::error::GitError;
use crate::lfs::store;
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
        store::link_all(&source, &repository).await
    }

    /// Makes a repository with what another session's had at some of its checkpoints: the branches and
    /// tags that the session found, its base, and these commits, but not its own branch.
    pub async fn fork(
        &self,
        from: (SessionId, &str),
        to: SessionId,
        base: &str,
        commits: &[String],
    ) -> Result<(), GitError> {
        let (source, branch) = (self.existing(from.0).await?, from.1);
        let repository = self.create(to).await?;
        let mut specs = format!(
            "+refs/heads/*:refs/heads/*\n+refs/tags/*:refs/tags/*\n{NOT_IN_THE_WAY}\n^refs/heads/{branch}\n\
             +{base}:refs/patchyard/base\n"
        );
        for (number, commit) in commits.iter().enumerate() {
            let _ = writeln!(specs, "+{commit}:{}", checkpoint_ref(number as u64));
        }
        Git::new("import", Some(&repository))
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--stdin"])
            .arg(&source)
            .input(specs)
            .run()
            .await?;
        store::link_all(&source, &repository).await
    }

    /// Puts the files of an earlier commit on top of a newer one, and lets the session's branch be there.
    pub async fn put_back(
        &self,
        (session, branch): (SessionId, &str),
        number: u64,
        (files_of, on): (&str, &str),
        message: &str,
    ) -> Result<Checkpoint, GitError> {
        let repository = self.existing(session).await?;
        let tree = state_of(&repository, files_of).await?.tree;
        let commit = if state_of(&repository, on).await?.tree == tree {
            on.to_owned()
        } else {
            let mut git = Git::new("commit-tree", Some(&repository));
            for (name, value) in IDENTITY {
                git = git.env(name, value);
            }
            git.args(["commit-tree", &tree, "-p", on]).input(message).text().await?
        };
        let update = ["update-ref", &checkpoint_ref(number), &commit];
        Git::new("update-ref", Some(&repository)).args(update).run().await?;
        self.move_branch(session, branch, &commit).await?;
        Ok(Checkpoint { commit, tree })
    }

    /// Makes the session's branch at `base` and lets HEAD name it, so that a clone checks it out.
    pub async fn start_branch(&self, session: SessionId, branch: &str, base: &str) -> Result<(), GitError> {
        let repository = self.existing(session).await?;
        let name = format!("refs/heads/{branch}");
        Git::new("update-ref", Some(&repository)).args(["update-ref", &name, base]).run().await?;
        Git::new("symbolic-ref", Some(&repository)).args(["symbolic-ref", "HEAD", &name]).run().await?;
        Ok(())
    }

    /// Takes in the workspace's state: a bundle with the session's branch and the newest link, made in
    /// the sandbox. A private ref of its own keeps this state; the session's branch stays where it is.
    pub async fn import_checkpoint(
        &self,
        session: SessionId,
        branch: &str,
        number: u64,
        bundle: &Path,
    ) -> Result<Checkpoint, GitError> {
        let repository = self.existing(session).await?;
        let kept = checkpoint_ref(number);
        Git::new("import", Some(&repository))
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--force"])
            .arg(bundle)
            .arg(format!("+refs/heads/{branch}:{kept}"))
            .arg(format!("+{LINK_REF}:{LINK_REF}"))
            .run()
            .await?;
        state_of(&repository, &kept).await
    }

    /// Keeps a commit as a checkpoint that the repository has already; none when it has it not.
    pub async fn keep_checkpoint(
        &self,
        session: SessionId,
        number: u64,
        commit: &str,
    ) -> Result<Option<Checkpoint>, GitError> {
        let repository = self.existing(session).await?;
        let Ok(state) = state_of(&repository, &format!("{commit}^{{commit}}")).await else { return Ok(None) };
        let update = ["update-ref", &checkpoint_ref(number), commit];
        Git::new("update-ref", Some(&repository)).args(update).run().await?;
        Ok(Some(state))
    }

    /// The newest link between checkpoints: what a sandbox need not send again.
    pub async fn newest_link(&self, session: SessionId) -> Result<Option<String>, GitError> {
        Ok(resolve(&self.existing(session).await?, LINK_REF).await.ok())
    }

    /// Lets the session's branch be at a commit.
    pub async fn move_branch(&self, session: SessionId, branch: &str, commit: &str) -> Result<(), GitError> {
        let repository = self.existing(session).await?;
        let name = format!("refs/heads/{branch}");
        Git::new("update-ref", Some(&repository)).args(["update-ref", &name, commit]).run().await?;
        Ok(())
    }
}

/// Who commits what nobody else did.
pub const IDENTITY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "patchyard"),
    ("GIT_AUTHOR_EMAIL", "patchyard@localhost"),
    ("GIT_COMMITTER_NAME", "patchyard"),
    ("GIT_COMMITTER_EMAIL", "patchyard@localhost"),
];

/// Where the newest link between checkpoints is.
const LINK_REF: &str = "refs/patchyard/link";

fn checkpoint_ref(number: u64) -> String {
    format!("refs/patchyard/checkpoints/{number}")
}

async fn state_of(repository: &Path, name: &str) -> Result<Checkpoint, GitError> {
    let commit = resolve(repository, name).await?;
    let tree = resolve(repository, &format!("{commit}^{{tree}}")).await?;
    Ok(Checkpoint { commit, tree })
}

/// Gives a new repository all that a mirror has.
pub(crate) async fn take_from(mirror: &Mirror, repository: &Path) -> Result<(), GitError> {
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
