//! A message out of stream events.
//!
//! ```text
//!  message_start ─▶ ( content_block_start ─▶ content_block_delta* ─▶ content_block_stop )* ─▶
//!  message_delta ─▶ message_stop        ping anywhere · error ends it · unknown events are skipped
//! ```
//!
//! The message is whole only after `message_stop`. What comes out of order is an error, never a guess:
//! a tool call must not be run with half of its input.

use protocol::usage::Usage;
use serde_json::{Map, Value};

use crate::block::Block;
use crate::error::ModelError;
use crate::observe::{Delta, Observer};
use crate::price::cost_micro_usd;
use crate::response::{Response, StopCause};
use crate::sse::SseEvent;

/// A block that is being received.
struct Open {
    index: u64,
    /// The block as it started, completed as deltas come.
    raw: Map<String, Value>,
    /// JSON text of a tool call's input.
    input: String,
    /// Whether the block has more than this version understands.
    has_extra: bool,
}

/// Folds events into a message.
pub(crate) struct Assembler {
    response: Response,
    started: bool,
    open: Option<Open>,
    done: bool,
}

impl Assembler {
    pub(crate) fn new(model: &str) -> Self {
        Self { response: Response::nothing(model), started: false, open: None, done: false }
    }

    /// Takes one event; `true` once the message is whole.
    pub(crate) fn take(&mut self, event: &SseEvent, observer: &mut dyn Observer) -> Result<bool, ModelError> {
        let data: Value = serde_json::from_str(&event.data)
            .map_err(|error| malformed(format!("event `{}` holds no JSON: {error}", event.name)))?;
        let kind = data["type"].as_str().unwrap_or(&event.name).to_owned();
        match kind.as_str() {
            "message_start" => self.start(&data["message"])?,
            "content_block_start" => self.open_block(&data)?,
            "content_block_delta" => self.grow_block(&data, observer)?,
            "content_block_stop" => self.close_block(&data)?,
            "message_delta" => self.finish(&data)?,
            "message_stop" => {
                if !self.started || self.open.is_some() {
                    return Err(malformed("message_stop inside a block"));
                }
                self.response.usage.cost_micro_usd =
                    cost_micro_usd(&self.response.model, &self.response.usage);
                self.done = true;
            }
            "error" => return Err(in_stream(&data["error"])),
            _ => {}
        }
        Ok(self.done)
    }

    /// What came, blocks that are not finished included where they can be used: text as far as it is.
    pub(crate) fn into_response(mut self) -> Response {
        if let Some(open) = self.open.take() {
            match open.raw.get("type").and_then(Value::as_str) {
                Some("text") => self.response.blocks.push(finish_block(open)),
                Some("tool_use") => {
                    let (id, name) = names(&open.raw);
                    self.response.blocks.push(Block::BrokenToolUse { id, name, partial: open.input });
                }
                // A thought without its signature is worth nothing to the API.
                _ => {}
            }
        }
        if !self.done {
            self.response.usage.cost_micro_usd = cost_micro_usd(&self.response.model, &self.response.usage);
        }
        self.response
    }

    fn start(&mut self, message: &Value) -> Result<(), ModelError> {
        if std::mem::replace(&mut self.started, true) {
            return Err(malformed("a second message_start"));
        }
        message["id"].as_str().unwrap_or_default().clone_into(&mut self.response.id);
        if let Some(model) = message["model"].as_str().filter(|model| !model.is_empty()) {
            model.clone_into(&mut self.response.model);
        }
        self.response.usage.requests = 1;
        count(&mut self.response.usage, &message["usage"]);
        Ok(())
    }

    fn open_block(&mut self, data: &Value) -> Result<(), ModelError> {
        let index = self.index(data)?;
        let Value::Object(raw) = data["content_block"].clone() else {
            return Err(malformed("a content block that is no object"));
        };
        if self.open.is_some() || index != self.response.blocks.len() as u64 {
            return Err(malformed(format!("block {index} out of order")));
        }
        let known: &[&str] = match raw.get("type").and_then(Value::as_str) {
            Some("text") => &["type", "text"],
            Some("tool_use") => &["type", "id", "name", "input"],
            _ => &[],
        };
        let has_extra = raw.iter().any(|(key, value)| !known.contains(&key.as_str()) && !value.is_null());
        self.open = Some(Open { index, raw, input: String::new(), has_extra });
        Ok(())
    }

