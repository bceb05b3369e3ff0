//! What the operator decides about sessions.

use std::path::PathBuf;
use std::time::Duration;

use agent::Caps;
use forge::ForgeAddress;
use git_proxy::{FetchRules, LfsLimits};

use crate::environments::caches::CacheLimits;
use crate::network::OperatorNetwork;
use crate::provision::trust::TrustedAuthorities;
use crate::secrets::OperatorSecrets;

/// Everything that the sessions of one server share.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Where bundles of guests are kept while they come in; on the same disk as the repositories.
    pub scratch: PathBuf,
    /// Where audit segments are kept.
    pub audit: PathBuf,
    /// How many days they stay when their session is deleted or archived.
    pub audit_days: u32,
    /// What the server may fetch.
    pub fetch: FetchRules,
    /// What a session begins with of large files.
    pub lfs: LfsLimits,
    /// Whether the server takes and uses tokens of people for hosts of repositories.
    pub personal_tokens: bool,
    /// Whether the branch of a session is pushed when a turn ends, where there is a credential for its host.
    pub push_branches: bool,
    /// Forges that are known by nothing but the operator's word.
    pub forges: Vec<ForgeAddress>,
    /// What sessions may reach, besides their environments.
    pub network: OperatorNetwork,
    /// Values that environments may bind by name.
    pub secrets: OperatorSecrets,
    /// Authorities that sandboxes trust, besides their session's own.
    pub authorities: TrustedAuthorities,
    /// How many sandboxes may wait for a session; none at 0.
    pub warm_sandboxes: usize,
    /// What may be kept of setups.
    pub caches: CacheLimits,
    /// The folder of the operator's `managed-settings.json`, which holds for our agent in every session.
    pub managed_settings: PathBuf,
    /// Variables that every command of every environment sees, besides the environment's and ours.
    pub environment: Vec<(String, String)>,
    /// How long a session may rest before its sandbox is put away; for ever without.
    pub idle: Option<Duration>,
    /// How long a turn goes on at most without a record of its files.
    pub checkpoint_every: Duration,
    /// What ends a turn of our agent that does not end by itself.
    pub caps: Caps,
    /// How long things may take.
    pub deadlines: Deadlines,
}

/// How long each transient state may last. Every one has an exit that the log shows.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Fetching a repository for a new session.
    pub fetch: Duration,
    /// Making and starting a sandbox.
    pub sandbox: Duration,
    /// Cloning the workspace.
    pub workspace: Duration,
    /// Running the setup script.
    pub setup: Duration,
    /// Keeping what clone and setup made, and the sandbox that stands on it.
    pub cache: Duration,
    /// How long the sandbox of a failed preparation stays, so that a person can look.
    pub failed_sandbox: Duration,
    /// Starting an agent that lives in the sandbox.
    pub agent: Duration,
    /// One whole turn.
    pub turn: Duration,
    /// From a stop to the turn's end; then everything in the sandbox is killed.
    pub stop: Duration,
    /// Recording the workspace, after a turn and in it, and putting files back.
    pub checkpoint: Duration,
    /// Pushing the session's branch.
    pub push: Duration,
    /// Keeping what a sandbox wrote that is put away.
    pub save: Duration,
    /// How long somebody waits for a sandbox to go; then it goes without anybody waiting.
    pub teardown: Duration,
    /// A question to the person; then the first option stands.
    pub question: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(300),
            sandbox: Duration::from_secs(60),
            workspace: Duration::from_secs(300),
            setup: Duration::from_secs(600),
            cache: Duration::from_secs(180),
            failed_sandbox: Duration::from_secs(30 * 60),
            agent: Duration::from_secs(60),
            turn: Duration::from_secs(6 * 3600),
            stop: Duration::from_secs(15),
            checkpoint: Duration::from_secs(120),
            push: Duration::from_secs(120),
            save: Duration::from_secs(60),
            teardown: Duration::from_secs(10),
            question: Duration::from_secs(24 * 3600),
        }
    }
}
