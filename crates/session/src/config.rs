//! What the operator decides about sessions.

use std::path::PathBuf;
use std::time::Duration;

use git_proxy::FetchRules;
use protocol::sandbox_spec::Limits;

/// Everything that the sessions of one server share.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Where bundles of guests are kept while they come in; on the same disk as the repositories.
    pub scratch: PathBuf,
    /// The image of sessions that name none.
    pub default_image: String,
    /// What every sandbox may use.
    pub limits: Limits,
    /// What the server may fetch.
    pub fetch: FetchRules,
    /// Variables that every command of a sandbox sees besides ours.
    pub environment: Vec<(String, String)>,
    /// How long things may take.
    pub deadlines: Deadlines,
}

/// How long each transient state may last. Every one has an exit that the log shows.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Making and starting a sandbox.
    pub sandbox: Duration,
    /// Cloning the workspace.
    pub workspace: Duration,
    /// Starting an agent that lives in the sandbox.
    pub agent: Duration,
    /// One whole turn.
    pub turn: Duration,
    /// From a stop to the turn's end; then everything in the sandbox is killed.
    pub stop: Duration,
    /// Recording the workspace after a turn.
    pub checkpoint: Duration,
    /// A question to the person; then the first option stands.
    pub question: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            sandbox: Duration::from_secs(60),
            workspace: Duration::from_secs(300),
            agent: Duration::from_secs(60),
            turn: Duration::from_secs(6 * 3600),
            stop: Duration::from_secs(15),
            checkpoint: Duration::from_secs(120),
            question: Duration::from_secs(24 * 3600),
        }
    }
}
