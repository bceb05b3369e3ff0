//! What becomes of the conversation itself, besides what is said in it.

use serde::{Deserialize, Serialize};

/// Body of `context.compacted`: what the model is sent became shorter. The log keeps everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Compaction {
    /// Who wanted it.
    pub trigger: CompactionTrigger,
    /// What the model reads in place of everything before; without one only results were left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The calls whose results the model is not sent any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Tokens of the conversation before, as far as they are known.
    pub tokens_before: u64,
}

/// Who wanted a conversation shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CompactionTrigger {
    /// The person, by `/compact`.
    Manual,
    /// The agent, for want of room.
    Auto,
}

impl CompactionTrigger {
    /// The word as it stands in the log, and as hooks read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Auto => "auto",
        }
    }
}

/// Body of `command.ran`: the newest prompt was a command to the agent, `/name`, and not to the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandRan {
    /// Its name, without the slash.
    pub name: String,
    /// What the person reads of it, markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What the model reads in place of the prompt; without one it is told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}
