//! Session events: the vocabulary of the log.
//!
//! ```text
//!  { "seq": 12, "at": "2026-11-20T12:00:00Z", "epoch": 1, "turn": "trn_…", "causation": 11,
//!    "kind": "tool.call", "body": { … } }
//! ```
//!
//! A durable event carries everything; live deltas ([`LiveDelta`]) are ephemeral, unnumbered and
//! superseded by the durable event that follows. A kind that a reader does not know passes through
//! it unchanged ([`EventBody::Unknown`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::conversation::{CommandRan, Compaction, CompactionTrigger};
use crate::environment::EnvironmentRef;
use crate::git::GitPush;
use crate::ids::{Epoch, LayerId, PromptId, QuestionId, Seq, SessionId, ShellId, TurnId};
pub use crate::network::{NetworkAllowed, NetworkDenied};
use crate::prompt::Delivery;
use crate::pull_request::{PullRequestCreate, PullRequestState};
pub use crate::question::{Answer, Question, QuestionOption};
pub use crate::rewind::{Fork, Rewound};
use crate::status::{SandboxPhase, SessionStatus, StopReason, TurnPhase, TurnStatus};
pub use crate::thread::{ThreadEnded, ThreadEvent, ThreadStarted};
pub use crate::tool::{BlobRef, ToolCall, ToolResult};
use crate::usage::{DiffStat, Usage};

/// One entry of a session's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// The session.
    pub session: SessionId,
    /// Dense from 1 within the session.
    pub seq: Seq,
    /// When it was committed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// The generation of the writer.
    pub epoch: Epoch,
    /// The turn that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// The event that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<Seq>,
    /// Kind and body.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(inline))]
    pub body: EventBody,
}

