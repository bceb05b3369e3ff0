//! How a session begins and ends where nobody else sees to it, and what it offers.
//!
//! ```text
//!  open: SessionStart hooks, which tell the model ─▶ turns ─▶ close: SessionEnd hooks, background commands
//! ```

use protocol::agent_port::{AgentPort, PortError};
use protocol::event::EventBody;
use protocol::ids::PromptId;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::agent::PatchyardAgent;
use crate::gate::Moment;
use crate::hooks::Event;
use crate::slash::OWN;
use crate::turn::append;
use protocol::agent_port::Agent as _;

/// What a session has, by names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Tools.
    pub tools: Vec<String>,
    /// Commands, without the slash.
    pub commands: Vec<String>,
    /// Those of them that are skills.
    pub skills: Vec<String>,
    /// Kinds of agents that can be sent.
    pub agents: Vec<String>,
}

impl PatchyardAgent {
    /// Waits for MCP servers and runs the `SessionStart` hooks.
    ///
    /// # Errors
    ///
    /// When nothing more is taken.
    pub async fn open(
        &mut self,
        source: &str,
        port: &dyn AgentPort,
        stop: &CancellationToken,
    ) -> Result<(), PortError> {
        self.equip(stop).await;
        let more = json!({ "source": source, "model": self.config.model_now().config().model });
        let moment =
            Moment { bench: &self.bench, port, stop, prompt: PromptId::from_parts(0, 0), resumed: false };
        let said = self.gate.hooks(Event::SessionStart, source, more, moment).await?;
        let context = said.context.into_iter().map(|text| EventBody::ContextAdded {
            source: "SessionStart hook".into(),
            text: format!("<system-reminder>\nSessionStart:{source} hook says: {text}\n</system-reminder>"),
        });
        append(self, port, context.collect()).await
    }

    /// Runs the `SessionEnd` hooks and ends what runs in the background.
    ///
    /// # Errors
    ///
    /// When nothing more is taken.
    pub async fn close(&mut self, reason: &str, port: &dyn AgentPort) -> Result<(), PortError> {
        let stop = CancellationToken::new();
        let moment = Moment {
            bench: &self.bench,
            port,
            stop: &stop,
            prompt: PromptId::from_parts(0, 0),
            resumed: false,
        };
        self.gate.hooks(Event::SessionEnd, reason, json!({ "reason": reason }), moment).await?;
        self.end_background().await;
        Ok(())
    }

    /// What there is now.
    #[must_use]
    pub fn offer(&self) -> Offer {
        let library = &self.config.library;
        let commands = library.commands().filter(|command| command.by_person);
        let skills = library.commands().filter(|command| command.folder().is_some());
        let servers = crate::mcp::prompts(&self.config.servers).into_iter().map(|(name, _)| name);
        Offer {
            tools: self.tools.iter().map(|tool| tool.name.clone()).collect(),
            commands: commands
                .map(|command| command.name.clone())
                .chain(OWN.map(|(name, _)| name.to_owned()))
                .chain(servers)
                .collect(),
            skills: skills.map(|command| command.name.clone()).collect(),
            agents: library.subagents().map(|agent| agent.name.clone()).collect(),
        }
    }

    /// How much is done without a question now.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        self.gate.permissions().mode().name()
    }
}
