//! Reads a conversation back as events.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use protocol::event::{AgentBlock, Compaction, CompactionTrigger, Event, EventBody, ToolCall, ToolResult};
use protocol::ids::{PromptId, SessionId, TurnId};
use protocol::prompt::Delivery;
use serde_json::Value;
use ulid::Ulid;

/// The largest conversation that is read.
const MAX_FILE: u64 = 512 * 1024 * 1024;

/// A conversation that was read.
#[derive(Default)]
pub(crate) struct Past {
    /// What happened.
    pub(crate) events: Vec<Event>,
    /// The newest line.
    pub(crate) last: Option<String>,
    /// The lines as they stand, for a conversation that begins with them.
    pub(crate) lines: Vec<Value>,
}

/// Reads a file; what is no line of a conversation is passed over.
pub(crate) fn read(path: &Path) -> io::Result<Past> {
    let mut past = Past::default();
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the conversation is longer than 512 MiB"));
    }
    for line in BufReader::new(file.take(MAX_FILE)).split(b'\n') {
        let Ok(value) = serde_json::from_slice::<Value>(&line?) else { continue };
        if value["isSidechain"] == true {
            continue;
        }
        past.take(&value);
        if let Some(id) = value["uuid"].as_str() {
            past.last = Some(id.to_owned());
        }
        past.lines.push(value);
    }
    Ok(past)
}

impl Past {
    fn take(&mut self, line: &Value) {
        let ours = &line["patchyard"];
        if let Ok(event) = serde_json::from_value::<EventBody>(ours["event"].clone()) {
            return self.push(None, event);
        }
        let content = &line["message"]["content"];
        match line["type"].as_str() {
            Some("assistant") => {
                let message = line["message"]["id"].as_str().unwrap_or_default();
                for block in content.as_array().into_iter().flatten() {
                    self.assistant(message, block);
                }
            }
            Some("user") if line["isCompactSummary"] == true => {
                // Ours was told by the line before.
                let told =
                    matches!(self.events.last(), Some(Event { body: EventBody::ContextCompacted(_), .. }));
                if !told {
                    let summary = Some(text_of(content));
                    let trigger = CompactionTrigger::Auto;
                    let compaction = Compaction { trigger, summary, left_out: Vec::new(), tokens_before: 0 };
                    self.push(None, EventBody::ContextCompacted(compaction));
                }
            }
            Some("user") => self.user(line, content),
            _ => {}
        }
    }

    fn assistant(&mut self, message: &str, block: &Value) {
        let text = |field: &str| block[field].as_str().unwrap_or_default().to_owned();
        let message = message.to_owned();
        let body = match block["type"].as_str() {
            Some("text") => {
                let is_plain = block.as_object().is_some_and(|fields| fields.len() == 2);
                let raw = (!is_plain).then(|| block.clone());
                EventBody::AgentMessage(AgentBlock { message, text: text("text"), raw })
            }
            Some("tool_use") => EventBody::ToolCall(ToolCall {
                message,
                call: text("id"),
                name: text("name"),
                title: String::new(),
                input: block["input"].clone(),
            }),
            Some(_) => EventBody::AgentThought(AgentBlock {
                message,
                text: text("thinking"),
                raw: Some(block.clone()),
            }),
            None => return,
        };
        self.push(None, body);
    }

    fn user(&mut self, line: &Value, content: &Value) {
        let ours = &line["patchyard"];
        let results: Vec<&Value> =
            content.as_array().into_iter().flatten().filter(|block| block["type"] == "tool_result").collect();
        for block in &results {
            let result = ToolResult {
                call: block["tool_use_id"].as_str().unwrap_or_default().to_owned(),
                content: text_of(&block["content"]),
                is_error: block["is_error"] == true,
                duration_ms: ours["duration_ms"].as_u64().unwrap_or(0),
                detail: ours["detail"].clone(),
                full_output: None,
            };
            self.push(None, EventBody::ToolResult(result));
        }
        let text = text_of(content);
        if text.is_empty() {
            return;
        }
        if line["isMeta"] == true || !results.is_empty() {
            let source = ours["source"].as_str().unwrap_or("transcript").to_owned();
            return self.push(None, EventBody::ContextAdded { source, text });
        }
        let prompt = PromptId::from(Ulid::generate());
        self.push(None, EventBody::PromptQueued { prompt, text, delivery: Delivery::Next });
        if ours["delivered"] == true {
            self.push(None, EventBody::PromptDelivered { prompt });
        } else {
            self.push(Some(TurnId::from(Ulid::generate())), EventBody::TurnStarted { prompt });
        }
    }

    fn push(&mut self, turn: Option<TurnId>, body: EventBody) {
        self.events.push(Event {
            session: SessionId::from_parts(0, 0),
            seq: self.events.len() as u64 + 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            epoch: 1,
            turn,
            causation: None,
            body,
        });
    }
}

/// The text of a text, or of a list of blocks.
pub(crate) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts =
                blocks.iter().filter(|block| block["type"] == "text").filter_map(|b| b["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}