/// What happened. Adjacently tagged: `kind` and `body`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", content = "body")]
pub enum EventBody {
    /// The session exists. Always seq 1.
    #[serde(rename = "session.created")]
    SessionCreated(SessionCreated),
    /// One of the two machines moved.
    #[serde(rename = "session.status")]
    SessionStatus(StatusChange),
    /// The session was hidden from or brought back to the list.
    #[serde(rename = "session.archived")]
    SessionArchived { archived: bool },
    /// The session went back to a checkpoint.
    #[serde(rename = "session.rewound")]
    SessionRewound(Rewound),
    /// A step of the preparation began.
    #[serde(rename = "step.started")]
    StepStarted { step: Step },
    /// What a step printed, whole lines, capped.
    #[serde(rename = "step.output")]
    StepOutput { step: Step, text: String },
    /// A step ended; with an `error` it failed and so did the session.
    #[serde(rename = "step.finished")]
    StepFinished {
        step: Step,
        duration_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// What is worth knowing of a step that went well, a sentence: what was reused, what was not kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A prompt was accepted; it is durable from here on.
    #[serde(rename = "prompt.queued")]
    PromptQueued {
        prompt: PromptId,
        text: String,
        #[serde(default, skip_serializing_if = "Delivery::is_next")]
        delivery: Delivery,
    },
    /// A waiting prompt was changed.
    #[serde(rename = "prompt.edited")]
    PromptEdited { prompt: PromptId, text: String, delivery: Delivery },
    /// A waiting prompt was taken back.
    #[serde(rename = "prompt.cancelled")]
    PromptCancelled { prompt: PromptId },
    /// A waiting prompt was handed over into the turn that runs.
    #[serde(rename = "prompt.delivered")]
    PromptDelivered { prompt: PromptId },
    /// A turn began with a queued prompt.
    #[serde(rename = "turn.started")]
    TurnStarted { prompt: PromptId },
    /// The server died and came back; the turn goes on.
    #[serde(rename = "turn.resumed")]
    TurnResumed {},
    /// Somebody asked the turn to stop.
    #[serde(rename = "turn.interrupted")]
    TurnInterrupted { reason: StopReason },
    /// The turn is over.
    #[serde(rename = "turn.ended")]
    TurnEnded(TurnEnded),
    /// A text block of the agent.
    #[serde(rename = "agent.message")]
    AgentMessage(AgentBlock),
    /// A thinking block of the agent.
    #[serde(rename = "agent.thought")]
    AgentThought(AgentBlock),
    /// A tool call, durable before the tool starts.
    #[serde(rename = "tool.call")]
    ToolCall(ToolCall),
    /// The one result of a tool call.
    #[serde(rename = "tool.result")]
    ToolResult(ToolResult),
    /// An agent of the agent's began to work.
    #[serde(rename = "thread.started")]
    ThreadStarted(ThreadStarted),
    /// Something happened in a thread.
    #[serde(rename = "thread.event")]
    ThreadEvent(ThreadEvent),
    /// A thread is over.
    #[serde(rename = "thread.ended")]
    ThreadEnded(ThreadEnded),
    /// The agent's todo list, whole.
    #[serde(rename = "plan")]
    Plan { entries: Vec<PlanEntry> },
    /// The model is told something besides prompts and results: what a hook said.
    #[serde(rename = "context.added")]
    ContextAdded {
        /// Who says it, such as `SessionStart hook`.
        source: String,
        /// What the model reads.
        text: String,
    },
    /// What the model is sent became shorter: summed up, or without old results.
    #[serde(rename = "context.compacted")]
    ContextCompacted(Compaction),
    /// A prompt was a command to the agent.
    #[serde(rename = "command.ran")]
    CommandRan(CommandRan),
    /// The agent asks the person.
    #[serde(rename = "question.asked")]
    QuestionAsked(Question),
    /// The person answered, or the deadline did.
    #[serde(rename = "question.answered")]
    QuestionAnswered { question: QuestionId, answer: Answer },
    /// The workspace's state was recorded in the session repository.
    #[serde(rename = "checkpoint")]
    Checkpoint(Checkpoint),
    /// Before the sandbox was taken down, what it wrote was kept whole, in these layers, the newest last.
    /// Without one, the next sandbox begins with the newest checkpoint.
    #[serde(rename = "workspace.saved")]
    WorkspaceSaved(SavedWorkspace),
    /// A person opened a shell in the sandbox.
    #[serde(rename = "shell.opened")]
    ShellOpened { shell: ShellId, command: Vec<String> },
    /// A person's shell is over.
    #[serde(rename = "shell.closed")]
    ShellClosed {
        shell: ShellId,
        duration_ms: u64,
        /// Exit code, where it ended by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// Why, where it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A person copied files into or out of the sandbox.
    #[serde(rename = "files.copied")]
    FilesCopied {
        /// Where in the sandbox.
        path: String,
        /// Which way.
        direction: CopyDirection,
        /// Bytes of the archive.
        bytes: u64,
    },
    /// The sandbox tried to reach something and was refused; the same again is not told for a while.
    #[serde(rename = "network.denied")]
    NetworkDenied(NetworkDenied),
    /// A person decided about something that was refused, or would be.
    #[serde(rename = "network.allowed")]
    NetworkAllowed(NetworkAllowed),
    /// Somebody pushed to the repository that the session came from, or is about to.
    #[serde(rename = "git.push")]
    GitPush(GitPush),
    /// A pull request is wanted, or how that wish ended.
    #[serde(rename = "pr.create")]
    PullRequestCreate(PullRequestCreate),
    /// The session's pull request, where the forge tells something else than before.
    #[serde(rename = "pr.state")]
    PullRequestState(PullRequestState),
    /// Lines added and deleted since the base.
    #[serde(rename = "diffstat")]
    DiffStat(DiffStat),
    /// What one model request used.
    #[serde(rename = "usage")]
    Usage { model: String, usage: Usage },
    /// Something went wrong that the person should see; a retry is announced by one too.
    #[serde(rename = "error")]
    Error(SessionError),
    /// A kind that this version does not know.
    #[serde(untagged)]
    Unknown(UnknownEvent),
}

/// An event of a newer version, kept as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnknownEvent {
    /// Its kind.
    pub kind: String,
    /// Its body.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub body: Value,
}

/// Body of `session.created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionCreated {
    /// Made from the prompt; one line, at most 80 characters.
    pub title: String,
    /// The agent that works: `patchyard`, or the name of a configured ACP agent.
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
    /// The commit that the workspace starts from and the diff's base: `head`, or a commit on top
    /// of it with the user's uncommitted changes to tracked files.
    pub base: String,
    /// The branch that the work lands on, `patchyard/<slug>-<id>`, or one that was there before.
    pub branch: String,
    /// The session that it goes on from, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// The branch was there before, and others have it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing_branch: bool,
}

