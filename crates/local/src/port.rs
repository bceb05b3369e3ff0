//! The session's side of an agent on one's own machine.
//!
//! ```text
//!  agent ── append ─▶ transcript, written ─▶ lines, tally
//!        ── may_use ─▶ the driver · a tool of a server · nobody: no
//!        ── call_hook ─▶ the driver
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use agent::mcp::Servers;
use agent::{AgentConfig, Steering};
use async_trait::async_trait;
use protocol::agent_port::{AgentPort, PortError, TurnEnd, UseAnswer, UseQuestion};
use protocol::event::{Answer, BlobRef, EventBody, LiveDelta, NetworkDenied, QuestionOption};
use protocol::ids::{PromptId, Seq};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::input::Prompt;
use crate::options::{Asked, Format};
use crate::stream::{Lines, Output, Report, Tally};
use crate::transcript::Transcript;
use crate::updates;

/// What one run writes through.
pub(crate) struct LocalPort {
    pub(crate) output: Output,
    pub(crate) control: Control,
    pub(crate) steering: Steering,
    format: Format,
    partial_messages: bool,
    asked: Asked,
    kept: Mutex<Kept>,
    /// Prompts for the next request of the turn that runs.
    waiting: Mutex<VecDeque<Prompt>>,
    /// Those that the turn took.
    delivered: Mutex<Vec<Prompt>>,
    /// Ends the turn that runs.
    stop: Mutex<CancellationToken>,
    servers: OnceLock<Arc<Servers>>,
}

struct Kept {
    transcript: Transcript,
    lines: Lines,
    tally: Tally,
    model: String,
    seq: Seq,
    /// When the request began whose stream is shown.
    streaming: Instant,
}

/// What a port is made of.
pub(crate) struct Parts {
    pub(crate) output: Output,
    pub(crate) control: Control,
    pub(crate) steering: Steering,
    pub(crate) transcript: Transcript,
    pub(crate) session: String,
    pub(crate) format: Format,
    pub(crate) partial_messages: bool,
    pub(crate) asked: Asked,
    /// How often a request is tried again.
    pub(crate) retries: u32,
}

