//! The one JSON object that `--output-format json` prints last.

use protocol::ids::SessionId;
use protocol::status::{SessionStatus, StopReason, TurnStatus};
use protocol::usage::Usage;
use protocol::view::SessionView;
use serde::Serialize;

/// A session as scripts read it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) session_id: SessionId,
    /// How the last turn ended; before that, where the session is.
    pub(crate) status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_reason: Option<StopReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    pub(crate) title: String,
    /// The environment's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<String>,
    pub(crate) branch: String,
    pub(crate) base: String,
    pub(crate) head: String,
    pub(crate) commit: Option<String>,
    pub(crate) additions: u64,
    pub(crate) deletions: u64,
    pub(crate) files_changed: u64,
    pub(crate) turns: u64,
    pub(crate) usage: Usage,
    pub(crate) url: String,
}

impl Outcome {
    pub(crate) fn of(view: &SessionView, url: String) -> Self {
        let last = view.last_turn.as_ref().filter(|_| !view.status.is_busy());
        let failed = view.status == SessionStatus::Failed;
        let status = match last {
            _ if failed => "failed".to_owned(),
            Some(last) => turn_word(last.status).to_owned(),
            None => view.status.as_str().to_owned(),
        };
        Self {
            session_id: view.id,
            status,
            stop_reason: last.filter(|_| !failed).map(|last| last.stop_reason),
            message: if failed { view.reason.clone() } else { last.and_then(|last| last.message.clone()) },
            title: view.title.clone(),
            environment: view.environment.as_ref().map(|environment| environment.name.clone()),
            branch: view.branch.clone(),
            base: view.base.clone(),
            head: view.head.clone(),
            commit: view.checkpoint.as_ref().map(|point| point.commit.clone()),
            additions: view.diff.additions,
            deletions: view.diff.deletions,
            files_changed: view.diff.files_changed,
            turns: view.turns,
            usage: view.usage,
            url,
        }
    }

    /// Whether the task was done.
    pub(crate) fn is_completed(&self) -> bool {
        self.status == "completed"
    }
}

fn turn_word(status: TurnStatus) -> &'static str {
    match status {
        TurnStatus::Completed => "completed",
        TurnStatus::Interrupted => "interrupted",
        TurnStatus::Failed => "failed",
        TurnStatus::Limit => "limit",
    }
}
