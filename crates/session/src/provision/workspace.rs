//! The workspace: cloned from the session repository, or taken over from a kept setup and verified.
//!
//! ```text
//!  no layer ─▶ git clone --shared ────────────────────────────────────────────▶ fresh
//!  layer    ─▶ refs of this session · git reset --hard COMMIT ─▶ HEAD? clean? ─┬▶ reused
//!                                                                              └▶ spoilt: built anew
//! ```
//!
//! What git says is said inside the sandbox. A setup script that makes it lie harms nobody but those
//! who begin with the same setup of the same environment and repository.

use std::time::Duration;

use git_proxy::{IDENTITY, Modules};
use protocol::event::Step;
use protocol::hands::ExecSpec;
use protocol::ids::{Epoch, SessionId};
use protocol::sandbox_host::REPOSITORY_MOUNT;
use protocol::view::SessionView;
use sandbox::guest_link::GuestLink;
use sha2::{Digest as _, Sha256};

use super::exec::{StepLog, ask, command, script};
use super::{large_files, modules, workspace_path};
use crate::registry::Shared;

/// How long git may take inside; the step's own deadline is a little longer.
const GIT: Duration = Duration::from_secs(280);

/// How much of git's words about a workspace is looked at.
const MAX_STATE: usize = 1024 * 1024;

// A shared clone borrows the objects of the mount, which lasts as long as the sandbox: nothing is
// copied, however long the history.
const CLONE: &str = r#"
rm -rf "$WORKSPACE"
mkdir -p "$(dirname "$WORKSPACE")"
git clone --quiet --shared --branch "$BRANCH" "$REPOSITORY" "$WORKSPACE"
git -C "$WORKSPACE" config user.name "$GIT_AUTHOR_NAME"
git -C "$WORKSPACE" config user.email "$GIT_AUTHOR_EMAIL""#;

// Refs of the session that made the layer may name objects that this session's repository has not: all
// of them go, and this session's come. Then only what differs between the two commits is written.
const TAKE_OVER: &str = r#"
cd "$WORKSPACE"
[ -d .git ] && [ ! -L .git ]
rm -rf .git/refs .git/packed-refs .git/logs .git/FETCH_HEAD .git/ORIG_HEAD .git/index.lock
mkdir -p .git/refs/heads .git/refs/tags .git/objects/info
printf 'ref: refs/heads/%s\n' "$BRANCH" > .git/HEAD
printf '%s/objects\n' "$REPOSITORY" > .git/objects/info/alternates
{
    git --git-dir="$REPOSITORY" for-each-ref refs/heads \
        --format='create refs/remotes/origin/%(refname:lstrip=2) %(objectname)'
    git --git-dir="$REPOSITORY" for-each-ref refs/tags --format='create %(refname) %(objectname)'
    printf 'create refs/heads/%s %s\n' "$BRANCH" "$COMMIT"
} | git update-ref --stdin
git config --local --name-only --get-regexp '^branch\.' | while IFS= read -r key; do
    git config --local --unset-all "$key" || :
done
git config --local "branch.$BRANCH.remote" origin
git config --local "branch.$BRANCH.merge" "refs/heads/$BRANCH"
if [ "$COMMIT" != "$WAS" ]; then
    git -c core.checkStat=minimal -c core.trustctime=false reset --quiet --hard "$COMMIT"
fi"#;

// Which commit is checked out, and what differs from it.
const STATE: &str = r#"cd "$WORKSPACE" && git rev-parse --verify HEAD &&
git -c core.checkStat=minimal -c core.trustctime=false status --porcelain=v1 -z $IGNORED"#;

/// A workspace to be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) path: String,
    pub(crate) branch: String,
    pub(crate) commit: String,
    /// Its submodules, and those that it has to do without.
    pub(crate) modules: Modules,
    /// Which large files stay pointers, and why.
    pub(crate) pointers: Vec<String>,
}

impl Wanted {
    /// That of a session whose branch is at `tip`.
    pub(crate) fn of(facts: &SessionView, tip: &str) -> Self {
        Self {
            path: workspace_path(facts),
            branch: facts.branch.clone(),
            commit: tip.to_owned(),
            modules: Modules::default(),
            pointers: Vec::new(),
        }
    }

    /// Fetches what belongs to it besides its repository, for a session that came from `url`.
    pub(crate) async fn bring(&mut self, shared: &Shared, session: SessionId, url: Option<&str>) {
        (self.modules, self.pointers) = tokio::join!(
            modules::bring(shared, session, url, &self.commit),
            large_files::bring(shared, session, url, &self.commit),
        );
    }