impl LocalPort {
    pub(crate) fn new(parts: Parts) -> Self {
        let kept = Kept {
            lines: Lines::new(&parts.session, parts.retries),
            transcript: parts.transcript,
            tally: Tally::new(),
            model: String::new(),
            seq: 0,
            streaming: Instant::now(),
        };
        Self {
            output: parts.output,
            control: parts.control,
            steering: parts.steering,
            format: parts.format,
            partial_messages: parts.partial_messages,
            asked: parts.asked,
            kept: Mutex::new(kept),
            waiting: Mutex::default(),
            delivered: Mutex::default(),
            stop: Mutex::default(),
            servers: OnceLock::new(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Prompt>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_token(&self) -> MutexGuard<'_, CancellationToken> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the agent works with.
    pub(crate) fn equip(&self, config: &AgentConfig) {
        let _ = self.servers.set(Arc::clone(&config.servers));
    }

    /// How MCP servers stand, once there are some.
    pub(crate) fn server_states(&self) -> Value {
        let states = self.servers.get().map(|servers| servers.states()).unwrap_or_default();
        let one = |(name, status, source)| json!({ "name": name, "status": status, "scope": source });
        states.into_iter().map(one).collect()
    }

    /// Prints a line that is told to drivers alone.
    pub(crate) fn tell(&self, value: Value) {
        if self.format == Format::Stream {
            let line = self.kept().lines.line(value);
            self.output.json(&line);
        }
    }

    /// What an interrupt ends from here on.
    pub(crate) fn watch(&self, token: &CancellationToken) {
        *self.stop_token() = token.clone();
    }

    /// Begins a turn with a prompt; the token ends it.
    pub(crate) fn begin(&self, prompt: &Prompt, model: &str) -> Result<CancellationToken, PortError> {
        let mut kept = self.kept();
        model.clone_into(&mut kept.model);
        kept.tally.begin();
        kept.streaming = Instant::now();
        kept.transcript.prompt(&prompt.id.to_string(), &prompt.text, false).map_err(store)?;
        let token = CancellationToken::new();
        *self.stop_token() = token.clone();
        Ok(token)
    }

    /// Ends the turn that runs, from outside.
    pub(crate) fn interrupt(&self) {
        self.stop_token().cancel();
    }

    /// Takes a prompt for the turn that runs.
    pub(crate) fn deliver(&self, prompt: Prompt) {
        self.waiting().push_back(prompt);
    }

    /// What came too late for the turn that ended.
    pub(crate) fn left(&self) -> VecDeque<Prompt> {
        std::mem::take(&mut *self.waiting())
    }

    /// The prompts that the turn that ended took on its way.
    pub(crate) fn taken(&self) -> Vec<Prompt> {
        std::mem::take(&mut *self.delivered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The end of a turn: written down, and told.
    pub(crate) fn end(&self, end: &TurnEnd, queued: usize) -> Result<Report, PortError> {
        let mut kept = self.kept();
        let ended = EventBody::TurnEnded(protocol::event::TurnEnded {
            status: end.status,
            stop_reason: end.stop_reason,
            message: end.message.clone(),
            duration_ms: 0,
        });
        kept.transcript.events(&[ended], "").map_err(store)?;
        let report = kept.tally.report(end, queued);
        if self.format == Format::Stream {
            if report.line["terminal_reason"] == "api_error" {
                self.output.json(&kept.lines.synthetic(&report.text));
            }
            self.output.json(&kept.lines.line(report.line.clone()));
        }
        Ok(report)
    }

    /// The report as the one object that a run prints.
    pub(crate) fn whole(&self, report: &Report) -> Value {
        self.kept().lines.line(report.line.clone())
    }

    async fn ask_driver(&self, question: &UseQuestion) -> UseAnswer {
        let request = json!({
            "subtype": "can_use_tool",
            "tool_name": question.tool,
            "display_name": question.tool,
            "input": question.input,
            "tool_use_id": question.call,
            "description": question.title,
            "decision_reason": question.reason,
            "permission_suggestions": updates::suggestions(question),
            "agent_id": question.agent,
        });
        match self.control.ask(request).await {
            Ok(answer) => self.said(question, &answer),
            Err(why) => UseAnswer::Deny { message: refusal(question, &why) },
        }
    }

    async fn ask_tool(&self, question: &UseQuestion, tool: &str) -> UseAnswer {
        let Some(servers) = self.servers.get() else {
            return UseAnswer::Deny { message: refusal(question, "there is no server to ask") };
        };
        let mut input = Map::new();
        input.insert("tool_name".into(), question.tool.clone().into());
        input.insert("input".into(), question.input.clone());
        input.insert("tool_use_id".into(), question.call.clone().into());
        let stop = self.stop_token().clone();
        let answer = servers.ask_tool(tool, input, &stop).await;
        let answer = answer.and_then(|text| {
            serde_json::from_str::<Value>(&text).map_err(|_| format!("{tool} gave an answer that is no JSON"))
        });
        match answer {
            Ok(answer) => self.said(question, &answer),
            Err(why) => UseAnswer::Deny { message: refusal(question, &why) },
        }
    }

    /// What an answer says: `{behavior: allow, updatedInput, updatedPermissions}` or `{behavior: deny, message}`.
    fn said(&self, question: &UseQuestion, answer: &Value) -> UseAnswer {
        if answer["behavior"] == "allow" {
            for update in answer["updatedPermissions"].as_array().into_iter().flatten() {
                updates::apply(&self.steering, update);
            }
            let input = Some(answer["updatedInput"].clone()).filter(Value::is_object);
            return UseAnswer::Allow { input: input.filter(|input| *input != question.input) };
        }
        if answer["interrupt"] == true {
            self.interrupt();
        }
        let message = answer["message"].as_str().filter(|message| !message.trim().is_empty());
        UseAnswer::Deny {
            message: message.map_or_else(|| refusal(question, "it was refused"), str::to_owned),
        }
    }
}

fn refusal(question: &UseQuestion, why: &str) -> String {
    let UseQuestion { tool, reason, .. } = question;
    format!(
        "{tool} was not run: {reason}, and {why}. Go on without it, or end your turn and say what is missing."
    )
}

fn store(error: std::io::Error) -> PortError {
    PortError::Store(format!("the transcript: {error}"))
}

#[async_trait]
impl AgentPort for LocalPort {
    async fn append(&self, bodies: Vec<EventBody>) -> Result<Seq, PortError> {
        let mut kept = self.kept();
        let model = kept.model.clone();
        kept.transcript.events(&bodies, &model).map_err(store)?;
        kept.seq += bodies.len() as Seq;
        // What agents that were sent do comes wrapped, one by one.
        let mut lines = kept.lines.of(&bodies, &model, None);
        kept.tally.note(&bodies, false);
        let inner = bodies.iter().filter_map(|body| match body {
            EventBody::ThreadEvent(inner) => Some((inner.thread.as_str(), (*inner.event).clone())),
            _ => None,
        });
        let (threads, events): (Vec<&str>, Vec<EventBody>) = inner.unzip();
        if let Some(thread) = threads.first() {
            lines.extend(kept.lines.of(&events, &model, Some(thread)));
            kept.tally.note(&events, true);
        }
        if self.format == Format::Stream {
            lines.iter().for_each(|line| self.output.json(line));
        }
        kept.streaming = Instant::now();
        Ok(kept.seq)
    }

    fn live(&self, _delta: LiveDelta) {}

    async fn put_blob(&self, bytes: Vec<u8>, truncated: bool) -> Result<BlobRef, PortError> {
        // The agent keeps what is long in a file of its own; there is no other reader here.
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let blob = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(BlobRef { blob, size: bytes.len() as u64, truncated })
    }

    async fn ask(&self, _text: String, options: Vec<QuestionOption>) -> Result<Answer, PortError> {
        // Nobody looks; the first one is the safe one.
        let option = options.into_iter().next().map(|option| option.id).unwrap_or_default();
        Ok(Answer { option, by_deadline: true })
    }

    async fn may_use(&self, question: &UseQuestion) -> Result<Option<UseAnswer>, PortError> {
        Ok(Some(match &self.asked {
            Asked::Nobody => UseAnswer::Deny { message: refusal(question, "nobody is here to allow it") },
            Asked::Driver => self.ask_driver(question).await,
            Asked::Tool(tool) => self.ask_tool(question, tool).await,
        }))
    }

    async fn call_hook(&self, hook: &str, input: &Value, call: Option<&str>) -> Result<Value, String> {
        let request =
            json!({ "subtype": "hook_callback", "callback_id": hook, "input": input, "tool_use_id": call });
        self.control.ask(request).await
    }

    fn streamed(&self, event: &str) {
        if !self.partial_messages || self.format != Format::Stream {
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(event) else { return };
        let kept = self.kept();
        let mut line = json!({ "type": "stream_event", "event": event, "parent_tool_use_id": null });
        if line["event"]["type"] == "message_start" {
            let waited = u64::try_from(kept.streaming.elapsed().as_millis()).unwrap_or(u64::MAX);
            line["ttft_ms"] = waited.into();
        }
        self.output.json(&kept.lines.line(line));
    }

    async fn take_prompts(&self) -> Result<Vec<(PromptId, String)>, PortError> {
        let prompts = std::mem::take(&mut *self.waiting());
        for prompt in &prompts {
            self.kept().transcript.prompt(&prompt.id.to_string(), &prompt.text, true).map_err(store)?;
            prompt.stands(self, "started");
        }
        let told = prompts.iter().map(|prompt| (prompt.id, prompt.text.clone())).collect();
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).extend(prompts);
        Ok(told)
    }

    fn refused_since(&self, _since: Instant) -> Vec<NetworkDenied> {
        Vec::new()
    }
}
