//! `[deadlines]`: how long each phase that passes may last.

use std::time::Duration;

use serde::Deserialize;
use session::Deadlines;

/// Seconds; the usual ones where nothing is said. What they end, and how, is a table in
/// `docs/ARCHITECTURE.md`.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlineConfig {
    /// Fetching a repository for a new session.
    pub fetch: Option<u64>,
    /// Making and starting a sandbox.
    pub sandbox: Option<u64>,
    /// The workspace, and what the hooks take besides their own time.
    pub workspace: Option<u64>,
    /// Keeping a setup.
    pub cache: Option<u64>,
    /// Starting an agent in the sandbox.
    pub agent: Option<u64>,
    /// Silence of the model, at one try.
    pub model: Option<u64>,
    /// From a stop to the end of the turn by force.
    pub stop: Option<u64>,
    /// A question to the person.
    pub question: Option<u64>,
    /// Recording the files, and putting them back.
    pub checkpoint: Option<u64>,
    /// Pushing the branch.
    pub push: Option<u64>,
    /// One request to a forge.
    pub forge: Option<u64>,
    /// Keeping the disk of a sandbox that is put away.
    pub save: Option<u64>,
    /// Waiting for a sandbox to go.
    pub teardown: Option<u64>,
    /// How long the sandbox of a failed setup stays for a look.
    pub failed_sandbox: Option<u64>,
}

/// So many seconds, at least one.
pub(crate) fn seconds(given: Option<u64>, usual: Duration) -> Duration {
    given.map_or(usual, |seconds| Duration::from_secs(seconds.max(1)))
}

impl DeadlineConfig {
    /// Those of sessions; setup script and turn have tables of their own.
    pub(crate) fn of_sessions(&self, setup: Duration, turn: Option<Duration>) -> Deadlines {
        let usual = Deadlines::default();
        Deadlines {
            fetch: seconds(self.fetch, usual.fetch),
            sandbox: seconds(self.sandbox, usual.sandbox),
            workspace: seconds(self.workspace, usual.workspace),
            setup,
            cache: seconds(self.cache, usual.cache),
            failed_sandbox: seconds(self.failed_sandbox, usual.failed_sandbox),
            agent: seconds(self.agent, usual.agent),
            turn: turn.unwrap_or(usual.turn),
            stop: seconds(self.stop, usual.stop),
            checkpoint: seconds(self.checkpoint, usual.checkpoint),
            push: seconds(self.push, usual.push),
            save: seconds(self.save, usual.save),
            teardown: seconds(self.teardown, usual.teardown),
            question: seconds(self.question, usual.question),
        }
    }
}
