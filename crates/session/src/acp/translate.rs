//! ACP updates into session events: one small function per kind.
//!
//! ```text
//!  agent_message_chunk* ─▶ live text … one agent.message when something else comes
//!  tool_call ─▶ tool.call      tool_call_update(completed | failed) ─▶ tool.result
//!  plan ─▶ plan                anything else: not part of our log
//! ```

use std::collections::{BTreeMap, BTreeSet};

use agent_client_protocol::v1::schema::{
    ContentBlock, ContentChunk, Plan, PlanEntryStatus, SessionUpdate, ToolCall as AcpCall, ToolCallContent,
    ToolCallStatus, ToolCallUpdate,
};
use protocol::agent_port::{AgentPort, PortError};
use protocol::event::{AgentBlock, EventBody, LiveDelta, PlanEntry, PlanStatus, ToolCall, ToolResult};
use protocol::ids::TurnId;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Characters of one message or result that are kept.
const MAX_TEXT: usize = 200_000;

/// Which kind of text is being streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Message,
    Thought,
}

/// A tool call that has no result yet.
struct OpenCall {
    started: Instant,
    content: Vec<ToolCallContent>,
    raw_output: Option<Value>,
}

/// What one turn of an agent has said so far.
pub(super) struct Translator {
    turn: TurnId,
    messages: u32,
    speech: Option<(Speech, String)>,
    open: BTreeMap<String, OpenCall>,
    /// Calls that have their result: what is said of them later changes nothing.
    closed: BTreeSet<String>,
}

impl Translator {
    pub(super) fn new(turn: TurnId) -> Self {
        Self { turn, messages: 0, speech: None, open: BTreeMap::new(), closed: BTreeSet::new() }
    }

    /// Takes an update in.
    pub(super) async fn update(
        &mut self,
        update: SessionUpdate,
        port: &dyn AgentPort,
    ) -> Result<(), PortError> {
        let bodies = match update {
            SessionUpdate::AgentMessageChunk(chunk) => self.chunk(Speech::Message, &chunk, port),
            SessionUpdate::AgentThoughtChunk(chunk) => self.chunk(Speech::Thought, &chunk, port),
            SessionUpdate::ToolCall(call) => self.call(call),
            SessionUpdate::ToolCallUpdate(update) => self.call_update(update),
            SessionUpdate::Plan(plan) => vec![translate_plan(plan)],
            _ => Vec::new(),
        };
        if bodies.is_empty() { Ok(()) } else { port.append(bodies).await.map(drop) }
    }

    /// The events that close what is open at the end of a turn.
    pub(super) fn finish(&mut self) -> Vec<EventBody> {
        let mut bodies = self.flush();
        for (call, open) in std::mem::take(&mut self.open) {
            let mut result = result(call, &open, true);
            if result.content.is_empty() {
                "the agent reported no result of this call".clone_into(&mut result.content);
            }
            bodies.push(EventBody::ToolResult(result));
        }
        bodies
    }

    fn message(&self) -> String {
        format!("{}-{}", self.turn.short(), self.messages)
    }

    fn chunk(&mut self, kind: Speech, chunk: &ContentChunk, port: &dyn AgentPort) -> Vec<EventBody> {
        let text = text_of(&chunk.content);
        let bodies = match &self.speech {
            Some((speaking, _)) if *speaking != kind => self.flush(),
            _ => Vec::new(),
        };
        let message = self.message();
        let (_, kept) = self.speech.get_or_insert_with(|| (kind, String::new()));
        let room = MAX_TEXT.saturating_sub(kept.len());
        kept.extend(text.chars().take(room));
        port.live(match kind {
            Speech::Message => LiveDelta::Text { message, block: 0, text },
            Speech::Thought => LiveDelta::Thought { message, block: 0, text },
        });
        bodies
    }

    /// The finished message, if one was being streamed.
    fn flush(&mut self) -> Vec<EventBody> {
        let Some((kind, text)) = self.speech.take() else { return Vec::new() };
        let block = AgentBlock { message: self.message(), text, raw: None };
        self.messages += 1;
        vec![match kind {
            Speech::Message => EventBody::AgentMessage(block),
            Speech::Thought => EventBody::AgentThought(block),
        }]
    }

