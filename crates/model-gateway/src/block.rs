//! Blocks of the model's messages.

use serde_json::{Value, json};

/// One block of an answer. What this version does not know is kept as it came.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Text; `raw` is set where the block has more than its text, such as citations.
    Text { text: String, raw: Option<Value> },
    /// Thinking: the readable part, and the whole block with its signature.
    Thinking { text: String, raw: Value },
    /// A tool call whose input arrived whole.
    ToolUse { id: String, name: String, input: Value },
    /// A tool call whose input broke off or is no JSON object; it cannot be run nor sent back.
    BrokenToolUse { id: String, name: String, partial: String },
    /// A kind that this version does not know.
    Other(Value),
}

impl Block {
    /// The block as it goes back to the API, byte for byte in its strings; `None` for what the API
    /// would refuse: empty text, and tool calls that broke off.
    #[must_use]
    pub fn to_wire(&self) -> Option<Value> {
        match self {
            Self::Text { raw: Some(raw), .. } | Self::Thinking { raw, .. } | Self::Other(raw) => {
                Some(raw.clone())
            }
            Self::Text { text, raw: None } if text.trim().is_empty() => None,
            Self::Text { text, raw: None } => Some(json!({ "type": "text", "text": text })),
            Self::ToolUse { id, name, input } => {
                Some(json!({ "type": "tool_use", "id": id, "name": name, "input": input }))
            }
            Self::BrokenToolUse { .. } => None,
        }
    }
}
