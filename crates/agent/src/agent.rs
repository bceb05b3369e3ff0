//! The agent as a session sees it.

use std::time::Duration;

use async_trait::async_trait;
use model_gateway::Tool;
use protocol::agent_port::{Agent, AgentPort, Connected, PortError, TurnEnd, TurnInput};
use protocol::event::{Event, EventBody};
use protocol::ids::TurnId;
use protocol::rewind::Standing;
use protocol::status::StopReason;
use tokio_util::sync::CancellationToken;

use crate::compact::Threshold;
use crate::config::AgentConfig;
use crate::context;
use crate::gate::Gate;
use crate::guard::LoopGuard;
use crate::history::History;
use crate::library::Subagent;
use crate::mcp;
use crate::spent::Spent;
use crate::threads::Thread;
use crate::tools::{Workbench, definitions, turn_of};
use crate::turn;

/// Our coding agent: one per session, in the server's process.
pub struct PatchyardAgent {
    pub(crate) config: AgentConfig,
    pub(crate) system: Vec<String>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) history: History,
    pub(crate) bench: Workbench,
    pub(crate) guard: LoopGuard,
    pub(crate) gate: Gate,
    /// When the conversation is made shorter.
    pub(crate) threshold: Threshold,
    /// Set for an agent of a thread.
    pub(crate) thread: Option<Thread>,
    /// What the turn used, with all of its threads.
    pub(crate) spent: Spent,
}

impl PatchyardAgent {
    /// An agent with an empty conversation.
    #[must_use]
    pub fn new(config: AgentConfig) -> Self {
        let gate = Gate::new(&config);
        let tools = all_tools(&config, &gate);
        let bench = Workbench::new(&config, gate.permissions().hidden());
        Self {
            system: context::system(&config),
            tools,
            history: History::new(context::opening(&config)),
            spent: bench.threads.spent.clone(),
            thread: None,
            bench,
            guard: LoopGuard::default(),
            gate,
            threshold: Threshold::of(&config.settings.environment(&config.tool_env)),
            config,
        }
    }

    /// An agent of a kind, for a thread: with its own conversation, in the folder of the one that sends it, at that
    /// one's expense.
    pub(crate) fn of_thread(
        config: &AgentConfig,
        kind: &Subagent,
        thread: Thread,
        (cwd, spent): (&str, &Spent),
    ) -> Self {
        let mut config = config.clone();
        if let Some(mode) = kind.mode {
            config.settings = config.settings.narrowed(mode);
        }
        config.caps.requests = config.caps.requests.min(kind.max_turns.unwrap_or(u32::MAX));
        config.scratch = format!("{}/{}", config.scratch, turn_of(&thread.id));
        let mut agent = Self::new(config);
        agent.system = context::system_of_thread(&agent.config, kind);
        agent.tools.retain(|tool| tool.name != "Agent" && kind.has(&tool.name));
        agent.gate.thread = Some(thread.clone());
        if kind.mode.is_some() {
            agent.gate.keep_mode();
        }
        agent.thread = Some(thread);
        agent.spent = spent.clone();
        agent.bench.set_cwd(cwd);
        agent
    }

    /// Waits for MCP servers, and takes over what they have now. What they had before is still there while they
    /// are, so that requests begin with the same bytes.
    pub(crate) async fn equip(&mut self, stop: &CancellationToken) {
        if self.config.servers.is_empty() {
            return;
        }
        stop.run_until_cancelled(self.config.servers.refresh()).await;
        self.tools = all_tools(&self.config, &self.gate);
    }

    /// Takes one event of the log in.
    pub(crate) fn fold(&mut self, turn: Option<TurnId>, body: &EventBody) {
        self.history.apply(turn, body);
        self.bench.tasks.remember(body);
        self.bench.remember(body);
    }
}

/// Ours first, then those of servers, without those that a rule denies whole.
fn all_tools(config: &AgentConfig, gate: &Gate) -> Vec<Tool> {
    let mut tools = definitions(&config.library);
    if let Some(only) = &config.tools {
        tools.retain(|tool| {
            only.iter().any(|name| *name == tool.name || (name == "Task" && tool.name == "Agent"))
        });
    }
    tools.extend(mcp::tools(&config.servers));
    tools.retain(|tool| !gate.permissions().removes(&tool.name));
    tools
}

#[async_trait]
impl Agent for PatchyardAgent {
    async fn restore(&mut self, events: &[Event]) -> Result<(), PortError> {
        let standing = Standing::of(events);
        for event in events {
            if standing.contains(event.seq) {
                self.fold(event.turn, &event.body);
            } else {
                self.history.note_call(&event.body);
            }
        }
        if let Some(cwd) = self.history.cwd() {
            self.bench.set_cwd(cwd);
        }
        Ok(())
    }

    fn connecting(&self) -> Option<Duration> {
        let servers = &self.config.servers;
        (!servers.is_empty()).then(|| servers.patience())
    }

    async fn connect(&mut self) -> Connected {
        self.config.servers.settle().await;
        self.config.servers.connected()
    }

    fn background(&self) -> usize {
        self.bench.tasks.running()
    }

    async fn end_background(&mut self) {
        self.bench.tasks.take_up(&self.bench).await;
        self.bench.tasks.end_all().await;
    }

    async fn turn(&mut self, input: TurnInput, port: &dyn AgentPort, stop: CancellationToken) -> TurnEnd {
        self.equip(&stop).await;
        self.gate.heed_steering();
        match Box::pin(turn::work(self, input, port, &stop)).await {
            Ok(end) => end,
            Err(error) => TurnEnd::failed(StopReason::Agent, error.to_string()),
        }
    }
}
