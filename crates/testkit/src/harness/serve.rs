//! How a server is started.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::command::{Finished, run};
use super::must::Must as _;
use super::server::TestServer;
use crate::model::ScriptedModel;

/// A server to be: the program, what it knows of a model, its configuration.
///
/// Its folder is made at once, so that a test can put something there first.
#[derive(Debug, Clone)]
pub struct Serve {
    program: PathBuf,
    dir: Arc<TempDir>,
    listen: String,
    environment: Vec<(String, String)>,
    config: Option<String>,
    warm: bool,
}

impl Serve {
    /// `program serve` on a free port with a data directory of its own and nothing else.
    ///
    /// # Panics
    /// When no folder can be made.
    #[must_use]
    pub fn of(program: impl Into<PathBuf>) -> Self {
        let dir = tempfile::Builder::new().prefix("patchyard-test-").tempdir().must("a temporary folder");
        std::fs::create_dir(dir.path().join("home")).must("a home");
        Self {
            program: program.into(),
            dir: Arc::new(dir),
            listen: "127.0.0.1:0".into(),
            environment: Vec::new(),
            config: None,
            warm: false,
        }
    }

    /// With this model.
    #[must_use]
    pub fn model(self, model: &ScriptedModel) -> Self {
        self.model_at(model.base_url())
    }

    /// With the model that answers there.
    #[must_use]
    pub fn model_at(self, base_url: &str) -> Self {
        self.env("ANTHROPIC_BASE_URL", base_url)
            .env("ANTHROPIC_API_KEY", "sk-test-key")
            .env("ANTHROPIC_MODEL", "scripted-model")
    }

    /// With sandboxes that wait for sessions, as many as servers have where nothing else is said. Other
    /// tests have none: they count sandboxes.
    #[must_use]
    pub fn warm(mut self) -> Self {
        self.warm = true;
        self
    }

    /// With this configuration file.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// On this address.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Its data directory, which the server makes.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts it and waits until it accepts requests.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(self) -> TestServer {
        TestServer::start(self).await
    }

    /// Starts it and waits for its end: for a server that cannot run.
    pub async fn outcome(&self) -> Finished {
        run(self.command()).await
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.path().join("serve.log")
    }

    pub(super) fn spawn(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).must("the log file");
        self.command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .must("the server's process")
    }

    /// The program with an environment of its own: nothing of the account that runs the test.
    pub(super) fn bare(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("HOME", self.home())
            .env("TMPDIR", std::env::temp_dir())
            .current_dir(self.home());
        command
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn whole_config(&self) -> Option<String> {
        let has_own = self.environment.iter().any(|(name, _)| name == "PATCHYARD_CONFIG");
        if has_own {
            return self.config.clone();
        }
        let mut config = self.config.clone().unwrap_or_default();
        if !self.warm {
            config = with(&config, "[sandbox]", "warm = 0");
        }
        // Scripted models end a turn when they say so.
        if !config.contains("[turn]") {
            config = with(&config, "[turn]", "finish_check = false");
        }
        Some(config)
    }

    fn command(&self) -> Command {
        let mut command = self.bare();
        command.args(["serve", "--listen", &self.listen, "--data"]).arg(self.data());
        if let Some(config) = self.whole_config() {
            let path = self.dir.path().join("config.toml");
            std::fs::write(&path, config).must("a configuration file");
            command.arg("--config").arg(path);
        }
        command.env("PATCHYARD_LOG", "info,hyper=warn").envs(self.environment.iter().cloned());
        command
    }

    /// Where everything of it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the folder behind, for who looks why a test failed.
    pub(super) fn keep(mut self) -> Option<PathBuf> {
        let dir = Arc::get_mut(&mut self.dir)?;
        dir.disable_cleanup(true);
        Some(dir.path().to_owned())
    }
}

/// A configuration with a line in a section.
fn with(config: &str, section: &str, line: &str) -> String {
    match config.contains(section) {
        true => config.replacen(section, &format!("{section}\n{line}"), 1),
        false => format!("{config}\n{section}\n{line}\n"),
    }
}
