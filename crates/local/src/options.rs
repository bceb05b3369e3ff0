//! What a run is asked to do.

use std::path::PathBuf;

use policy::permissions::Mode;

/// How a run answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// The last words, as text.
    #[default]
    Text,
    /// One JSON object at the end.
    Json,
    /// A line of JSON for everything that happens.
    Stream,
}

/// Which conversation it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Conversation {
    /// A new one.
    #[default]
    New,
    /// The newest one of this folder.
    Newest,
    /// The one of this id.
    Of(String),
}

/// Who decides about uses that no rule decides about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nobody: they are refused.
    #[default]
    Nobody,
    /// Whoever drives us, over the streams.
    Driver,
    /// A tool of an MCP server.
    Tool(String),
}

/// Everything that a run is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The prompt, where it is not read from the stream.
    pub prompt: Option<String>,
    /// Whether prompts and control messages are read as lines of JSON.
    pub stream_input: bool,
    /// How it answers.
    pub format: Format,
    /// Whether events of the model's stream are shown, too.
    pub partial_messages: bool,
    /// Whether prompts are shown again as they are taken.
    pub replay_prompts: bool,
    /// The model.
    pub model: Option<String>,
    /// The model for when that is overloaded.
    pub fallback_model: Option<String>,
    /// In place of our words to the model.
    pub system_prompt: Option<String>,
    /// Besides.
    pub append_system_prompt: Option<String>,
    /// Rules that allow.
    pub allowed: Vec<String>,
    /// Rules that deny.
    pub disallowed: Vec<String>,
    /// The only tools of ours.
    pub tools: Option<Vec<String>>,
    /// The mode.
    pub mode: Option<Mode>,
    /// Whether the mode without questions may be set later.
    pub may_bypass: bool,
    /// Who decides.
    pub asked: Asked,
    /// Requests of one turn.
    pub max_turns: Option<u32>,
    /// Dollars of one turn.
    pub max_budget_usd: Option<f64>,
    /// Folders besides this one.
    pub folders: Vec<PathBuf>,
    /// MCP servers: files, or JSON.
    pub mcp_config: Vec<String>,
    /// Whether these are the only ones.
    pub strict_mcp_config: bool,
    /// Settings: a file, or JSON.
    pub settings: Option<String>,
    /// Whose settings are read: `user`, `project`, `local`; all of them without.
    pub setting_sources: Option<Vec<String>>,
    /// Kinds of agents, JSON.
    pub agents: Option<String>,
    /// The id of a new conversation.
    pub session_id: Option<String>,
    /// Which conversation.
    pub conversation: Conversation,
    /// Whether going on makes another conversation of it.
    pub fork: bool,
    /// Whether nothing is written down.
    pub forget: bool,
}
