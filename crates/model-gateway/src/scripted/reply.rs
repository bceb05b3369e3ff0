//! What a played model answers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A door in a stream: what stands behind it is sent once somebody opened it.
#[derive(Debug, Clone, Default)]
pub struct Gate(CancellationToken);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn closed() -> Self {
        Self::default()
    }

    /// Opens it, for good.
    pub fn open(&self) {
        self.0.cancel();
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        self.0.cancelled().await;
    }
}

/// What goes wrong on purpose.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A plain HTTP error in the API's shape.
    Http { status: u16, kind: String, message: String, headers: Vec<(String, String)> },
    /// An `error` event after so many events.
    StreamError { after_events: usize, kind: String, message: String },
    /// The connection breaks after so many bytes of the stream.
    CutAfter { bytes: usize },
    /// After so many events comes one whose data is no JSON.
    MalformedAfter { events: usize },
    /// Something else altogether, with this status and content type.
    Raw { status: u16, content_type: String, body: String },
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Blocks as the API has them; a `tool_use` without `id` gets one.
    pub blocks: Vec<Value>,
    /// `tool_use` when a block is one, else `end_turn`, unless it is set.
    pub stop_reason: Option<String>,
    /// Fields that replace the usage that follows from the sizes.
    pub usage: Value,
    /// Characters in one delta.
    pub chunk: usize,
    /// The pause between deltas.
    pub pause: Duration,
    /// The stream waits at this gate after so many events.
    pub hold: Option<(usize, Gate)>,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            stop_reason: None,
            usage: Value::Null,
            chunk: 16,
            pause: Duration::ZERO,
            hold: None,
            fault: None,
        }
    }
}

impl Reply {
    /// An answer of one text block.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().and_text(text)
    }

    /// Adds a text block.
    #[must_use]
    pub fn and_text(mut self, text: impl Into<String>) -> Self {
        self.blocks.push(json!({ "type": "text", "text": text.into() }));
        self
    }

    /// Adds a tool call.
    #[must_use]
    pub fn and_tool(mut self, name: &str, input: Value) -> Self {
        self.blocks.push(json!({ "type": "tool_use", "name": name, "input": input }));
        self
    }

    /// Adds a thought with its signature.
    #[must_use]
    pub fn and_thinking(mut self, thinking: &str, signature: &str) -> Self {
        self.blocks.push(json!({ "type": "thinking", "thinking": thinking, "signature": signature }));
        self
    }

    /// An answer that goes wrong.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}
