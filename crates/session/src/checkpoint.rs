//! Recording the workspace: a commit made in the sandbox, pulled through the guest.
//!
//! ```text
//!  checkpoint.sh (in the sandbox) ─▶ commit ─▶ git bundle on stdout ─▶ scratch file
//!                                      ─▶ session repository ─▶ at rest: its branch ─▶ diff, counts
//! ```
//!
//! In the middle of a turn the session's branch stays where it is, in the sandbox and outside: what is
//! recorded there is kept beside it, and the branch is brought along at the turn's end, or when a
//! sandbox has to begin with it.
//!
//! The sandbox may claim any content; that is its work. It cannot choose where the bundle lands, how
//! large it may be, or what the diff between two commits is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use git_proxy::IDENTITY;
use protocol::event::{Checkpoint, EventBody, SessionError};
use protocol::hands::{ExecEvent, ExecSpec, Hands as _, HandsError};
use protocol::ids::ExecId;
use protocol::sandbox_host::REPOSITORY_MOUNT;
use protocol::usage::DiffStat;
use protocol::view::SessionView;
use tokio::io::AsyncWriteExt as _;
use ulid::Ulid;

use crate::driver::LiveSandbox;
use crate::large_files;
use crate::provision::workspace_path;
use crate::registry::Shared;

/// The largest bundle that a checkpoint may add.
const MAX_BUNDLE: u64 = 1024 * 1024 * 1024;

/// How much a command's text is kept of.
const MAX_TEXT: usize = 64 * 1024;

/// The newest commit that the session repository has of the workspace: the session's driver and the turn
/// that runs know the same. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tip(Arc<Mutex<String>>);

impl Tip {
    pub(crate) fn new(commit: String) -> Self {
        Self(Arc::new(Mutex::new(commit)))
    }

    pub(crate) fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, commit: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = commit;
    }
}

/// When the workspace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In the middle of a turn.
    Batch,
    /// Between turns.
    Rest,
}

/// A recorded state.
pub(crate) struct Taken {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) stat: DiffStat,
    /// What submodules hold that no commit has.
    pub(crate) left: Vec<Left>,
    /// Why the content of large files is in the sandbox alone.
    pub(crate) lost: Vec<String>,
}

impl Taken {
    /// The events that tell of it.
    pub(crate) fn events(self) -> Vec<EventBody> {
        let mut events = vec![EventBody::Checkpoint(self.checkpoint), EventBody::DiffStat(self.stat)];
        events.extend(left_in_submodules(&self.left));
        events.extend(lost_content(&self.lost));
        events
    }
}

/// A submodule with something that is in the sandbox alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    path: String,
    /// Commits, rather than changed files.
    commits: bool,
}

/// The most submodules that are named.
const MAX_LEFT: usize = 8;

