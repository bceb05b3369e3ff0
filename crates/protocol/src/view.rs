//! The one reducer: what a session looks like after its events.
//!
//! The store folds it into the session's row in the same transaction as the append; the API, the
//! page's list and the terminal show nothing else. Folding a whole log from nothing gives the same.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentRef;
use crate::event::{
    Checkpoint, Event, EventBody, Fork, PlanEntry, PlanStatus, Question, RepositoryOrigin, SavedWorkspace,
    Step,
};
use crate::git::{GitPush, PushOutcome};
use crate::ids::{Seq, SessionId, TurnId};
use crate::pull_request::{PullRequestCreate, PullRequestState};
use crate::status::{SandboxPhase, SessionStatus, StopReason, TurnPhase, TurnStatus};
use crate::usage::{DiffStat, Usage};

/// A session as lists and headers show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Its title.
    pub title: String,
    /// The agent that works.
    pub agent: String,
    /// The image of the sandbox.
    pub image: String,
    /// The environment; sessions of earlier versions have none and work in the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentRef>,
    /// Where the code comes from.
    pub repository: RepositoryOrigin,
    /// The commit that the user's branch points at.
    pub head: String,
    /// The diff's base.
    pub base: String,
    /// The branch that the work lands on.
    pub branch: String,
    /// The session that it goes on from, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// The branch was there before the session, and others have it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing_branch: bool,
    /// The one word.
    pub status: SessionStatus,
    /// The sandbox machine.
    pub sandbox: SandboxPhase,
    /// The turn machine.
    pub turn: TurnPhase,
    /// What it does now, for people: "editing src/lib.rs", "running cargo test". Empty when idle.
    pub activity: String,
    /// Why it failed or was suspended, where there is a reason.
    pub reason: Option<String>,
    /// Hidden from the list.
    pub archived: bool,
    /// When it was created.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When the last event came.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub updated_at: Timestamp,
    /// The last event that is folded in.
    pub last_seq: Seq,
    /// Turns that began.
    pub turns: u64,
    /// Prompts that wait.
    pub queued_prompts: u64,
    /// The turn that runs.
    pub current_turn: Option<TurnId>,
    /// How the last turn ended.
    pub last_turn: Option<TurnOutcome>,
    /// Lines and files against the base.
    pub diff: DiffStat,
    /// The newest recorded workspace state.
    pub checkpoint: Option<Checkpoint>,
    /// What its last sandbox left, kept whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<SavedWorkspace>,
    /// The newest push to the repository that the session came from; refused ones are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<GitPush>,
    /// The commit that the session's branch has there, as far as the session pushed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed: Option<String>,
    /// The newest wish for a pull request, and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request_create: Option<PullRequestCreate>,
    /// The session's pull request, as the forge told of it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequestState>,
    /// Everything that the models used.
    pub usage: Usage,
    /// The agent's todo list.
    pub plan: Vec<PlanEntry>,
    /// What the person is asked now.
    pub question: Option<Question>,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TurnOutcome {
    /// The turn.
    pub turn: TurnId,
    /// How.
    pub status: TurnStatus,
    /// Why.
    pub stop_reason: StopReason,
    /// A sentence for the person.
    pub message: Option<String>,
}

impl SessionView {
    /// The view after the first event, which must be `session.created`; `None` for any other.
    #[must_use]
    pub fn begin(event: &Event) -> Option<Self> {
        let EventBody::SessionCreated(created) = &event.body else { return None };
        Some(Self {
            id: event.session,
            title: created.title.clone(),
            agent: created.agent.clone(),
            image: created.image.clone(),
            environment: created.environment.clone(),
            repository: created.repository.clone(),
            head: created.head.clone(),
            base: created.base.clone(),
            branch: created.branch.clone(),
            fork: created.fork,
            existing_branch: created.existing_branch,
            status: SessionStatus::of(SandboxPhase::None, TurnPhase::Queued),
            sandbox: SandboxPhase::None,
            turn: TurnPhase::Queued,
            activity: String::new(),
            reason: None,
            archived: false,
            created_at: event.at,
            updated_at: event.at,
            last_seq: event.seq,
            turns: 0,
            queued_prompts: 0,
            current_turn: None,
            last_turn: None,
            diff: DiffStat::default(),
            checkpoint: None,
            saved: None,
            push: None,
            pushed: None,
            pull_request_create: None,
            pull_request: None,
            usage: Usage::default(),
            plan: Vec::new(),
            question: None,
        })
    }

    /// Folds a whole log; `None` when it does not begin with `session.created`.
    #[must_use]
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Self> {
        let mut events = events.into_iter();
        let mut view = Self::begin(events.next()?)?;
        for event in events {
            view.apply(event);
        }
        Some(view)
    }

