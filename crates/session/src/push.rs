//! The branch of a session at the end of a turn: pushed to where the session came from.
//!
//! ```text
//!   checkpoint ─ wanted? ─▶ `git.push` planned, with the checkpoint ─▶ the branch there is asked for, then
//!   pushed ─▶ `git.push` done, rejected or failed
//!   a crash between the two: the next start finds the plan in the log, and asks again before it pushes
//! ```

use git_proxy::Remote;
use protocol::event::EventBody;
use protocol::git::{GitPush, PushOutcome, PushedBy, PushedRef};
use protocol::ids::SessionId;
use protocol::view::SessionView;

use crate::gateways::remote_of;
use crate::large_files;
use crate::registry::{Sessions, Shared};

/// Why a push is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A turn ended.
    ByTurn,
    /// A person wants the branch to be there, whatever the operator wants at the end of turns.
    ByPerson,
}

/// A push that is to be made.
pub(crate) struct Plan {
    remote: Remote,
    /// What the session pushed last.
    known: Option<String>,
    planned: GitPush,
}

impl Plan {
    /// The event that plans it.
    pub(crate) fn event(&self) -> EventBody {
        EventBody::GitPush(self.planned.clone())
    }
}

/// The push of a commit, where one is wanted: there is work, it is not there yet, and the way is known.
pub(crate) async fn plan(shared: &Shared, session: SessionId, commit: &str, wanted: Wanted) -> Option<Plan> {
    let is_asked = wanted == Wanted::ByPerson;
    if !(shared.config.push_branches || is_asked) || shared.stopping.is_cancelled() {
        return None;
    }
    let view = shared.store.session(session).await.ok()?;
    // For a person it is looked there whether it still is what was pushed.
    if !is_asked && commit == view.base {
        return None;
    }
    // A git without git-lfs in the sandbox pushes pointers alone.
    let is_there = view.pushed.as_deref() == Some(commit);
    if !is_asked && is_there && !large_files::are_new(shared, &view, commit).await {
        return None;
    }
    let remote = remote_of(&shared.store, shared.config.personal_tokens, &view).await.ok()?;
    remote.credential.as_ref()?;
    let planned = GitPush {
        repository: remote.url.to_string(),
        by: PushedBy::Server,
        outcome: PushOutcome::Planned,
        refs: vec![PushedRef {
            name: format!("refs/heads/{}", view.branch),
            old: view.pushed.clone(),
            new: Some(commit.to_owned()),
            error: None,
        }],
        words: None,
    };
    // A branch that others have too is never moved but forward.
    let known = view.pushed.filter(|_| !view.existing_branch);
    Some(Plan { remote, known, planned })
}

/// Makes a push that is on record as planned; how it ended.
pub(crate) async fn run(shared: &Shared, session: SessionId, branch: &str, plan: Plan) -> EventBody {
    let Plan { remote, known, planned } = plan;
    let failed =
        |words: String| GitPush { outcome: PushOutcome::Failed, words: Some(words), ..planned.clone() };
    // Nothing goes out that is not on record.
    let push = match shared.pushes.write(session, planned.clone()).await {
        Err(error) => failed(format!("the push cannot be recorded: {error}")),
        Ok(()) => {
            let (way, limit) = ((&remote, known.as_deref()), shared.config.deadlines.push);
            match tokio::time::timeout(limit, publish(shared, session, branch, way, &planned)).await {
                Ok(Ok(push)) => push,
                Ok(Err(words)) => failed(words),
                Err(_) => failed(format!("it took longer than {} s", limit.as_secs())),
            }
        }
    };
    if let Err(error) = shared.pushes.write(session, push.clone()).await {
        tracing::warn!(%session, %error, "the end of a push could not be recorded");
    }
    EventBody::GitPush(push)
}

/// Sends the large files of a commit, and then the branch: one whose pointers lead nowhere is of use to nobody.
async fn publish(
    shared: &Shared,
    session: SessionId,
    branch: &str,
    way: (&Remote, Option<&str>),
    planned: &GitPush,
) -> Result<GitPush, String> {
    let view = shared.store.session(session).await.map_err(|error| error.to_string())?;
    let commit = planned.refs.first().and_then(|one| one.new.as_deref()).unwrap_or(&view.base);
    large_files::send(shared, &view, commit, way.0).await?;
    let pushed = shared.repositories.publish(session, branch, way, &shared.config.fetch).await;
    pushed.map_err(|error| error.to_string())
}

/// Whether a push was planned and nobody knows how it ended.
pub(crate) fn is_open(view: &SessionView) -> bool {
    let open = |push: &GitPush| push.outcome == PushOutcome::Planned && push.by == PushedBy::Server;
    view.push.as_ref().is_some_and(open)
}

/// Ends a push that a crash left open.
pub(crate) async fn resume(sessions: Sessions, view: SessionView) {
    let shared = &sessions.shared;
    let tip = view.checkpoint.as_ref().map_or(&view.base, |checkpoint| &checkpoint.commit);
    let event = match plan(shared, view.id, tip, Wanted::ByPerson).await {
        Some(plan) => run(shared, view.id, &view.branch, plan).await,
        None => {
            let Some(mut push) = view.push.clone() else { return };
            push.outcome = PushOutcome::Failed;
            push.words = Some("the server ended over it; the next turn pushes again".into());
            EventBody::GitPush(push)
        }
    };
    let noted = match sessions.handle(view.id).await {
        Ok(handle) => handle.note(event).await,
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        tracing::warn!(session = %view.id, %error, "a push could not be logged");
    }
}
