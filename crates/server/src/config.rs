//! The configuration file: one struct per concern, read once at the start, passed as arguments.
//!
//! ```toml
//! [server]
//! hosts = ["patchyard.example.org"]       # names besides the listen address
//!
//! [model]
//! base_url = "https://…"                  # else ANTHROPIC_BASE_URL
//! model = "…"                             # else ANTHROPIC_MODEL
//! api_key_file = "/etc/patchyard/key"     # else ANTHROPIC_API_KEY
//! allow = ["web_search"]                  # of what agents in sandboxes may ask beyond words
//! max_tokens_per_session = 5000000        # then agents in its sandbox are refused
//!
//! [sandbox]
//! image = "slim"
//! memory_bytes = 16000000000
//! cpu_millis = 4000
//! pids = 4096
//! disk_bytes = 30000000000
//! open_files = 65536
//! warm = 4                                # sandboxes that wait for a session
//! idle_seconds = 600                      # then the sandbox is put away, kept whole; 0: never
//! checkpoint_seconds = 60                 # the longest that a turn works without a record of its files
//! environment = { TZ = "UTC" }
//!
//! [setup]
//! timeout_seconds = 600                   # of a setup script
//! cache_bytes = 20000000000               # kept of setups, all together
//! cache_entries = 50
//! cache_valid_hours = 168                 # then built anew in the background
//!
//! [repositories]
//! file_roots = ["/srv/git"]
//! allow = [{ host = "git.corp", cidr = "10.1.0.0/16" }]
//! personal_tokens = true                  # whether `patchyard web-setup` may give the server tokens
//! push_branches = true                    # whether the session's branch is pushed when a turn ends
//! lfs_bytes = 4000000000                  # of large files (git LFS) that a session begins with
//! lfs_objects = 10000
//! submodules = ["https://git.corp/shared/"]   # fetched with a token, whichever repository names them
//!
//! [[forges]]                              # besides github.com and *.ghe.com: GitHub Enterprise Server
//! host = "ghe.corp.example.org"
//! api = "https://ghe.corp.example.org/api/v3"   # where it is anyway
//!
//! [network]                               # above what environments say
//! allow = ["*.corp.example.org", "git.example.org:22"]
//! deny = ["paste.example.net"]
//! private = [{ host = "registry.corp.example.org", cidr = "10.2.0.0/16" }]
//! name_servers = ["10.0.0.53"]            # else those of the system
//! authorities = ["/etc/patchyard/corp.pem"]   # besides those of the system
//! canaries = ["INTERNAL-7f3a9c"]          # texts that may be sent nowhere, where it is seen
//!
//! [network.budgets]                       # of one sandbox, from its binding on
//! read_host_bytes = 10000000              # to a host that may only be read
//! host_bytes = 1000000000
//! session_bytes = 5000000000
//! names_of_wildcard = 200
//!
//! [secrets.NAME]                          # a value that environments may bind, one of:
//! file = "/etc/patchyard/token"
//! variable = "REGISTRY_TOKEN"             # of the server's environment
//! command = ["vault", "read", "-field=token", "secret/registry"]
//!
//! [turn]                                  # of our agent, with all that it sends to work; then it ends, and says so
//! requests = 200
//! tokens = 5000000                        # without: no limit
//! cost_usd = 10.0                         # by the list price; without: no limit
//! minutes = 360                           # 0.5 is half of one
//! finish_check = true                     # whether it is told once that it changed code and ran nothing since
//!
//! [deadlines]                             # seconds, for each phase that passes; all of them: `deadlines`
//! sandbox = 60                            # making one
//! checkpoint = 120                        # recording its files
//! push = 120                              # bringing the branch to its repository
//!
//! [settings]
//! managed = "/etc/claude-code"            # its managed-settings.json holds for our agent in every session
//!
//! [agents.NAME]                           # an ACP agent that the image contains
//! command = ["/usr/bin/agent", "--acp"]
//! ```

mod deadlines;
mod network;
mod repositories;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::network::PolicyError;
use protocol::sandbox_spec::Limits;
use serde::Deserialize;
use session::{CacheLimits, Caps, Deadlines, OperatorNetwork, OperatorSecret};

pub use deadlines::DeadlineConfig;
pub(crate) use deadlines::seconds;
pub use network::NetworkConfig;
pub use repositories::{ForgeConfig, RepositoriesConfig};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The HTTP face.
    pub server: ServerConfig,
    /// The way to the model.
    pub model: ModelSettings,
    /// Sandboxes.
    pub sandbox: SandboxConfig,
    /// Setup scripts of environments.
    pub setup: SetupConfig,
    /// What may be fetched.
    pub repositories: RepositoriesConfig,
    /// Forges that speak as GitHub does, besides those that are known.
    pub forges: Vec<ForgeConfig>,
    /// What sessions may reach.
    pub network: NetworkConfig,
    /// Values that environments may bind by their names here.
    pub secrets: BTreeMap<String, SecretConfig>,
    /// What ends a turn that does not end by itself.
    pub turn: TurnConfig,
    /// How long phases last.
    pub deadlines: DeadlineConfig,
    /// What holds for our agent in every session.
    pub settings: SettingsConfig,
    /// Agents besides our own.
    pub agents: BTreeMap<String, AgentConfig>,
}

