//! What an agent is made of.

use std::sync::Arc;

use model_gateway::ModelClient;
use protocol::hands::Hands;
use protocol::sandbox_host::GUEST_BIN;

use crate::library::Library;
use crate::mcp::Servers;
use crate::memory::Memory;
use crate::settings::Settings;
use crate::steering::Steering;

/// Facts of the session that the model is told once. They must stay the same for the whole session:
/// they are part of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The day that the session began, such as `2026-11-20`.
    pub date: String,
    /// What runs in the sandbox, such as `Debian GNU/Linux 12, x86_64`.
    pub platform: String,
    /// The branch that the work lands on.
    pub branch: String,
}

/// Where an agent works, as far as it is told about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Where {
    /// In a sandbox of the session's own.
    #[default]
    Sandbox,
    /// On the machine of the person.
    Machine,
}

/// What the model is told of itself in place of our words, and besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// In place of ours.
    pub instead: Option<String>,
    /// Besides.
    pub besides: Option<String>,
}

/// What ends a turn that does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Model requests in one turn.
    pub requests: u32,
    /// How often an answer that hit its token limit is continued in one turn.
    pub continuations: u32,
    /// Tokens of one turn, its threads included.
    pub tokens: Option<u64>,
    /// Millionths of a US dollar of one turn, by the list price, its threads included.
    pub cost_micro_usd: Option<u64>,
    /// Whether the model is told once, before it ends a turn, that it changed code and ran nothing since.
    pub finish_check: bool,
}

impl Default for Caps {
    fn default() -> Self {
        Self { requests: 200, continuations: 3, tokens: None, cost_micro_usd: None, finish_check: true }
    }
}

/// Everything that an agent needs.
#[derive(Clone)]
pub struct AgentConfig {
    /// The way to the model.
    pub model: ModelClient,
    /// The model that is asked when the other one is overloaded.
    pub fallback: Option<ModelClient>,
    /// What may be changed while the agent works.
    pub steering: Steering,
    /// Where it works.
    pub place: Where,
    /// Words of the person's for the system prompt.
    pub words: Words,
    /// The only tools of ours that it has, where somebody says so.
    pub tools: Option<Vec<String>>,
    /// The file with the conversation, as hooks read it.
    pub transcript: String,
    /// Where the tools run.
    pub hands: Arc<dyn Hands>,
    /// The workspace inside, such as `/workspace/project`.
    pub workspace: String,
    /// The session's id, as hooks read it.
    pub session: String,
    /// What the repository and the operator say in settings files.
    pub settings: Settings,
    /// What `~` is where the tools run.
    pub home: String,
    /// Instructions of the repository; see [`crate::memory`].
    pub memory: Arc<Memory>,
    /// Instructions of the operator.
    pub managed_memory: Option<String>,
    /// What the repository keeps for agents besides.
    pub library: Arc<Library>,
    /// MCP servers of the session.
    pub servers: Arc<Servers>,
    /// Facts for the model.
    pub environment: Environment,
    /// Variables of every command, such as `CLAUDECODE=1`.
    pub tool_env: Vec<(String, String)>,
    /// A file inside that every command of `Bash` reads first, as a shell script whose variables are
    /// exported; nothing happens while it is not there.
    pub env_file: Option<String>,
    /// What ends a turn.
    pub caps: Caps,
    /// The program inside that answers `glob` and `grep`, and what stands before these words.
    pub guest_program: Vec<String>,
    /// A folder inside for the agent's own files: long outputs, the shell's last folder.
    pub scratch: String,
}

impl AgentConfig {
    /// The model that is asked now.
    #[must_use]
    pub fn model_now(&self) -> ModelClient {
        self.steering.model().unwrap_or_else(|| self.model.clone())
    }

    /// An agent without instructions of the repository, with the usual caps.
    #[must_use]
    pub fn new(
        model: ModelClient,
        hands: Arc<dyn Hands>,
        workspace: impl Into<String>,
        environment: Environment,
    ) -> Self {
        Self {
            model,
            fallback: None,
            steering: Steering::default(),
            place: Where::default(),
            words: Words::default(),
            tools: None,
            transcript: String::new(),
            hands,
            workspace: workspace.into(),
            session: String::new(),
            settings: Settings::default(),
            home: "/root".into(),
            memory: Arc::default(),
            managed_memory: None,
            library: Arc::default(),
            servers: Arc::default(),
            environment,
            tool_env: Vec::new(),
            env_file: None,
            caps: Caps::default(),
            guest_program: vec![format!("{GUEST_BIN}/patchyard-guest")],
            scratch: "/tmp/patchyard".into(),
        }
    }
}
