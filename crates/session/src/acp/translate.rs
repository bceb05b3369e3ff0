//! ACP updates into session events: one small function per kind.
//!
//! ```text
//!  agent_message_chunk* ─▶ live text … one agent.message when something else comes
//!  tool_call ─▶ tool.call      tool_call_update(completed | failed) ─▶ tool.result
//!  plan ─▶ plan                anything else: not part of our log
//!
//!  every update ─▶ a turn's budget ── used up ─▶ UpdateError::Excess: the turn fails
//! ```
//!
//! What an agent says is hostile: every part of it is cut to a size before it is kept, and what a turn
//! may say in all is counted.

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

use super::text::{Text, plain, small};

/// Characters of a tool's name.
const MAX_NAME: usize = 64;

/// Characters of the line that says what a call does.
const MAX_TITLE: usize = 300;

/// Characters of a path.
const MAX_PATH: usize = 4_096;

/// Entries of a plan, and characters of each.
const MAX_PLAN: (usize, usize) = (200, 500);

/// Characters of a call's id.
const MAX_ID: usize = 128;

/// Calls without a result at a time.
const MAX_OPEN: usize = 256;

/// Events of one turn, those that close it included.
const MAX_EVENTS: usize = 20_000;

/// Bytes of text of one turn.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What an update costs at least, so that a flood of empty ones ends too.
const UPDATE_BYTES: usize = 64;

/// Short messages and thoughts that wait to be logged together, and bytes of them.
const MAX_HELD: (usize, usize) = (64, 1_024);

/// Why an update ended the turn.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    /// The session does not take it.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The agent goes beyond what one turn may say.
    #[error("the agent was ended because it went beyond a limit of one turn: {0}")]
    Excess(String),
}

/// Which kind of text is being streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Message,
    Thought,
}

/// A tool call that has no result yet.
struct OpenCall {
    started: Instant,
    content: String,
    path: Option<String>,
    raw_output: String,
}

/// What one turn of an agent has said so far.
pub(super) struct Translator {
    turn: TurnId,
    messages: u32,
    speech: Option<(Speech, Text)>,
    /// Finished messages and thoughts that are not logged yet: an agent that alternates between the two
    /// with every letter is not worth a write of the disk for each.
    held: Vec<EventBody>,
    held_bytes: usize,
    open: BTreeMap<String, OpenCall>,
    /// Calls that have their result: what is said of them later changes nothing. Each of them is two
    /// events, so that their limit is its limit.
    closed: BTreeSet<String>,
    events: usize,
    bytes: usize,
}

impl Translator {
    pub(super) fn new(turn: TurnId) -> Self {
        Self {
            turn,
            messages: 0,
            speech: None,
            held: Vec::new(),
            held_bytes: 0,
            open: BTreeMap::new(),
            closed: BTreeSet::new(),
            events: 0,
            bytes: 0,
        }
    }

    /// Takes an update in.
    pub(super) async fn update(
        &mut self,
        update: SessionUpdate,
        port: &dyn AgentPort,
    ) -> Result<(), UpdateError> {
        self.bytes += UPDATE_BYTES;
        let mut excess = None;
        let bodies = match update {
            SessionUpdate::AgentMessageChunk(chunk) => self.chunk(Speech::Message, &chunk, port),
            SessionUpdate::AgentThoughtChunk(chunk) => self.chunk(Speech::Thought, &chunk, port),
            SessionUpdate::ToolCall(call) if self.has_room_for(&call.tool_call_id.0) => self.call(call),
            SessionUpdate::ToolCallUpdate(update) if self.has_room_for(&update.tool_call_id.0) => {
                self.call_update(update)
            }
            SessionUpdate::ToolCall(_) | SessionUpdate::ToolCallUpdate(_) => {
                excess = Some(format!("{MAX_OPEN} calls without a result at a time"));
                Vec::new()
            }
            SessionUpdate::Plan(plan) => vec![self.plan(plan)],
            _ => Vec::new(),
        };
        if !bodies.is_empty() {
            self.events += bodies.len();
            port.append(bodies).await?;
        }
        // What closes the turn has to find room, too.
        let closing = self.open.len() + self.held.len() + 2 * MAX_HELD.0;
        if self.events + closing > MAX_EVENTS {
            excess = Some(format!("{MAX_EVENTS} events"));
        } else if self.bytes > MAX_BYTES {
            excess = Some(format!("{} MB of text", MAX_BYTES / 1024 / 1024));
        }
        excess.map_or(Ok(()), |excess| Err(UpdateError::Excess(excess)))
    }