/// `[turn]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TurnConfig {
    /// Model requests.
    pub requests: Option<u32>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// US dollars, by the list price.
    pub cost_usd: Option<f64>,
    /// How long it may take.
    pub minutes: Option<f64>,
    /// Whether the model is told once that it changed code and ran nothing since.
    pub finish_check: Option<bool>,
}

impl TurnConfig {
    pub(crate) fn caps(&self) -> Caps {
        let usual = Caps::default();
        // A price of a millionth is the least; what is no number is none at all.
        let micro = self.cost_usd.map(|dollars| (dollars.max(0.0) * 1_000_000.0) as u64);
        Caps {
            requests: self.requests.unwrap_or(usual.requests),
            tokens: self.tokens,
            cost_micro_usd: micro,
            finish_check: self.finish_check.unwrap_or(usual.finish_check),
            ..usual
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        // Over thirty years is for ever.
        self.minutes
            .filter(|minutes| !minutes.is_nan())
            .map(|minutes| Duration::from_secs_f64((minutes * 60.0).clamp(0.0, 1e9)))
    }
}

/// `[settings]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettingsConfig {
    /// The folder of `managed-settings.json` and `managed-settings.d/`.
    pub managed: PathBuf,
}

impl Default for SettingsConfig {
    fn default() -> Self {
        Self { managed: "/etc/claude-code".into() }
    }
}

/// `[server]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// `Host` values besides the listen address.
    pub hosts: Vec<String>,
}

/// `[model]`; the environment stands in for what is left out.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Where the Messages API lives.
    pub base_url: Option<String>,
    /// The model's name.
    pub model: Option<String>,
    /// A file that holds the key and nothing else.
    pub api_key_file: Option<PathBuf>,
    /// The most tokens of one answer.
    pub max_tokens: Option<u32>,
    /// What agents in sandboxes may ask of the API beyond an answer to their words, such as `web_search`,
    /// `mcp_servers` or `url_sources`: nothing of it.
    pub allow: Vec<String>,
    /// The tokens that a session may have used before its agents in the sandbox are refused; no limit.
    pub max_tokens_per_session: Option<u64>,
}

/// `[sandbox]`: image and limits are those of the default environment, which is made of them at the first
/// start and edited like any other after that.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// The image of the default environment.
    pub image: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// Open files per process.
    pub open_files: u64,
    /// How many sandboxes may wait for a session, one for each recently used environment and repository.
    pub warm: usize,
    /// How long a session may rest before its sandbox is put away, in seconds; for ever with 0.
    pub idle_seconds: u64,
    /// The longest that a turn works without a record of its files, in seconds.
    pub checkpoint_seconds: u64,
    /// Variables that every command of every environment sees.
    pub environment: BTreeMap<String, String>,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        let Limits { memory_bytes, cpu_millis, pids, disk_bytes, open_files } = Limits::default();
        Self {
            image: "slim".into(),
            memory_bytes,
            cpu_millis,
            pids,
            disk_bytes,
            open_files,
            warm: 4,
            idle_seconds: 600,
            checkpoint_seconds: 60,
            environment: BTreeMap::new(),
        }
    }
}

/// `[setup]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetupConfig {
    /// How long a setup script may run.
    pub timeout_seconds: u64,
    /// Bytes that all kept setups may take together.
    pub cache_bytes: u64,
    /// Kept setups at the most.
    pub cache_entries: usize,
    /// Hours after which one is built anew in the background.
    pub cache_valid_hours: u64,
}

impl Default for SetupConfig {
    fn default() -> Self {
        let CacheLimits { entries, bytes, valid } = CacheLimits::default();
        Self {
            timeout_seconds: Deadlines::default().setup.as_secs(),
            cache_bytes: bytes,
            cache_entries: entries,
            cache_valid_hours: valid.as_secs() / 3600,
        }
    }
}

/// `[secrets.NAME]`: where a value comes from that no sandbox gets to see.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum SecretConfig {
    /// A file that holds it and nothing else.
    File(PathBuf),
    /// A variable of the server's environment.
    Variable(String),
    /// A program that prints it, with its arguments; run by the server's account.
    Command(Vec<String>),
}

impl From<SecretConfig> for OperatorSecret {
    fn from(config: SecretConfig) -> Self {
        match config {
            SecretConfig::File(path) => Self::File(path),
            SecretConfig::Variable(name) => Self::Variable(name),
            SecretConfig::Command(argv) => Self::Command(argv),
        }
    }
}

