//! Agents that the agent sends to work: the tool `Agent`.
//!
//! ```text
//!  Agent { prompt, subagent_type } ─▶ an agent of that kind: own conversation, tools and mode, same hands and rules
//!        │                              └─ turn::work ─▶ ThreadPort ─▶ thread.event in the session's log
//!        ▼
//!  its last words are the result; another process goes on where it was, out of the log
//! ```
//!
//! Those that only look work at the same time, the others one after the other. They send nobody themselves.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use protocol::agent_port::{AgentPort, PortError, TurnEnd, TurnInput, UseAnswer, UseQuestion};
use protocol::event::{
    Answer, BlobRef, EventBody, LiveDelta, NetworkDenied, QuestionOption, ThreadEnded, ThreadEvent,
    ThreadStarted,
};
use protocol::ids::Seq;
use protocol::status::TurnStatus;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::agent::PatchyardAgent;
use crate::config::AgentConfig;
use crate::gate::{Gate, Moment};
use crate::history::INTERRUPTED;
use crate::library::{Library, Subagent};
use crate::outcome::Outcome;
use crate::spent::Spent;
use crate::stream_text::capped;
use crate::tools::{AgentInput, turn_of};
use crate::turn;

/// The kind where the model names none.
const USUAL: &str = "general-purpose";

/// Characters of a thread's last words.
const MAX_TEXT: usize = 60_000;

/// What makes an agent one of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    /// The id of the call.
    pub(crate) id: String,
    /// The kind of agent.
    pub(crate) kind: String,
}

/// What threads of a session are made of.
pub(crate) struct Threads {
    config: AgentConfig,
    /// What happened in threads of the log that have no end.
    open: Mutex<HashMap<String, Vec<EventBody>>>,
    /// What the turn used, with all of its threads.
    pub(crate) spent: Spent,
}

impl Threads {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Self { config: config.clone(), open: Mutex::default(), spent: Spent::default() }
    }

    /// Notes what an event of an earlier process tells of threads.
    pub(crate) fn remember(&self, body: &EventBody) {
        let mut open = crate::tools::lock(&self.open);
        match body {
            EventBody::ThreadStarted(started) => drop(open.insert(started.thread.clone(), Vec::new())),
            EventBody::ThreadEvent(inner) => {
                if let Some(events) = open.get_mut(&inner.thread) {
                    events.push((*inner.event).clone());
                }
            }
            EventBody::ThreadEnded(ended) => drop(open.remove(&ended.thread)),
            EventBody::ToolResult(result) => drop(open.remove(&result.call)),
            _ => {}
        }
    }

    fn take(&self, thread: &str) -> Option<Vec<EventBody>> {
        crate::tools::lock(&self.open).remove(thread)
    }
}

/// Whether an agent of this kind changes nothing.
pub(crate) fn only_looks(library: &Library, input: &AgentInput) -> bool {
    library.subagent(kind_of(input)).is_some_and(Subagent::only_looks)
}

fn kind_of(input: &AgentInput) -> &str {
    input.subagent_type.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(USUAL)
}

/// Sends an agent to work and waits for its end.
pub(crate) async fn run(
    input: AgentInput,
    call: &str,
    gate: &Gate,
    moment: Moment<'_>,
) -> Result<Outcome, PortError> {
    let Moment { bench, port, stop, prompt, resumed } = moment;
    let threads = &bench.threads;
    let kind = kind_of(&input);
    let Some(subagent) = bench.library.subagent(kind) else {
        let known: Vec<&str> = bench.library.subagents().map(|agent| agent.name.as_str()).collect();
        return Ok(Outcome::refused(format!("there is no agent `{kind}`; there are: {}", known.join(", "))));
    };
    let thread = Thread { id: call.to_owned(), kind: subagent.name.clone() };
    let mut agent =
        PatchyardAgent::of_thread(&threads.config, subagent, thread.clone(), (&bench.cwd(), &threads.spent));
    agent.gate.asking = Arc::clone(&gate.asking);
    let turn = turn_of(call);
    let past = if resumed { threads.take(call) } else { None };
    let resumed = past.is_some();
    match past {
        Some(events) => {
            agent.history.prompt(turn, &input.prompt);
            for body in &events {
                agent.fold(None, body);
            }
        }
        None => {
            let AgentInput { description, prompt, .. } = &input;
            let (description, prompt) = (description.clone(), prompt.clone());
            let started =
                ThreadStarted { thread: thread.id.clone(), agent: thread.kind.clone(), description, prompt };
            port.append(vec![EventBody::ThreadStarted(started)]).await?;
        }
    }
    let port = ThreadPort { port, thread: &thread };
    let work = TurnInput { turn, prompt, text: input.prompt, resumed };
    let end = in_a_box(&mut agent, work, &port, stop).await?;
    Ok(outcome(&agent, thread, end))
}

