//! From nothing to a workspace that an agent can work in.
//!
//! ```text
//!  sandbox-host: create ─▶ guest: hello ─▶ git clone from the read-only mount ─▶ agent
//! ```

use std::sync::Arc;
use std::time::Duration;

use protocol::agent_port::Agent;
use protocol::event::{EventBody, LiveDelta, Step};
use protocol::hands::{ExecEvent, ExecSpec, Hands as _};
use protocol::ids::{Epoch, ExecId, SandboxId};
use protocol::sandbox_host::REPOSITORY_MOUNT;
use protocol::sandbox_spec::SandboxSpec;
use protocol::view::SessionView;
use ulid::Ulid;

use crate::agents::Place;
use crate::checkpoint::IDENTITY;
use crate::driver::LiveSandbox;
use crate::registry::Shared;

/// How much a step's output may add to the log.
const MAX_OUTPUT: usize = 64 * 1024;

/// Where a session's code is inside its sandbox.
pub(crate) fn workspace_path(facts: &SessionView) -> String {
    format!("/workspace/{}", policy::repository::workspace_name(&facts.repository.name))
}

/// Makes and starts a sandbox and says hello to its guest.
pub(crate) async fn sandbox(
    shared: &Shared,
    facts: &SessionView,
    sandbox: SandboxId,
) -> Result<LiveSandbox, String> {
    let spec = SandboxSpec::of_image(&facts.image, shared.config.limits);
    let made = shared.host.create(sandbox, Some(facts.id), spec).await.map_err(|error| error.to_string())?;
    match shared.host.link(&made).await {
        Ok(link) => Ok(LiveSandbox { id: sandbox, link }),
        Err(error) => {
            shared.reap(sandbox);
            Err(format!("the guest of the new sandbox did not answer: {error}"))
        }
    }
}

/// Clones the session repository and makes the agent; the agent's reading needs no sandbox and is
/// done meanwhile.
pub(crate) async fn workspace(
    shared: &Arc<Shared>,
    facts: &Arc<SessionView>,
    epoch: Epoch,
    sandbox: &LiveSandbox,
) -> Result<Box<dyn Agent>, String> {
    let (cloned, agent) = tokio::join!(clone(shared, facts, epoch, sandbox), agent(shared, facts, sandbox));
    cloned?;
    agent
}

async fn clone(
    shared: &Shared,
    facts: &SessionView,
    epoch: Epoch,
    sandbox: &LiveSandbox,
) -> Result<(), String> {
    let path = workspace_path(facts);
    // A shared clone borrows the objects of the mount, which lasts as long as the sandbox: nothing
    // is copied, however long the history.
    let script = r#"set -eu
rm -rf "$WORKSPACE"
mkdir -p "$(dirname "$WORKSPACE")"
git clone --quiet --shared --branch "$BRANCH" "$REPOSITORY" "$WORKSPACE"
git -C "$WORKSPACE" config user.name "$GIT_AUTHOR_NAME"
git -C "$WORKSPACE" config user.email "$GIT_AUTHOR_EMAIL"
if [ -f "$WORKSPACE/.gitmodules" ]; then
    echo "This repository has submodules. They are not checked out in this version; their folders are empty."
fi
if grep -qs 'filter=lfs' "$WORKSPACE/.gitattributes"; then
    echo "This repository uses Git LFS. Its large files are pointers in this version."
fi"#;
    let argv = ["sh", "-c", script].map(ToOwned::to_owned).into();
    let spec = ExecSpec {
        env: [("WORKSPACE", path), ("BRANCH", facts.branch.clone()), ("REPOSITORY", REPOSITORY_MOUNT.into())]
            .into_iter()
            .chain(IDENTITY.map(|(name, value)| (name, value.to_owned())))
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        timeout: Some(Duration::from_secs(280)),
        ..ExecSpec::new(ExecId::from(Ulid::generate()), argv, "/")
    };
    let mut execution = sandbox.link.start(spec).await.map_err(|error| error.to_string())?;
    let mut output = Vec::new();
    let end = loop {
        match execution.next().await.map_err(|error| error.to_string())? {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                shared.store.live(facts.id, LiveDelta::StepOutput { step: Step::Workspace, text });
                let room = MAX_OUTPUT.saturating_sub(output.len());
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            ExecEvent::Exited(end) => break end,
        }
    };
    let text = String::from_utf8_lossy(&output).trim().to_owned();
    if !text.is_empty() {
        let body = EventBody::StepOutput { step: Step::Workspace, text: text.clone() };
        shared
            .store
            .append(facts.id, epoch, None, None, vec![body])
            .await
            .map_err(|error| error.to_string())?;
    }
    if end.is_success() {
        return Ok(());
    }
    let last = text.lines().next_back().unwrap_or("it gave no reason");
    Err(format!("the workspace could not be cloned from the session repository: {last}"))
}

/// Makes the session's agent, with the log up to now taken in.
pub(crate) async fn agent(
    shared: &Shared,
    facts: &SessionView,
    sandbox: &LiveSandbox,
) -> Result<Box<dyn Agent>, String> {
    let place = Place {
        hands: Arc::new(sandbox.link.clone()),
        workspace: workspace_path(facts),
        environment: environment(shared, facts),
    };
    let memory =
        crate::agents::instructions(&shared.repositories, facts).await.map_err(|error| error.to_string())?;
    let mut agent = shared.agents.make(facts, place, memory, &shared.config.deadlines).await?;
    let events = shared.store.all_events(facts.id).await.map_err(|error| error.to_string())?;
    agent.restore(&events).await.map_err(|error| error.to_string())?;
    Ok(agent)
}

/// What every command of a session sees, by the names that hooks and scripts of repositories know.
pub(crate) fn environment(shared: &Shared, facts: &SessionView) -> Vec<(String, String)> {
    let id = facts.id.to_string();
    let ours = [
        ("CLAUDE_CODE_REMOTE", "true".to_owned()),
        ("CLAUDE_CODE_REMOTE_SESSION_ID", id.clone()),
        ("CLAUDE_PROJECT_DIR", workspace_path(facts)),
        ("PATCHYARD_SESSION_ID", id),
        ("CLAUDECODE", "1".to_owned()),
        ("GIT_EDITOR", "true".to_owned()),
        ("GIT_TERMINAL_PROMPT", "0".to_owned()),
    ];
    let ours = ours.into_iter().map(|(name, value)| (name.to_owned(), value));
    shared.config.environment.iter().cloned().chain(ours).collect()
}