/// `[agents.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Program and arguments, started in the sandbox; speaks ACP on its standard streams.
    pub command: Vec<String>,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It does not parse, or names something that there is not.
    #[error("the configuration {} cannot be used: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// Authorities that are named cannot be read.
    #[error("the configuration {} cannot be used: [network] {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        #[source]
        source: egress::AuthoritiesError,
    },
    /// The rules of the network cannot be used.
    #[error("the configuration {} cannot be used: [network] {source}", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        #[source]
        source: PolicyError,
    },
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim().to_owned(),
        })?;
        let checked = config.operator_network().check();
        checked.map_err(|source| ConfigError::Network { path: path.to_owned(), source })?;
        let authorities = egress::Authorities::read(&config.network.authorities);
        authorities.map_err(|source| ConfigError::Authorities { path: path.to_owned(), source })?;
        Ok(config)
    }

    /// What the operator decides about every session's network.
    #[must_use]
    pub fn operator_network(&self) -> OperatorNetwork {
        let NetworkConfig { allow, deny, private, canaries, budgets, .. } = &self.network;
        OperatorNetwork {
            allow: allow.clone(),
            deny: deny.clone(),
            private: private.clone(),
            canaries: canaries.clone(),
            budgets: *budgets,
        }
    }

    /// What a sandbox of the default environment may use.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            memory_bytes: self.sandbox.memory_bytes,
            cpu_millis: self.sandbox.cpu_millis,
            pids: self.sandbox.pids,
            disk_bytes: self.sandbox.disk_bytes,
            open_files: self.sandbox.open_files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_and_an_unknown_name_is_refused() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!((config.sandbox.image.as_str(), config.limits()), ("slim", Limits::default()));
        let error = toml::from_str::<Config>("[sandbox]\nmemroy_bytes = 1").unwrap_err().to_string();
        assert!(error.contains("memroy_bytes"), "{error}");
    }

    #[test]
    fn every_table_of_the_documentation_is_read() {
        let text = r#"
            [server]
            hosts = ["patchyard.example.org"]
            [model]
            base_url = "http://127.0.0.1:1"
            [setup]
            timeout_seconds = 60
            cache_bytes = 0
            cache_entries = 1
            cache_valid_hours = 1
            [repositories]
            file_roots = ["/srv/git"]
            allow = [{ host = "git.corp", cidr = "10.1.0.0/16" }]
            [network]
            allow = ["*.corp.example.org", "git.example.org:22"]
            deny = ["paste.example.net"]
            private = [{ host = "registry.corp.example.org", cidr = "10.2.0.0/16" }]
            [turn]
            requests = 5
            tokens = 1000
            cost_usd = 1.5
            minutes = 3
            finish_check = false
            [deadlines]
            stop = 2
            [agents.testy]
            command = ["/testy"]
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.agents["testy"].command, ["/testy"]);
        let caps = config.turn.caps();
        assert_eq!((caps.requests, caps.tokens, caps.cost_micro_usd), (5, Some(1_000), Some(1_500_000)));
        assert!(!caps.finish_check);
        assert_eq!(config.turn.deadline(), Some(Duration::from_secs(180)));
        assert_eq!(Config::default().turn.caps(), Caps::default());
        let deadlines = config.deadlines.of_sessions(Duration::from_secs(60), None);
        assert_eq!((deadlines.stop, deadlines.turn), (Duration::from_secs(2), Deadlines::default().turn));
        assert_eq!(config.repositories.allow[0].host, "git.corp");
        assert_eq!(config.operator_network().check(), Ok(()));
        assert_eq!(config.network.private[0].cidr, "10.2.0.0/16");
    }

    #[test]
    fn rules_of_the_network_that_cannot_be_used_are_told_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("patchyard.toml");
        for (line, words) in [
            ("allow = [\"*\"]", "[network] admin allow list: `*` is no domain"),
            ("deny = [\"*.co.uk\"]", "[network] admin deny list: `*.co.uk` is no domain"),
            ("private = [{ host = \"localhost\", cidr = \"127.0.0.0/8\" }]", "cannot be opened"),
            ("private = [{ host = \"a.corp\", cidr = \"10.0.0.0/64\" }]", "no address block"),
            ("private = [{ host = \"a.corp\" }]", "cidr"),
            ("name_servers = [\"ns.corp\"]", "is no address of a name server"),
            ("canaries = [\"short\"]", "\"short\" is no canary: it has 8 to 16384 bytes"),
            ("canaries = [\"two\\nlines of it\"]", "without line ends"),
            ("alow = []", "alow"),
        ] {
            std::fs::write(&file, format!("[network]\n{line}\n")).unwrap();
            let error = Config::read(&file).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
