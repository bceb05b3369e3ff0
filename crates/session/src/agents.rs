//! Which agents a server has, and how one is made for a session.
//!
//! ```text
//!  patchyard ─▶ our loop, here; its tools through the guest
//!  others    ─▶ a command in the sandbox that speaks ACP on its standard streams
//! ```

use std::sync::Arc;

use agent::mcp::{Servers, ServersPlace};
use agent::{AgentConfig, Environment, PatchyardAgent};
use model_gateway::ModelClient;
use protocol::agent_port::Agent;
use protocol::hands::Hands;
use protocol::view::SessionView;

use crate::acp::AcpAgent;
use crate::config::SessionConfig;
use crate::error::SessionError;
use crate::project::{HOME, Project};
use crate::provision::hooks::ENV_FILE;

/// The name of our own agent.
pub(crate) const OURS: &str = "patchyard";

/// An agent that lives in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSpec {
    /// The name that sessions choose.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// The way to the model of our own agent.
#[derive(Clone)]
pub enum ModelSource {
    /// There is one.
    Ready(ModelClient),
    /// There is none: our agent cannot be chosen.
    Missing,
}

/// The agents of a server.
#[derive(Clone)]
pub struct Agents {
    model: ModelSource,
    others: Vec<AgentSpec>,
}

/// Where an agent works.
pub(crate) struct Place {
    pub(crate) hands: Arc<dyn Hands>,
    pub(crate) workspace: String,
    /// Variables of every command.
    pub(crate) environment: Vec<(String, String)>,
    /// Authorities, PEM, that programs inside trust besides those of their image.
    pub(crate) authorities: Vec<String>,
}

impl Agents {
    /// Our agent and these others.
    #[must_use]
    pub fn new(model: ModelSource, others: Vec<AgentSpec>) -> Self {
        Self { model, others }
    }

    /// Names, ours first.
    pub(crate) fn names(&self) -> Vec<String> {
        std::iter::once(OURS.to_owned()).chain(self.others.iter().map(|spec| spec.name.clone())).collect()
    }

    /// The agent that a session asks for, if it can work.
    pub(crate) fn resolve(&self, wanted: Option<&str>) -> Result<String, SessionError> {
        let name = wanted.unwrap_or(OURS);
        if name == OURS {
            return match self.model {
                ModelSource::Ready(_) => Ok(name.to_owned()),
                ModelSource::Missing => Err(SessionError::NoModel),
            };
        }
        if self.others.iter().any(|spec| spec.name == name) {
            return Ok(name.to_owned());
        }
        Err(SessionError::NoAgent { wanted: name.chars().take(80).collect(), known: self.names().join(", ") })
    }

    /// Makes the agent of a session.
    pub(crate) async fn make(
        &self,
        facts: &SessionView,
        place: Place,
        project: Project,
        sessions: &SessionConfig,
    ) -> Result<Box<dyn Agent>, String> {
        if facts.agent != OURS {
            let spec = self.others.iter().find(|spec| spec.name == facts.agent).ok_or_else(|| {
                format!(
                    "this server has no agent `{}` any more; it has {}",
                    facts.agent,
                    self.names().join(", ")
                )
            })?;
            return Ok(Box::new(AcpAgent::new(spec.clone(), place, sessions.deadlines.agent)));
        }
        let ModelSource::Ready(model) = &self.model else { return Err(SessionError::NoModel.to_string()) };
        let environment = Environment {
            date: facts.created_at.strftime("%Y-%m-%d").to_string(),
            platform: format!("Linux, image `{}`", facts.image),
            branch: facts.branch.clone(),
        };
        let mut config = AgentConfig::new(model.clone(), place.hands, place.workspace, environment);
        let inside = ServersPlace {
            hands: Arc::clone(&config.hands),
            workspace: config.workspace.clone(),
            home: HOME.to_owned(),
            environment: place.environment.clone(),
            guest_program: config.guest_program.clone(),
            driver: None,
            authorities: place.authorities,
        };
        config.servers = Servers::start(&project.servers, &project.settings, inside).into();
        config.memory = project.memory.into();
        config.managed_memory = project.managed_memory;
        config.settings = project.settings;
        config.library = project.library.into();
        config.session = facts.id.to_string();
        config.home = HOME.to_owned();
        config.tool_env = place.environment;
        config.caps = sessions.caps;
        config.env_file = Some(ENV_FILE.to_owned());
        Ok(Box::new(PatchyardAgent::new(config)))
    }
}
