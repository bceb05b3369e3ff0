//! The agent as a session sees it.

use async_trait::async_trait;
use model_gateway::Tool;
use protocol::agent_port::{Agent, AgentPort, PortError, TurnEnd, TurnInput};
use protocol::event::Event;
use protocol::rewind::Standing;
use protocol::status::StopReason;
use tokio_util::sync::CancellationToken;

use crate::compact::Threshold;
use crate::config::AgentConfig;
use crate::context;
use crate::gate::Gate;
use crate::guard::LoopGuard;
use crate::history::History;
use crate::tools::{Workbench, definitions};
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
}

impl PatchyardAgent {
    /// An agent with an empty conversation.
    #[must_use]
    pub fn new(config: AgentConfig) -> Self {
        let gate = Gate::new(&config);
        let mut tools = definitions(&config.library);
        tools.retain(|tool| !gate.permissions().removes(&tool.name));
        Self {
            system: context::system(&config),
            tools,
            history: History::new(context::opening(&config)),
            bench: Workbench::new(&config, gate.permissions().hidden()),
            guard: LoopGuard::default(),
            gate,
            threshold: Threshold::of(&config.settings.environment(&config.tool_env)),
            config,
        }
    }
}

#[async_trait]
impl Agent for PatchyardAgent {
    async fn restore(&mut self, events: &[Event]) -> Result<(), PortError> {
        let standing = Standing::of(events);
        for event in events {
            if standing.contains(event.seq) {
                self.history.apply(event.turn, &event.body);
                self.bench.tasks.remember(&event.body);
                self.bench.remember(&event.body);
            } else {
                self.history.note_call(&event.body);
            }
        }
        if let Some(cwd) = self.history.cwd() {
            self.bench.set_cwd(cwd);
        }
        Ok(())
    }

    fn background(&self) -> usize {
        self.bench.tasks.running()
    }

    async fn end_background(&mut self) {
        self.bench.tasks.take_up(&self.bench).await;
        self.bench.tasks.end_all().await;
    }

    async fn turn(&mut self, input: TurnInput, port: &dyn AgentPort, stop: CancellationToken) -> TurnEnd {
        match Box::pin(turn::work(self, input, port, &stop)).await {
            Ok(end) => end,
            Err(error) => TurnEnd::failed(StopReason::Agent, error.to_string()),
        }
    }
}