    fn grow_block(&mut self, data: &Value, observer: &mut dyn Observer) -> Result<(), ModelError> {
        let index = self.index(data)?;
        let Some(open) = self.open.as_mut().filter(|open| open.index == index) else {
            return Err(malformed(format!("a delta of block {index}, which is not open")));
        };
        let delta = &data["delta"];
        let block = u32::try_from(index).unwrap_or(u32::MAX);
        let text = |field: &str| delta[field].as_str().unwrap_or_default();
        match delta["type"].as_str().unwrap_or_default() {
            "text_delta" => {
                append(&mut open.raw, "text", text("text"));
                observer.delta(Delta::Text { block, text: text("text") });
            }
            "thinking_delta" => {
                append(&mut open.raw, "thinking", text("thinking"));
                observer.delta(Delta::Thinking { block, text: text("thinking") });
            }
            "signature_delta" => append(&mut open.raw, "signature", text("signature")),
            "input_json_delta" => open.input.push_str(text("partial_json")),
            "citations_delta" => {
                open.has_extra = true;
                let list = open.raw.entry("citations").or_insert_with(|| Value::Array(Vec::new()));
                if !list.is_array() {
                    *list = Value::Array(Vec::new());
                }
                if let Value::Array(list) = list {
                    list.push(delta["citation"].clone());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close_block(&mut self, data: &Value) -> Result<(), ModelError> {
        let index = self.index(data)?;
        let Some(open) = self.open.take().filter(|open| open.index == index) else {
            return Err(malformed(format!("the end of block {index}, which is not open")));
        };
        self.response.blocks.push(finish_block(open));
        Ok(())
    }

    fn finish(&mut self, data: &Value) -> Result<(), ModelError> {
        if !self.started {
            return Err(malformed("message_delta before message_start"));
        }
        if let Some(word) = data["delta"]["stop_reason"].as_str() {
            self.response.stop = StopCause::from_wire(word);
        }
        count(&mut self.response.usage, &data["usage"]);
        Ok(())
    }

    fn index(&self, data: &Value) -> Result<u64, ModelError> {
        if !self.started {
            return Err(malformed("a block before message_start"));
        }
        data["index"].as_u64().ok_or_else(|| malformed("a block event without an index"))
    }
}

fn finish_block(open: Open) -> Block {
    let Open { raw, input, has_extra, .. } = open;
    let text = |field: &str| raw.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    match raw.get("type").and_then(Value::as_str) {
        Some("text") => {
            Block::Text { text: text("text"), raw: has_extra.then(|| Value::Object(raw.clone())) }
        }
        Some("thinking") => Block::Thinking { text: text("thinking"), raw: Value::Object(raw) },
        Some("tool_use") => {
            let (id, name) = names(&raw);
            // A call without input streams no delta at all; some servers send the input at the start.
            let parsed = if input.trim().is_empty() {
                Some(raw.get("input").cloned().unwrap_or_else(|| Value::Object(Map::new())))
            } else {
                serde_json::from_str(&input).ok()
            };
            match parsed.filter(Value::is_object) {
                Some(input) => Block::ToolUse { id, name, input },
                None => Block::BrokenToolUse { id, name, partial: input },
            }
        }
        _ => Block::Other(Value::Object(raw)),
    }
}

fn names(raw: &Map<String, Value>) -> (String, String) {
    let text = |field: &str| raw.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("id"), text("name"))
}

fn append(raw: &mut Map<String, Value>, field: &str, more: &str) {
    match raw.get_mut(field) {
        Some(Value::String(text)) => text.push_str(more),
        _ => {
            raw.insert(field.to_owned(), Value::String(more.to_owned()));
        }
    }
}

/// Takes the counts that are there; later events of a stream repeat or complete earlier ones.
pub(crate) fn count(usage: &mut Usage, reported: &Value) {
    let take = |field: &str, to: &mut u64| {
        if let Some(tokens) = reported[field].as_u64() {
            *to = tokens;
        }
    };
    take("input_tokens", &mut usage.input_tokens);
    take("output_tokens", &mut usage.output_tokens);
    take("cache_read_input_tokens", &mut usage.cache_read_input_tokens);
    take("cache_creation_input_tokens", &mut usage.cache_creation_input_tokens);
}

fn in_stream(error: &Value) -> ModelError {
    let text = |field: &str| error[field].as_str().unwrap_or("an error without words").to_owned();
    ModelError::InStream { kind: text("type"), message: text("message") }
}

fn malformed(what: impl Into<String>) -> ModelError {
    ModelError::Malformed(what.into())
}