/// Where a session's code comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RepositoryOrigin {
    /// Last component of the path or URL, for display and the workspace folder.
    pub name: String,
    /// The URL that the server fetched, or `None` for an uploaded bundle. Without user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The branch that was checked out or chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// Body of `session.status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusChange {
    /// The sandbox machine.
    pub sandbox: SandboxPhase,
    /// The turn machine.
    pub turn: TurnPhase,
    /// What follows from both.
    pub status: SessionStatus,
    /// Why, where it is not the ordinary way: the failed step, the missed deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A step of the preparation, idempotent and logged: the log is the saga log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The host assembles and starts the sandbox.
    Sandbox,
    /// The guest clones the session repository and checks out the branch.
    Workspace,
    /// The environment's setup script runs.
    Setup,
    /// What clone and setup made is kept for later sessions.
    Cache,
    /// The `SessionStart` hooks of the repository run.
    Hooks,
    /// MCP servers of the repository and the operator start.
    Mcp,
}

/// Body of `turn.ended`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TurnEnded {
    /// How.
    pub status: TurnStatus,
    /// Why.
    pub stop_reason: StopReason,
    /// A sentence for the person, where the status is not `completed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// From `turn.started` on.
    pub duration_ms: u64,
}

/// Body of `agent.message` and `agent.thought`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentBlock {
    /// The model's message that the block is part of; blocks of one message stand together.
    pub message: String,
    /// Readable text, markdown.
    pub text: String,
    /// The block as the model sent it, where more than the text has to go back byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub raw: Option<Value>,
}

/// One entry of the agent's todo list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanEntry {
    /// What is to be done.
    pub content: String,
    /// The same while it is being done ("Running the suite").
    #[serde(default)]
    pub active_form: String,
    /// Where it is.
    pub status: PlanStatus,
}

/// Where a todo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    /// Not begun.
    Pending,
    /// Being done.
    InProgress,
    /// Done.
    Completed,
}

/// Body of `checkpoint`. What it holds is what the sandbox claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// The commit in the session repository.
    pub commit: String,
    /// Its tree; equal to the tree of the session's branch.
    pub tree: String,
}

/// Body of `workspace.saved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SavedWorkspace {
    /// What the session's sandboxes wrote, one on the other, the newest last. None: nothing is kept any more.
    pub layers: Vec<LayerId>,
    /// The checkpoint that was taken just before.
    pub commit: String,
    /// Bytes of the newest layer on the host's disk.
    pub bytes: u64,
}

/// Which way files were copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CopyDirection {
    /// Into the sandbox.
    In,
    /// Out of it.
    Out,
}

/// Body of `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionError {
    /// A stable word, such as `model_overloaded`.
    pub code: String,
    /// What happened, to what, why, and what to do next.
    pub message: String,
    /// Set where the same thing is tried again after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
}

/// What is shown while it happens and never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LiveDelta {
    /// More of a message that the model is writing. `block` counts within the message.
    Text { message: String, block: u32, text: String },
    /// More of a thought.
    Thought { message: String, block: u32, text: String },
    /// The model's unfinished message is void: the request is repeated.
    Discard { message: String },
    /// More output of a running tool.
    ToolOutput { call: String, text: String },
    /// More output of a running step.
    StepOutput { step: Step, text: String },
}