    /// Folds the next event in.
    pub fn apply(&mut self, event: &Event) {
        self.last_seq = event.seq;
        self.updated_at = event.at;
        match &event.body {
            EventBody::SessionStatus(change) => {
                self.sandbox = change.sandbox;
                self.turn = change.turn;
                self.status = change.status;
                self.reason.clone_from(&change.reason);
                if !self.status.is_busy() {
                    self.activity.clear();
                }
            }
            EventBody::SessionArchived { archived } => self.archived = *archived,
            EventBody::StepStarted { step } => self.activity = step_activity(*step).into(),
            EventBody::PromptQueued { .. } => self.queued_prompts += 1,
            EventBody::PromptCancelled { .. } | EventBody::PromptDelivered { .. } => {
                self.queued_prompts = self.queued_prompts.saturating_sub(1);
            }
            EventBody::TurnStarted { .. } => {
                self.turns += 1;
                self.queued_prompts = self.queued_prompts.saturating_sub(1);
                self.current_turn = event.turn;
                self.activity = "thinking".into();
            }
            EventBody::TurnEnded(ended) => self.end_turn(event.turn, ended),
            EventBody::ToolCall(call) => self.activity = format!("{} {}", call.name, call.title),
            EventBody::ToolResult(_) => self.activity = "thinking".into(),
            EventBody::Plan { entries } => {
                self.plan.clone_from(entries);
                if let Some(now) = entries.iter().find(|entry| entry.status == PlanStatus::InProgress) {
                    self.activity.clone_from(&now.active_form);
                }
            }
            EventBody::QuestionAsked(question) => self.question = Some(question.clone()),
            EventBody::QuestionAnswered { .. } => self.question = None,
            EventBody::Checkpoint(checkpoint) => self.checkpoint = Some(checkpoint.clone()),
            EventBody::WorkspaceSaved(saved) => {
                self.saved = (!saved.layers.is_empty()).then(|| saved.clone());
            }
            EventBody::GitPush(push) => self.pushed(push),
            EventBody::PullRequestCreate(create) => self.pull_request_create = Some(create.clone()),
            EventBody::PullRequestState(state) => self.pull_request = Some(state.clone()),
            EventBody::DiffStat(stat) => self.diff = *stat,
            EventBody::Usage { usage, .. } => self.usage += *usage,
            EventBody::ThreadEvent(inner) => self.in_thread(&inner.event),
            EventBody::SessionCreated(_)
            | EventBody::SessionRewound(_)
            | EventBody::StepOutput { .. }
            | EventBody::StepFinished { .. }
            | EventBody::PromptEdited { .. }
            | EventBody::TurnResumed {}
            | EventBody::TurnInterrupted { .. }
            | EventBody::ShellOpened { .. }
            | EventBody::ShellClosed { .. }
            | EventBody::FilesCopied { .. }
            | EventBody::NetworkDenied(_)
            | EventBody::NetworkAllowed(_)
            | EventBody::AgentMessage(_)
            | EventBody::AgentThought(_)
            | EventBody::ThreadStarted(_)
            | EventBody::ThreadEnded(_)
            | EventBody::ContextAdded { .. }
            | EventBody::ContextCompacted(_)
            | EventBody::CommandRan(_)
            | EventBody::Error(_)
            | EventBody::Unknown(_) => {}
        }
    }

    /// What a thread uses counts; its todo list is its own.
    fn in_thread(&mut self, body: &EventBody) {
        match body {
            EventBody::Usage { usage, .. } => self.usage += *usage,
            EventBody::ToolCall(call) => self.activity = format!("{} {}", call.name, call.title),
            _ => {}
        }
    }

    fn pushed(&mut self, push: &GitPush) {
        if push.outcome == PushOutcome::Refused {
            return;
        }
        let own = format!("refs/heads/{}", self.branch);
        if push.outcome == PushOutcome::Done
            && let Some(one) = push.refs.iter().find(|one| one.name == own)
        {
            self.pushed.clone_from(&one.new);
        }
        self.push = Some(push.clone());
    }

    fn end_turn(&mut self, turn: Option<TurnId>, ended: &crate::event::TurnEnded) {
        self.current_turn = None;
        self.question = None;
        self.activity.clear();
        self.last_turn = turn.map(|turn| TurnOutcome {
            turn,
            status: ended.status,
            stop_reason: ended.stop_reason,
            message: ended.message.clone(),
        });
    }
}

fn step_activity(step: Step) -> &'static str {
    match step {
        Step::Sandbox => "starting the sandbox",
        Step::Workspace => "preparing the workspace",
        Step::Setup => "running the setup script",
        Step::Cache => "keeping the prepared state",
        Step::Hooks => "running the SessionStart hooks",
        Step::Mcp => "starting the MCP servers",
    }
}
