//! A finished answer.

use protocol::usage::Usage;

use crate::block::Block;

/// Why the model stopped, as the API words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// It is done.
    EndTurn,
    /// It waits for results of its tool calls.
    ToolUse,
    /// The answer hit its token limit.
    MaxTokens,
    /// It, or the API for it, declined.
    Refusal,
    /// The conversation filled the model's window.
    ContextFull,
    /// A word that this version does not know, or none.
    Other(String),
}

impl StopCause {
    pub(crate) fn from_wire(word: &str) -> Self {
        match word {
            "end_turn" | "stop_sequence" => Self::EndTurn,
            "tool_use" => Self::ToolUse,
            "max_tokens" => Self::MaxTokens,
            "refusal" => Self::Refusal,
            "model_context_window_exceeded" => Self::ContextFull,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A whole answer, or in [`crate::ModelError::Stopped`] the part of one that had come.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The API's id of the message; empty when the server gave none.
    pub id: String,
    /// The model that answered.
    pub model: String,
    /// Its blocks in order.
    pub blocks: Vec<Block>,
    /// Why it stopped.
    pub stop: StopCause,
    /// Tokens and cost of this one request.
    pub usage: Usage,
}

impl Response {
    pub(crate) fn nothing(model: &str) -> Self {
        Self {
            id: String::new(),
            model: model.to_owned(),
            blocks: Vec::new(),
            stop: StopCause::Other(String::new()),
            usage: Usage::default(),
        }
    }

    /// All its text, without thinking.
    #[must_use]
    pub fn text(&self) -> String {
        self.blocks
            .iter()
            .filter_map(|block| match block {
                Block::Text { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }
}