/// A thread's work in the work of a turn, as a type that has an end.
fn in_a_box<'a>(
    agent: &'a mut PatchyardAgent,
    input: TurnInput,
    port: &'a dyn AgentPort,
    stop: &'a CancellationToken,
) -> Pin<Box<dyn Future<Output = Result<TurnEnd, PortError>> + Send + 'a>> {
    Box::pin(turn::work(agent, input, port, stop))
}

fn outcome(agent: &PatchyardAgent, thread: Thread, end: TurnEnd) -> Outcome {
    let text = capped(&agent.history.last_text(), MAX_TEXT, "").text;
    let TurnEnd { status, message, .. } = end;
    let mut outcome = match status {
        TurnStatus::Completed if text.is_empty() => Outcome::failed("The agent ended without a word."),
        TurnStatus::Completed => Outcome::ok(text, json!({})),
        TurnStatus::Interrupted => Outcome::failed(INTERRUPTED),
        TurnStatus::Failed | TurnStatus::Limit => {
            let why = message.as_deref().unwrap_or("it could not go on");
            Outcome::failed(format!("The agent ended early: {why}\n\nIts last words: {text}"))
        }
    };
    let (usage, tool_uses) = (agent.history.usage, agent.history.calls());
    outcome.detail = json!({
        "agent_id": thread.id,
        "agent_type": thread.kind,
        "tool_uses": tool_uses,
        "tokens": usage.input() + usage.output_tokens,
        "interrupted": status == TurnStatus::Interrupted,
    });
    outcome.thread = Some(ThreadEnded { thread: thread.id, status, message, tool_uses, usage });
    outcome
}

/// Writes what an agent of a thread says into the session's log.
struct ThreadPort<'a> {
    port: &'a dyn AgentPort,
    thread: &'a Thread,
}

#[async_trait]
impl AgentPort for ThreadPort<'_> {
    async fn append(&self, bodies: Vec<EventBody>) -> Result<Seq, PortError> {
        let wrap = |body| {
            EventBody::ThreadEvent(ThreadEvent { thread: self.thread.id.clone(), event: Box::new(body) })
        };
        self.port.append(bodies.into_iter().map(wrap).collect()).await
    }

    /// Its words are shown when they are whole: there is one place for words that grow.
    fn live(&self, delta: LiveDelta) {
        if let LiveDelta::ToolOutput { .. } = delta {
            self.port.live(delta);
        }
    }

    async fn put_blob(&self, bytes: Vec<u8>, truncated: bool) -> Result<BlobRef, PortError> {
        self.port.put_blob(bytes, truncated).await
    }

    async fn ask(&self, text: String, options: Vec<QuestionOption>) -> Result<Answer, PortError> {
        self.port.ask(format!("Of the agent {}: {text}", self.thread.kind), options).await
    }

    async fn may_use(&self, question: &UseQuestion) -> Result<Option<UseAnswer>, PortError> {
        let agent = Some(self.thread.id.clone());
        self.port.may_use(&UseQuestion { agent, ..question.clone() }).await
    }

    async fn call_hook(&self, hook: &str, input: &Value, call: Option<&str>) -> Result<Value, String> {
        self.port.call_hook(hook, input, call).await
    }

    fn refused_since(&self, since: Instant) -> Vec<NetworkDenied> {
        self.port.refused_since(since)
    }
}