/// Why a state could not be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("git in the sandbox failed: {0}")]
    Inside(String),
    #[error("the sandbox printed no commit but `{0}`")]
    NoCommit(String),
    #[error("the changes are over {} MB packed; remove large files or add them to .gitignore", MAX_BUNDLE / 1_000_000)]
    TooLarge,
    #[error(transparent)]
    Hands(#[from] HandsError),
    #[error(transparent)]
    Git(#[from] git_proxy::GitError),
    #[error("it took too long")]
    Deadline,
    #[error("the bundle could not be kept")]
    Scratch(#[source] std::io::Error),
}

/// The event for a state that could not be recorded.
pub(crate) fn failure(error: &CheckpointError) -> EventBody {
    let what_now = match error {
        CheckpointError::Hands(HandsError::Gone(_)) => {
            "What changed since the last checkpoint is lost with the sandbox."
        }
        _ => "The files are still in the sandbox; the next turn tries again.",
    };
    EventBody::Error(SessionError {
        code: "checkpoint_failed".into(),
        message: format!("The workspace could not be recorded: {error}. {what_now}"),
        retry_in_ms: None,
    })
}

/// Says what of submodules is not recorded: a session has their repositories to read alone.
fn left_in_submodules(left: &[Left]) -> Option<EventBody> {
    if left.is_empty() {
        return None;
    }
    let named = |commits: bool| {
        let of = left.iter().filter(|one| one.commits == commits).take(MAX_LEFT);
        of.map(|one| format!("`{}`", one.path)).collect::<Vec<_>>().join(", ")
    };
    let (files, commits) = (named(false), named(true));
    let mut told = Vec::new();
    if !files.is_empty() {
        told.push(format!("Changed files in the submodules {files} are not recorded and not pushed."));
    }
    if !commits.is_empty() {
        told.push(format!(
            "New commits in the submodules {commits} are not recorded and not pushed; until they are, nobody else \
             can check this branch out whole."
        ));
    }
    told.push(
        "They are in this session's sandbox alone: take them home with `patchyard sessions cp`, or begin a session \
         with that repository."
            .into(),
    );
    Some(EventBody::Error(SessionError {
        code: "submodule_changes".into(),
        message: told.join(" "),
        retry_in_ms: None,
    }))
}

/// Says that the content of large files is not recorded, where their pointers are.
fn lost_content(lost: &[String]) -> Option<EventBody> {
    let first = lost.first()?;
    Some(EventBody::Error(SessionError {
        code: "large_files".into(),
        message: format!(
            "The content of {} large files (LFS) could not be recorded: {first}. It is in this session's sandbox \
             alone: take it home with `patchyard sessions cp`.",
            lost.len()
        ),
        retry_in_ms: None,
    }))
}

/// Reads `files PATH` and `commits PATH`.
fn read_left(said: &str) -> Vec<Left> {
    let lines = said.lines().skip(1).filter_map(|line| {
        let (word, path) = line.split_once(' ')?;
        let path = path.chars().filter(|c| !c.is_control()).take(200).collect();
        matches!(word, "files" | "commits").then_some(Left { path, commits: word == "commits" })
    });
    lines.take(4 * MAX_LEFT).collect()
}

/// Records the workspace and brings it into the session repository. `tip` is the newest commit that
/// the repository has. In the middle of a turn nothing is recorded where nothing changed.
pub(crate) async fn take(
    shared: &Shared,
    facts: &SessionView,
    sandbox: &LiveSandbox,
    (tip, moment): (&str, Moment),
    prompt: &str,
) -> Result<Option<Taken>, CheckpointError> {
    let repositories = &shared.repositories;
    let link = repositories.newest_link(facts.id).await?;
    let (commit, left) = commit_inside(facts, sandbox, (tip, moment, link.as_deref()), prompt).await?;
    if moment == Moment::Batch && commit == tip {
        return Ok(None);
    }
    let number = u64::try_from(shared.store.clock().now().as_millisecond()).unwrap_or_default();
    let checkpoint = match repositories.keep_checkpoint(facts.id, number, &commit).await? {
        Some(checkpoint) => checkpoint,
        None => {
            let bundle = pull_bundle(shared, facts, sandbox, (tip, link.as_deref())).await?;
            repositories.import_checkpoint(facts.id, &facts.branch, number, bundle.path()).await?
        }
    };
    let lost = large_files::bring_home(shared, facts, sandbox, (&checkpoint.commit, tip)).await;
    if moment == Moment::Rest {
        repositories.move_branch(facts.id, &facts.branch, &checkpoint.commit).await?;
    }
    let diff = repositories.diff(facts.id, &facts.base, &checkpoint.commit).await?;
    Ok(Some(Taken { checkpoint, stat: diff.stat, left, lost }))
}

/// Lets the files of the workspace be those of a checkpoint; what git ignores stays. The workspace has to be
/// recorded as it is just before.
pub(crate) async fn put_back(
    facts: &SessionView,
    sandbox: &LiveSandbox,
    commit: &str,
) -> Result<(), CheckpointError> {
    let env = [("WORKSPACE", workspace_path(facts)), ("COMMIT", commit.to_owned())];
    run_inside(sandbox, include_str!("put_back.sh"), env.into()).await.map(drop)
}

/// Makes the commit in the sandbox; it is `tip` where nothing changed in the middle of a turn. Also what
/// submodules hold beside it.
async fn commit_inside(
    facts: &SessionView,
    sandbox: &LiveSandbox,
    (tip, moment, link): (&str, Moment, Option<&str>),
    prompt: &str,
) -> Result<(String, Vec<Left>), CheckpointError> {
    let message = format!("{}\n\nPatchyard-Session: {}", crate::names::title(prompt), facts.id);
    let env = [
        ("WORKSPACE", workspace_path(facts)),
        ("BRANCH", facts.branch.clone()),
        ("TIP", tip.to_owned()),
        ("MESSAGE", message),
        ("REPOSITORY", REPOSITORY_MOUNT.to_owned()),
        ("MOMENT", if moment == Moment::Batch { "batch" } else { "rest" }.to_owned()),
        ("LINK", link.unwrap_or_default().to_owned()),
    ];
    let identity = IDENTITY.map(|(name, value)| (name, value.to_owned()));
    let out =
        run_inside(sandbox, include_str!("checkpoint.sh"), env.into_iter().chain(identity).collect()).await?;
    let text = String::from_utf8_lossy(&out);
    let left = read_left(&text);
    let text = text.split_ascii_whitespace().next().unwrap_or_default();
    let is_commit = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit {
        Ok((text.to_owned(), left))
    } else {
        Err(CheckpointError::NoCommit(text.chars().take(80).collect()))
    }
}

/// Runs a script of ours in the sandbox; what it printed.
async fn run_inside(
    sandbox: &LiveSandbox,
    script: &str,
    env: Vec<(&str, String)>,
) -> Result<Vec<u8>, CheckpointError> {
    let argv = ["sh", "-c", script].map(ToOwned::to_owned).into();
    let spec = ExecSpec {
        env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        timeout: Some(Duration::from_secs(120)),
        ..ExecSpec::new(ExecId::from(Ulid::generate()), argv, "/")
    };
    let mut execution = sandbox.link.start(spec).await?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = loop {
        match execution.next().await? {
            ExecEvent::Stdout(bytes) => keep(&mut out, &bytes),
            ExecEvent::Stderr(bytes) => keep(&mut err, &bytes),
            ExecEvent::Exited(end) => break end,
        }
    };
    if end.is_success() {
        return Ok(out);
    }
    let words = String::from_utf8_lossy(&err);
    let line = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    Err(CheckpointError::Inside(line.chars().take(300).collect()))
}

async fn pull_bundle(
    shared: &Shared,
    facts: &SessionView,
    sandbox: &LiveSandbox,
    (tip, link): (&str, Option<&str>),
) -> Result<tempfile::NamedTempFile, CheckpointError> {
    let file = tempfile::NamedTempFile::new_in(&shared.config.scratch).map_err(CheckpointError::Scratch)?;
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(CheckpointError::Scratch)?);
    let mut argv: Vec<String> = vec![
        "git".into(),
        "--git-dir=/var/lib/patchyard/checkpoint.git".into(),
        "bundle".into(),
        "create".into(),
        "--quiet".into(),
        "-".into(),
        format!("refs/heads/{}", facts.branch),
        "refs/patchyard/link".into(),
        format!("^{tip}"),
    ];
    argv.extend(link.map(|link| format!("^{link}")));
    let exec = ExecId::from(Ulid::generate());
    let spec = ExecSpec { timeout: Some(Duration::from_secs(120)), ..ExecSpec::new(exec, argv, "/") };
    let mut execution = sandbox.link.start(spec).await?;
    let (mut size, mut err) = (0u64, Vec::new());
    let end = loop {
        match execution.next().await? {
            ExecEvent::Stdout(bytes) => {
                size += bytes.len() as u64;
                if size > MAX_BUNDLE {
                    execution.signal(protocol::hands::ExecSignal::Kill).await?;
                    return Err(CheckpointError::TooLarge);
                }
                writer.write_all(&bytes).await.map_err(CheckpointError::Scratch)?;
            }
            ExecEvent::Stderr(bytes) => keep(&mut err, &bytes),
            ExecEvent::Exited(end) => break end,
        }
    };
    writer.flush().await.map_err(CheckpointError::Scratch)?;
    if end.is_success() {
        return Ok(file);
    }
    let words = String::from_utf8_lossy(&err).trim().chars().take(300).collect();
    Err(CheckpointError::Inside(words))
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_TEXT.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_submodules_is_said_in_plain_words() {
        let left = read_left("commit link\nfiles lib\ncommits a b\u{1b}[31m\nodd\n");
        assert_eq!(left.len(), 2);
        let Some(EventBody::Error(told)) = left_in_submodules(&left) else { panic!("{left:?}") };
        assert!(told.message.contains("submodules `lib` are not recorded"), "{}", told.message);
        assert!(told.message.contains("commits in the submodules `a b[31m`"), "{}", told.message);
        assert_eq!(left_in_submodules(&read_left("commit link\n")), None);
    }
}