impl EventBody {
    /// The kind as it stands on the wire and in the `kind` column.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::SessionCreated(_) => "session.created",
            Self::SessionStatus(_) => "session.status",
            Self::SessionArchived { .. } => "session.archived",
            Self::SessionRewound(_) => "session.rewound",
            Self::StepStarted { .. } => "step.started",
            Self::StepOutput { .. } => "step.output",
            Self::StepFinished { .. } => "step.finished",
            Self::PromptQueued { .. } => "prompt.queued",
            Self::PromptEdited { .. } => "prompt.edited",
            Self::PromptCancelled { .. } => "prompt.cancelled",
            Self::PromptDelivered { .. } => "prompt.delivered",
            Self::TurnStarted { .. } => "turn.started",
            Self::TurnResumed {} => "turn.resumed",
            Self::TurnInterrupted { .. } => "turn.interrupted",
            Self::TurnEnded(_) => "turn.ended",
            Self::AgentMessage(_) => "agent.message",
            Self::AgentThought(_) => "agent.thought",
            Self::ToolCall(_) => "tool.call",
            Self::ToolResult(_) => "tool.result",
            Self::ThreadStarted(_) => "thread.started",
            Self::ThreadEvent(_) => "thread.event",
            Self::ThreadEnded(_) => "thread.ended",
            Self::Plan { .. } => "plan",
            Self::ContextAdded { .. } => "context.added",
            Self::ContextCompacted(_) => "context.compacted",
            Self::CommandRan(_) => "command.ran",
            Self::QuestionAsked(_) => "question.asked",
            Self::QuestionAnswered { .. } => "question.answered",
            Self::Checkpoint(_) => "checkpoint",
            Self::WorkspaceSaved { .. } => "workspace.saved",
            Self::ShellOpened { .. } => "shell.opened",
            Self::ShellClosed { .. } => "shell.closed",
            Self::FilesCopied { .. } => "files.copied",
            Self::NetworkDenied(_) => "network.denied",
            Self::NetworkAllowed(_) => "network.allowed",
            Self::GitPush(_) => "git.push",
            Self::PullRequestCreate(_) => "pr.create",
            Self::PullRequestState(_) => "pr.state",
            Self::DiffStat(_) => "diffstat",
            Self::Usage { .. } => "usage",
            Self::Error(_) => "error",
            Self::Unknown(unknown) => &unknown.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_what_it_writes() {
        let text = r#"{"session":"ses_01JD3Q4F7Z8XK2M5N6P7R8S9TV","seq":3,"at":"2026-11-20T12:00:00Z","epoch":1,
            "kind":"tool.result","body":{"call":"t1","content":"ok","is_error":false,"duration_ms":4,"detail":{"exit_code":0}}}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(event.body.kind(), "tool.result");
        let again: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(again, event);
    }

    #[test]
    fn a_kind_of_a_newer_version_passes_through() {
        let text = r#"{"session":"ses_01JD3Q4F7Z8XK2M5N6P7R8S9TV","seq":3,"at":"2026-11-20T12:00:00Z","epoch":1,
            "kind":"pr.opened","body":{"number":7}}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(event.body.kind(), "pr.opened");
        let value: Value = serde_json::to_value(&event).unwrap();
        assert_eq!(value["body"]["number"], 7);
    }

    #[test]
    fn every_kind_is_written_as_it_is_named() {
        for body in [
            EventBody::SessionArchived { archived: true },
            EventBody::StepStarted { step: Step::Sandbox },
            EventBody::Plan { entries: vec![] },
            EventBody::DiffStat(DiffStat::default()),
        ] {
            assert_eq!(serde_json::to_value(&body).unwrap()["kind"], body.kind());
        }
    }
}