    /// The events that close what is open at the end of a turn.
    pub(super) fn finish(&mut self) -> Vec<EventBody> {
        let mut bodies = self.flush();
        for (call, open) in std::mem::take(&mut self.open) {
            let mut result = result(call, open, true);
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
        self.bytes += text.len();
        if text.is_empty() {
            return Vec::new();
        }
        if self.speech.as_ref().is_some_and(|(speaking, _)| *speaking != kind) {
            self.hold();
        }
        let message = self.message();
        let (_, kept) = self.speech.get_or_insert_with(|| (kind, Text::default()));
        let text = kept.push(&text).to_owned();
        if !text.is_empty() {
            port.live(match kind {
                Speech::Message => LiveDelta::Text { message, block: 0, text },
                Speech::Thought => LiveDelta::Thought { message, block: 0, text },
            });
        }
        let is_enough = self.held.len() >= MAX_HELD.0 || self.held_bytes >= MAX_HELD.1;
        if is_enough { self.take_held() } else { Vec::new() }
    }

    /// Finishes the message that was being streamed, if one was.
    fn hold(&mut self) {
        let Some((kind, text)) = self.speech.take() else { return };
        let block = AgentBlock { message: self.message(), text: text.into_string(), raw: None };
        self.messages += 1;
        self.held_bytes += block.text.len();
        self.held.push(match kind {
            Speech::Message => EventBody::AgentMessage(block),
            Speech::Thought => EventBody::AgentThought(block),
        });
    }

    fn take_held(&mut self) -> Vec<EventBody> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// All messages and thoughts up to now that are not logged.
    fn flush(&mut self) -> Vec<EventBody> {
        self.hold();
        self.take_held()
    }

    /// Ids are unique in the agent's own session only; ours are unique in the log.
    fn id(&self, call: &str) -> String {
        format!("{}-{}", self.turn.short(), plain(call, MAX_ID))
    }

    /// Whether this call is known, or may still be opened.
    fn has_room_for(&self, call: &str) -> bool {
        let id = self.id(call);
        self.open.len() < MAX_OPEN || self.open.contains_key(&id) || self.closed.contains(&id)
    }

    fn call(&mut self, call: AcpCall) -> Vec<EventBody> {
        let mut bodies = self.flush();
        let id = self.id(&call.tool_call_id.0);
        if self.closed.contains(&id) {
            return bodies;
        }
        if !self.open.contains_key(&id) {
            let name = call.name.unwrap_or_else(|| kind_name(&json!(call.kind)));
            bodies.push(self.announce(&id, &name, &call.title, call.raw_input));
        }
        self.open.insert(id.clone(), OpenCall::new());
        self.hear(&id, Some(call.content), call.raw_output);
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
            let name = fields.name.unwrap_or_else(|| kind_name(&json!(fields.kind)));
            let title = fields.title.unwrap_or_default();
            bodies.push(self.announce(&id, &name, &title, fields.raw_input));
            self.open.insert(id.clone(), OpenCall::new());
        }
        self.hear(&id, fields.content, fields.raw_output);
        bodies.extend(self.close(&id, fields.status));
        bodies
    }

    fn announce(&mut self, id: &str, name: &str, title: &str, input: Option<Value>) -> EventBody {
        let (input, bytes) = small(input.unwrap_or_else(|| json!({})));
        let (name, title) = (plain(name, MAX_NAME), plain(title, MAX_TITLE));
        self.bytes += bytes + name.len() + title.len();
        EventBody::ToolCall(ToolCall { message: self.message(), call: id.to_owned(), name, title, input })
    }

    /// Keeps what was said of an open call, in place of what was said before.
    fn hear(&mut self, id: &str, content: Option<Vec<ToolCallContent>>, raw_output: Option<Value>) {
        let Some(open) = self.open.get_mut(id) else { return };
        if let Some(content) = content {
            (open.content, open.path) = content_of(&content);
            self.bytes += open.content.len() + open.path.as_ref().map_or(0, String::len);
        }
        if let Some(output) = raw_output {
            open.raw_output = match output {
                Value::String(output) => {
                    let mut text = Text::default();
                    text.push(&output);
                    text.into_string()
                }
                output => small(output).0.to_string(),
            };
            self.bytes += open.raw_output.len();
        }
    }

    fn close(&mut self, id: &str, status: Option<ToolCallStatus>) -> Option<EventBody> {
        let is_error = match status? {
            ToolCallStatus::Completed => false,
            ToolCallStatus::Failed => true,
            _ => return None,
        };
        let open = self.open.remove(id)?;
        self.closed.insert(id.to_owned());
        Some(EventBody::ToolResult(result(id.to_owned(), open, is_error)))
    }

    fn plan(&mut self, plan: Plan) -> EventBody {
        let (entries, characters) = MAX_PLAN;
        let entries: Vec<PlanEntry> = plan
            .entries
            .into_iter()
            .take(entries)
            .map(|entry| {
                let content = plain(&entry.content, characters);
                let status = match entry.status {
                    PlanEntryStatus::InProgress => PlanStatus::InProgress,
                    PlanEntryStatus::Completed => PlanStatus::Completed,
                    _ => PlanStatus::Pending,
                };
                PlanEntry { active_form: content.clone(), content, status }
            })
            .collect();
        self.bytes += entries.iter().map(|entry| 2 * entry.content.len()).sum::<usize>();
        EventBody::Plan { entries }
    }
}

impl OpenCall {
    fn new() -> Self {
        Self { started: Instant::now(), content: String::new(), path: None, raw_output: String::new() }
    }
}

/// The text of a call's content, and the path of what it changed.
fn content_of(content: &[ToolCallContent]) -> (String, Option<String>) {
    let (mut text, mut path) = (Text::default(), None);
    for content in content {
        match content {
            ToolCallContent::Content(content) => {
                text.push(&text_of(&content.content));
            }
            ToolCallContent::Diff(diff) => path = Some(plain(&diff.path.to_string_lossy(), MAX_PATH)),
            _ => {}
        }
    }
    (text.into_string(), path)
}

fn result(call: String, open: OpenCall, is_error: bool) -> ToolResult {
    ToolResult {
        call,
        content: if open.content.is_empty() { open.raw_output } else { open.content },
        is_error,
        duration_ms: u64::try_from(open.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        detail: open.path.map_or_else(|| json!({}), |path| json!({ "path": path })),
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

#[cfg(test)]
mod tests;
