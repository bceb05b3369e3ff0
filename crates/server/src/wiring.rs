//! Putting the parts together: the one place that makes gateways and reaches for the sandbox host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use egress::Authorities;
use egress::client::Egress;
use forge::{ForgeAddress, Forges};
use git_proxy::{FetchRules, GitGateway, Repositories};
use model_gateway::front::ModelGateway;
use model_gateway::{Auth, ModelClient, ModelConfig, Secret};
use policy::address::AddressRules;
use sandbox::client::SandboxHost;
use session::{
    AgentSpec, Agents, CacheLimits, LfsLimits, ModelSource, SessionConfig, Sessions, TrustedAuthorities,
};
use store::{Clock, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ModelSettings, seconds};
use crate::state::{AppState, Settings};
use crate::uploads::Uploads;

/// The model that is asked when nothing names one.
const DEFAULT_MODEL: &str = "claude-sonnet-5";

/// Where the Messages API lives when nothing says so.
const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";

/// How long a forge may take for an answer.
const FORGE_PATIENCE: Duration = Duration::from_secs(30);

/// What the environment says about the model; read once, by the binary.
#[derive(Debug, Default, Clone)]
pub struct ModelEnvironment {
    /// `ANTHROPIC_API_KEY`.
    pub api_key: Option<Secret>,
    /// `ANTHROPIC_AUTH_TOKEN`.
    pub auth_token: Option<Secret>,
    /// `ANTHROPIC_BASE_URL`.
    pub base_url: Option<String>,
    /// `ANTHROPIC_MODEL`.
    pub model: Option<String>,
}

