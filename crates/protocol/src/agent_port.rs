//! The seam between a session and its agent.
//!
//! ```text
//!            session driver
//!   turn · stop │      ▲ append (answers when durable) · live · blob · ask
//!               ▼      │
//!             Agent ── AgentPort
//! ```
//!
//! Two things implement [`Agent`]: our own loop, in the server process, and the adapter that speaks
//! ACP to any agent inside the sandbox. Nothing outside of them knows which one it talks to.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::event::{Answer, BlobRef, Event, EventBody, LiveDelta, NetworkDenied, QuestionOption};
use crate::ids::{PromptId, Seq, TurnId};
use crate::status::{StopReason, TurnStatus};

/// The session no longer takes what this agent says.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PortError {
    /// The session ended, or another writer took it over.
    #[error("the session no longer takes events of this agent")]
    Closed,
    /// The log could not be written.
    #[error("the session's log could not be written: {0}")]
    Store(String),
}

/// A use of a tool that no rule decides about.
#[derive(Debug, Clone, PartialEq)]
pub struct UseQuestion {
    /// The model's id of the call.
    pub call: String,
    /// The tool.
    pub tool: String,
    /// One line for people.
    pub title: String,
    /// The input.
    pub input: Value,
    /// Why it is asked about.
    pub reason: String,
    /// The agent that was sent and wants to, where it is one.
    pub agent: Option<String>,
}

/// What is said to it.
#[derive(Debug, Clone, PartialEq)]
pub enum UseAnswer {
    /// It may happen, perhaps with another input.
    Allow {
        /// In place of the model's.
        input: Option<Value>,
    },
    /// It does not happen.
    Deny {
        /// What the model reads.
        message: String,
    },
}

/// Up: what an agent may ask of its session.
#[async_trait]
pub trait AgentPort: Send + Sync {
    /// Appends in one transaction and returns the last `seq` once durable. A tool starts only after
    /// its call came back from here.
    async fn append(&self, bodies: Vec<EventBody>) -> Result<Seq, PortError>;

    /// Shows something at once, without keeping it.
    fn live(&self, delta: LiveDelta);

    /// Keeps bytes that are too long for an event.
    async fn put_blob(&self, bytes: Vec<u8>, truncated: bool) -> Result<BlobRef, PortError>;

    /// Asks the person and waits for the answer; the first option stands when the deadline passes.
    async fn ask(&self, text: String, options: Vec<QuestionOption>) -> Result<Answer, PortError>;

    /// Asks whoever decides about uses of tools here, where that is not a person who picks
    /// [one of the options](AgentPort::ask).
    async fn may_use(&self, _question: &UseQuestion) -> Result<Option<UseAnswer>, PortError> {
        Ok(None)
    }

    /// Runs a hook that lives with whoever drives the agent; what it says, as a hook's program would print it.
    async fn call_hook(&self, _hook: &str, _input: &Value, _call: Option<&str>) -> Result<Value, String> {
        Err("there is nobody here who could run it".into())
    }

    /// Shows an event of the model's stream as it came, for those who want to see it unchanged.
    fn streamed(&self, _event: &str) {}

    /// Takes the prompts that came meanwhile and wait for the next request to the model; the log says that
    /// they were handed over. To be asked for where results go back.
    async fn take_prompts(&self) -> Result<Vec<(PromptId, String)>, PortError> {
        Ok(Vec::new())
    }

    /// What the sandbox's network refused since then, as far as it is known already, each host and port
    /// once.
    fn refused_since(&self, since: Instant) -> Vec<NetworkDenied>;
}

/// One prompt to work on.
#[derive(Debug, Clone)]
pub struct TurnInput {
    /// The turn.
    pub turn: TurnId,
    /// The prompt that it answers.
    pub prompt: PromptId,
    /// The prompt's text.
    pub text: String,
    /// Whether the turn began under a server that died: the agent, whose log was restored, goes on
    /// where that one was.
    pub resumed: bool,
}

/// How a turn ended, in the agent's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnEnd {
    /// How.
    pub status: TurnStatus,
    /// Why.
    pub stop_reason: StopReason,
    /// A sentence for the person, where it did not simply complete.
    pub message: Option<String>,
}

impl TurnEnd {
    /// The ordinary end.
    #[must_use]
    pub fn completed() -> Self {
        Self { status: TurnStatus::Completed, stop_reason: StopReason::EndTurn, message: None }
    }

    /// The end after a stop.
    #[must_use]
    pub fn interrupted() -> Self {
        Self { status: TurnStatus::Interrupted, stop_reason: StopReason::UserStop, message: None }
    }

    /// An end that the person has to read about.
    #[must_use]
    pub fn failed(stop_reason: StopReason, message: impl Into<String>) -> Self {
        Self { status: TurnStatus::Failed, stop_reason, message: Some(message.into()) }
    }
}

/// What an agent works with besides its sandbox, in words for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connected {
    /// A line each.
    pub lines: Vec<String>,
    /// What does not work, a sentence.
    pub wrong: Option<String>,
}

/// Down: what a session asks of its agent.
#[async_trait]
pub trait Agent: Send {
    /// Takes in the log up to now, before the first turn of this process. What a rewind made void is not
    /// part of the conversation.
    async fn restore(&mut self, events: &[Event]) -> Result<(), PortError>;

    /// How long it may take to [connect](Agent::connect), where there is something to connect to.
    fn connecting(&self) -> Option<Duration> {
        None
    }

    /// Waits for what it works with besides its sandbox: MCP servers. What fails is told, and fails nothing.
    async fn connect(&mut self) -> Connected {
        Connected::default()
    }

    /// How many commands it left running that it still attends to.
    fn background(&self) -> usize {
        0
    }

    /// Ends the commands that it left running.
    async fn end_background(&mut self) {}

    /// Works on one prompt until the turn is over. When `stop` is cancelled it closes the model
    /// stream, stops its tools, gives every open tool call a result, and returns.
    async fn turn(&mut self, input: TurnInput, port: &dyn AgentPort, stop: CancellationToken) -> TurnEnd;
}