    /// Ids are unique in the agent's own session only; ours are unique in the log.
    fn id(&self, call: &str) -> String {
        let call: String = call.chars().take(128).collect();
        format!("{}-{call}", self.turn.short())
    }

    fn call(&mut self, call: AcpCall) -> Vec<EventBody> {
        let mut bodies = self.flush();
        let id = self.id(&call.tool_call_id.0);
        if self.closed.contains(&id) {
            return bodies;
        }
        if !self.open.contains_key(&id) {
            bodies.push(EventBody::ToolCall(ToolCall {
                message: self.message(),
                call: id.clone(),
                name: call.name.clone().unwrap_or_else(|| kind_name(&json!(call.kind))),
                title: call.title.chars().take(300).collect(),
                input: call.raw_input.clone().unwrap_or_else(|| json!({})),
            }));
        }
        let open = OpenCall { started: Instant::now(), content: call.content, raw_output: call.raw_output };
        self.open.insert(id.clone(), open);
        bodies.extend(self.close(&id, Some(call.status)));
        bodies
    }

    fn call_update(&mut self, update: ToolCallUpdate) -> Vec<EventBody> {
        let id = self.id(&update.tool_call_id.0);
        if self.closed.contains(&id) {
            return Vec::new();
        }
        let fields = update.fields;
        let mut bodies = Vec::new();
        if !self.open.contains_key(&id) {
            // An update for a call that was never announced announces it.
            bodies.extend(self.flush());
            bodies.push(EventBody::ToolCall(ToolCall {
                message: self.message(),
                call: id.clone(),
                name: fields.name.clone().unwrap_or_else(|| kind_name(&json!(fields.kind))),
                title: fields.title.clone().unwrap_or_default().chars().take(300).collect(),
                input: fields.raw_input.clone().unwrap_or_else(|| json!({})),
            }));
            let open = OpenCall { started: Instant::now(), content: Vec::new(), raw_output: None };
            self.open.insert(id.clone(), open);
        }
        if let Some(open) = self.open.get_mut(&id) {
            if let Some(content) = fields.content {
                open.content = content;
            }
            if fields.raw_output.is_some() {
                open.raw_output = fields.raw_output;
            }
        }
        bodies.extend(self.close(&id, fields.status));
        bodies
    }

    fn close(&mut self, id: &str, status: Option<ToolCallStatus>) -> Option<EventBody> {
        let is_error = match status? {
            ToolCallStatus::Completed => false,
            ToolCallStatus::Failed => true,
            _ => return None,
        };
        let open = self.open.remove(id)?;
        self.closed.insert(id.to_owned());
        Some(EventBody::ToolResult(result(id.to_owned(), &open, is_error)))
    }
}

fn result(call: String, open: &OpenCall, is_error: bool) -> ToolResult {
    let mut detail = json!({});
    let mut text = String::new();
    for content in &open.content {
        match content {
            ToolCallContent::Content(content) => text.push_str(&text_of(&content.content)),
            ToolCallContent::Diff(diff) => detail["path"] = json!(diff.path),
            _ => {}
        }
    }
    if text.is_empty() {
        text = match &open.raw_output {
            Some(Value::String(output)) => output.clone(),
            Some(output) => output.to_string(),
            None => String::new(),
        };
    }
    ToolResult {
        call,
        content: text.chars().take(MAX_TEXT).collect(),
        is_error,
        duration_ms: u64::try_from(open.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        detail,
        full_output: None,
    }
}

/// `read`, `edit`, `execute` … as ACP names the kinds of tools.
fn kind_name(kind: &Value) -> String {
    kind.as_str().unwrap_or("tool").to_owned()
}

fn text_of(content: &ContentBlock) -> String {
    match content {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::ResourceLink(link) => format!("[{}]({})", link.name, link.uri),
        ContentBlock::Image(_) => "[image]".into(),
        ContentBlock::Audio(_) => "[audio]".into(),
        _ => "[attachment]".into(),
    }
}

fn translate_plan(plan: Plan) -> EventBody {
    let entries = plan.entries.into_iter().take(200).map(|entry| PlanEntry {
        active_form: entry.content.clone(),
        content: entry.content,
        status: match entry.status {
            PlanEntryStatus::InProgress => PlanStatus::InProgress,
            PlanEntryStatus::Completed => PlanStatus::Completed,
            _ => PlanStatus::Pending,
        },
    });
    EventBody::Plan { entries: entries.collect() }
}