/// Why the parts do not come together.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repositories.
    #[error(transparent)]
    Git(#[from] git_proxy::GitError),
    /// The way to the servers of repositories.
    #[error(transparent)]
    Upstream(#[from] git_proxy::UpstreamError),
    /// The way to forges.
    #[error(transparent)]
    Forges(#[from] forge::ForgesError),
    /// A forge that the operator names.
    #[error("[[forges]]: {0}")]
    Forge(#[from] forge::ForgeAddressError),
    /// A folder of the data directory.
    #[error("cannot prepare {path}")]
    Dir {
        /// The folder.
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// Authorities that the operator names.
    #[error(transparent)]
    Authorities(#[from] egress::AuthoritiesError),
    /// The key file.
    #[error("cannot read the model's key from {path}; name a readable file in [model] api_key_file")]
    KeyFile {
        /// The file.
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// The model's address.
    #[error("the model cannot be used: {0}")]
    Model(String),
}

pub(crate) async fn wire(
    data: &Path,
    (host_socket, egress_socket): (&Path, &Path),
    config: &Config,
    environment: &ModelEnvironment,
    hosts: Vec<String>,
) -> Result<AppState, WiringError> {
    let dir = |name: &str| data.join(name);
    let scratch = dir("tmp");
    empty(&scratch)
        .await
        .map_err(|source| WiringError::Dir { path: scratch.display().to_string(), source })?;
    let store = Store::open(data, Clock::system())?;
    let repositories = Repositories::open(data).await?;
    let uploads = Uploads::open(dir("uploads"))
        .await
        .map_err(|source| WiringError::Dir { path: dir("uploads").display().to_string(), source })?;
    let host = SandboxHost::connect(host_socket);
    let (model, mut missing) = (model(config, environment)?, Vec::new());
    let model_name = match &model {
        ModelSource::Ready(client) => Some(client.config().model.clone()),
        ModelSource::Missing => {
            missing.push(
                "No model is configured: set ANTHROPIC_API_KEY (or [model] api_key_file) for the server and \
                 start it again."
                    .to_owned(),
            );
            None
        }
    };
    let gateway = model_gateway(&config.model, &model)?;
    let mut settings = session_config(config, scratch, dir("audit"))?;
    let trusted = format!("{}{}", settings.authorities.system, settings.authorities.named);
    if !config.network.authorities.is_empty() {
        // For git, which takes one file and then no others.
        let path = dir("authorities.pem");
        tokio::fs::write(&path, &trusted)
            .await
            .map_err(|source| WiringError::Dir { path: path.display().to_string(), source })?;
        settings.fetch.authorities = Some(path);
    }
    let git = GitGateway::new(settings.fetch.addresses.clone(), &trusted)?;
    let patience = seconds(config.deadlines.forge, FORGE_PATIENCE);
    let forges = Forges::new(settings.fetch.addresses.clone(), &trusted, patience)?;
    let others = config
        .agents
        .iter()
        .map(|(name, agent)| AgentSpec { name: name.clone(), command: agent.command.clone() });
    let sessions = Sessions::new(
        store.clone(),
        repositories.clone(),
        host.clone(),
        Egress::connect(egress_socket),
        (gateway, git, forges),
        Agents::new(model, others.collect()),
        settings,
    );
    Ok(AppState {
        store,
        sessions,
        repositories,
        host,
        uploads,
        settings: Arc::new(Settings {
            hosts,
            default_image: config.sandbox.image.clone(),
            model: model_name,
            missing,
        }),
        stopping: CancellationToken::new(),
    })
}

/// Makes a folder, or takes away what a crash left in it.
async fn empty(folder: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tokio::fs::create_dir_all(folder).await
}

fn session_config(config: &Config, scratch: PathBuf, audit: PathBuf) -> Result<SessionConfig, WiringError> {
    let named = Authorities::read(&config.network.authorities)?;
    Ok(SessionConfig {
        scratch,
        audit,
        audit_days: config.network.audit_days,
        fetch: FetchRules {
            addresses: AddressRules { exceptions: config.repositories.allow.clone() },
            file_roots: config.repositories.file_roots.clone(),
            submodules: config.repositories.submodules.clone(),
            authorities: None,
        },
        lfs: LfsLimits {
            bytes: config.repositories.lfs_bytes,
            objects: config.repositories.lfs_objects,
            ..LfsLimits::default()
        },
        personal_tokens: config.repositories.personal_tokens,
        push_branches: config.repositories.push_branches,
        forges: config
            .forges
            .iter()
            .map(|forge| ForgeAddress::configured(&forge.host, forge.api.as_deref()))
            .collect::<Result<_, _>>()?,
        network: config.operator_network(),
        secrets: config.secrets.clone().into_iter().map(|(name, secret)| (name, secret.into())).collect(),
        authorities: TrustedAuthorities {
            system: Authorities::of_system().pem().into(),
            named: named.pem().into(),
        },
        managed_settings: config.settings.managed.clone(),
        environment: config.sandbox.environment.clone().into_iter().collect(),
        warm_sandboxes: config.sandbox.warm,
        idle: (config.sandbox.idle_seconds > 0).then(|| Duration::from_secs(config.sandbox.idle_seconds)),
        checkpoint_every: Duration::from_secs(config.sandbox.checkpoint_seconds.max(1)),
        caches: CacheLimits {
            entries: config.setup.cache_entries,
            bytes: config.setup.cache_bytes,
            valid: Duration::from_secs(config.setup.cache_valid_hours.saturating_mul(3600)),
        },
        caps: config.turn.caps(),
        deadlines: config
            .deadlines
            .of_sessions(Duration::from_secs(config.setup.timeout_seconds.max(1)), config.turn.deadline()),
    })
}

fn model(config: &Config, environment: &ModelEnvironment) -> Result<ModelSource, WiringError> {
    let settings = &config.model;
    let from_file = match &settings.api_key_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| WiringError::KeyFile { path: path.display().to_string(), source })?;
            Some(Secret::new(text.trim()))
        }
    };
    let usable = |secret: &&Secret| !secret.is_blank();
    let key = from_file.as_ref().or(environment.api_key.as_ref()).filter(usable).cloned().map(Auth::ApiKey);
    let bearer = environment.auth_token.as_ref().filter(usable).cloned().map(Auth::Bearer);
    let Some(auth) = key.or(bearer) else { return Ok(ModelSource::Missing) };
    let choose = |file: &Option<String>, variable: &Option<String>, default: &str| {
        let given = file.as_ref().or(variable.as_ref()).filter(|text| !text.trim().is_empty());
        given.cloned().unwrap_or_else(|| default.to_owned())
    };
    let mut made = ModelConfig::new(
        choose(&settings.base_url, &environment.base_url, DEFAULT_BASE_URL),
        auth,
        choose(&settings.model, &environment.model, DEFAULT_MODEL),
    );
    if let Some(max_tokens) = settings.max_tokens {
        made.max_tokens = max_tokens;
    }
    made.idle_timeout = seconds(config.deadlines.model, made.idle_timeout);
    let client = ModelClient::new(made).map_err(|error| WiringError::Model(error.to_string()))?;
    Ok(ModelSource::Ready(client))
}

/// The way to the same model for agents in sandboxes.
fn model_gateway(settings: &ModelSettings, model: &ModelSource) -> Result<ModelGateway, WiringError> {
    let config = match model {
        ModelSource::Ready(client) => Some(client.config()),
        ModelSource::Missing => None,
    };
    let allowed = settings.allow.iter().cloned().collect();
    ModelGateway::new(config, allowed, settings.max_tokens_per_session)
        .map_err(|error| WiringError::Model(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_crash_left_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data/tmp");
        empty(&folder).await.unwrap();
        std::fs::create_dir(folder.join("half")).unwrap();
        std::fs::write(folder.join("half/bundle"), "x").unwrap();
        empty(&folder).await.unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
