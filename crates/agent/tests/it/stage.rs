//! Everything that a test of the agent needs, wired together.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent::{AgentConfig, Environment, PatchyardAgent};
use model_gateway::{Auth, ModelClient, ModelConfig, RetryPolicy, Secret};
use protocol::agent_port::{Agent, TurnEnd, TurnInput};
use protocol::event::{Event, EventBody};
use protocol::ids::{PromptId, TurnId};
use protocol::prompt::Delivery;
use tempfile::TempDir;
use testkit::model::{Script, ScriptedModel, Turn};
use tokio_util::sync::CancellationToken;

use crate::hands::LocalHands;
use crate::port::MemoryPort;

pub(crate) struct Stage {
    /// Removes the workspace in the end.
    _dir: TempDir,
    pub(crate) model: ScriptedModel,
    pub(crate) port: Arc<MemoryPort>,
    pub(crate) hands: Arc<LocalHands>,
    pub(crate) config: AgentConfig,
    pub(crate) agent: PatchyardAgent,
    pub(crate) stop: CancellationToken,
}

pub(crate) fn client(base_url: &str, change: impl FnOnce(&mut ModelConfig)) -> ModelClient {
    let mut config = ModelConfig::new(base_url, Auth::ApiKey(Secret::new("k")), "scripted-model");
    config.idle_timeout = Duration::from_secs(20);
    change(&mut config);
    let retry = RetryPolicy { jitter: Arc::new(|| 0.0), ..RetryPolicy::default() };
    ModelClient::new(config).unwrap().with_retry(retry)
}

impl Stage {
    pub(crate) async fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self::with(Script::turns(turns), LocalHands::default(), |_| {}).await
    }

    pub(crate) async fn with(
        script: Script,
        hands: LocalHands,
        change: impl FnOnce(&mut AgentConfig),
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let workspace = fs::canonicalize(dir.path()).unwrap().join("workspace");
        fs::create_dir(&workspace).unwrap();
        let model = ScriptedModel::start(script).await;
        let hands = Arc::new(hands);
        let environment = Environment {
            date: "2026-11-20".into(),
            platform: "Linux".into(),
            branch: "patchyard/test-1".into(),
        };
        let client = client(model.base_url(), |_| {});
        let mut config = AgentConfig::new(client, hands.clone(), workspace.to_str().unwrap(), environment);
        config.scratch = workspace.with_file_name("scratch").to_str().unwrap().into();
        // Scripts say what they say; the check has a test of its own.
        config.caps.finish_check = false;
        change(&mut config);
        let agent = PatchyardAgent::new(config.clone());
        let stop = CancellationToken::new();
        Self { _dir: dir, model, port: Arc::default(), hands, config, agent, stop }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(&self.config.workspace).join(name)
    }

    pub(crate) fn full(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Does what a session does: the prompt and the turn's start are in the log before the agent works.
    pub(crate) async fn turn(&mut self, text: &str) -> TurnEnd {
        let input = self.accept(text);
        self.agent.turn(input, &*self.port, self.stop.clone()).await
    }

    pub(crate) fn accept(&self, text: &str) -> TurnInput {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (prompt, turn) = (PromptId::from_parts(number, 0), TurnId::from_parts(number, 0));
        self.port.push(vec![EventBody::PromptQueued { prompt, text: text.into(), delivery: Delivery::Next }]);
        *self.port.turn.lock().unwrap() = Some(turn);
        self.port.push(vec![EventBody::TurnStarted { prompt }]);
        TurnInput { turn, prompt, text: text.into(), resumed: false }
    }

    /// A new agent in a new process: all that it knows is the log, read back from its JSON.
    pub(crate) async fn restart(&mut self, events: &[Event]) {
        let text = serde_json::to_string(events).unwrap();
        let events: Vec<Event> = serde_json::from_str(&text).unwrap();
        self.agent = PatchyardAgent::new(self.config.clone());
        self.agent.restore(&events).await.unwrap();
    }
}