    /// Which submodules and large files it has to do without, and why.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &String> {
        self.modules.remarks.iter().chain(&self.pointers)
    }

    fn env(&self) -> Vec<(String, String)> {
        [
            ("WORKSPACE", self.path.as_str()),
            ("BRANCH", &self.branch),
            ("COMMIT", &self.commit),
            ("REPOSITORY", REPOSITORY_MOUNT),
            ("MODULES", &modules::lines(&self.modules.found)),
            ("LFS_FILTER", large_files::FILTER),
        ]
        .into_iter()
        .chain(IDENTITY)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }
}

/// A script that makes the workspace, with what belongs to it.
fn whole(text: &str) -> String {
    format!("set -eu{}{text}{}", large_files::INSTALL, modules::CHECK_OUT)
}

/// The command that clones the session repository.
pub(crate) fn clone_command(wanted: &Wanted) -> ExecSpec {
    command(script(&whole(CLONE)), "/", wanted.env(), GIT)
}

/// Clones the session repository.
pub(crate) async fn clone(log: &mut StepLog<'_>, link: &GuestLink, wanted: &Wanted) -> Result<(), String> {
    let end = log.run(link, clone_command(wanted)).await?;
    if end.is_success() {
        return tell(log, wanted).await;
    }
    let last = log.last_lines(1);
    let last = if last.is_empty() { "it gave no reason" } else { &last };
    Err(format!("the workspace could not be cloned from the session repository: {last}"))
}

/// Says which submodules and large files the workspace has to do without.
pub(crate) async fn tell(log: &mut StepLog<'_>, wanted: &Wanted) -> Result<(), String> {
    for remark in wanted.missing() {
        log.note(remark).await?;
    }
    Ok(())
}

/// Takes over the workspace that a layer holds. The inner error says why it is of no use.
pub(crate) async fn take_over(
    link: &GuestLink,
    wanted: &Wanted,
    was: &str,
    expected_state: &str,
) -> Result<Result<(), String>, String> {
    let mut env = wanted.env();
    env.push(("WAS".into(), was.to_owned()));
    let (end, _) = ask(link, command(script(&whole(TAKE_OVER)), "/", env, GIT), 0).await?;
    if !end.is_success() {
        return Ok(Err("its git repository could not be taken over".into()));
    }
    let Some(found) = state(link, wanted, Seen::Changes).await? else {
        return Ok(Err("git cannot say what it holds".into()));
    };
    if found.head != wanted.commit {
        return Ok(Err(format!("it is at {} and not at {}", short(&found.head), short(&wanted.commit))));
    }
    // Another commit is only asked of a layer whose script left the workspace as it was.
    let clean = if was == wanted.commit { found.digest == expected_state } else { found.is_clean };
    Ok(if clean { Ok(()) } else { Err("its files are not those that were kept".into()) })
}

/// What git says of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) head: String,
    /// Nothing differs from the commit.
    pub(crate) is_clean: bool,
    /// Digest of what differs.
    pub(crate) digest: String,
}

/// What counts as a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Tracked and untracked files.
    Changes,
    /// Ignored files, too.
    Everything,
}

/// What git says of a workspace; nothing when it says nothing.
pub(crate) async fn state(link: &GuestLink, wanted: &Wanted, seen: Seen) -> Result<Option<State>, String> {
    let mut env = wanted.env();
    let ignored = if seen == Seen::Everything { "--ignored" } else { "--ignored=no" };
    env.push(("IGNORED".into(), ignored.into()));
    let (end, said) = ask(link, command(script(STATE), "/", env, GIT), MAX_STATE).await?;
    let Some(line) = said.iter().position(|byte| *byte == b'\n').filter(|_| end.is_success()) else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&said[..line]).into_owned();
    let rest = &said[line + 1..];
    let digest = Sha256::digest(rest).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(State { head, is_clean: rest.is_empty(), digest }))
}

/// The log of the step.
pub(crate) fn log(shared: &Shared, session: SessionId, epoch: Epoch) -> StepLog<'_> {
    StepLog::new(shared, session, epoch, Step::Workspace)
}

/// A commit as people read it; what came from a sandbox is cut to the same.
pub(crate) fn short(commit: &str) -> String {
    commit.chars().filter(char::is_ascii_alphanumeric).take(10).collect()
}
