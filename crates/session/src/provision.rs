//! From nothing to a workspace that an agent can work in.
//!
//! ```text
//!  plan ─▶ sandbox ─▶ network policy ─▶ workspace ─▶ setup script ─▶ kept as a layer ─▶ hooks ─▶ agent
//!           │                              │               │               └ a new sandbox on it
//!           └ on a layer, where one fits ──┴ taken over ───┴ not run
//! ```
//!
//! Each part is a job of the driver, with a step in the log and a deadline. The network policy is bound
//! before anything of the repository runs.

pub(crate) mod exec;
pub(crate) mod hooks;
pub(crate) mod large_files;
pub(crate) mod modules;
pub(crate) mod plan;
pub(crate) mod remote;
pub(crate) mod setup;
pub(crate) mod steps;
pub(crate) mod trust;
pub(crate) mod workspace;

use std::sync::Arc;

use protocol::agent_port::Agent;
use protocol::environment::EnvironmentSettings;
use protocol::ids::{SandboxId, SessionId};
use protocol::sandbox_host::{HostErrorCode, Made};
use protocol::sandbox_spec::SandboxSpec;
use protocol::view::SessionView;
use sandbox::client::SandboxHostError;

use crate::agents::{self, Place};
use crate::driver::LiveSandbox;
use crate::environments::caches;
use crate::networks::Ground;
use crate::project::{self, Project};
use crate::registry::Shared;
use crate::warm;
use plan::Plan;

/// Where a session's code is inside its sandbox.
pub(crate) fn workspace_path(facts: &SessionView) -> String {
    format!("/workspace/{}", policy::repository::workspace_name(&facts.repository.name))
}

/// What a sandbox that is not there in time says.
pub(crate) const TOO_LONG: &str = "it took too long and was given up";

/// Plans, makes and starts a sandbox, and says hello to its guest. `fresh` builds everything anew. What the
/// workspace needs from outside is fetched in between, in a time of its own.
pub(crate) async fn sandbox(
    shared: &Shared,
    facts: &SessionView,
    tip: &str,
    sandbox: SandboxId,
    fresh: bool,
) -> Result<(LiveSandbox, Arc<Plan>), String> {
    let mut plan = in_time(shared, planned(shared, facts, tip, fresh)).await?;
    bring(shared, facts, &mut plan).await;
    let mut live = in_time(shared, made(shared, facts, sandbox, &plan)).await;
    if matches!(live, Err(NotMade::NoLayer(_))) && plan.spec.layer.is_some() {
        let before = plan;
        plan = in_time(shared, without_layer(shared, facts, tip, &before)).await?;
        if before.saved {
            bring(shared, facts, &mut plan).await;
        } else {
            plan.workspace = before.workspace;
        }
        live = in_time(shared, made(shared, facts, sandbox, &plan)).await;
    }
    Ok((live?, Arc::new(plan)))
}

/// Why there is no sandbox.
enum NotMade {
    /// The layer that it should stand on was removed by hand, or is of an image that is another one now.
    NoLayer(String),
    /// Anything else.
    Failed(String),
}

impl From<String> for NotMade {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<NotMade> for String {
    fn from(why: NotMade) -> Self {
        let (NotMade::NoLayer(reason) | NotMade::Failed(reason)) = why;
        reason
    }
}

/// A part of the making, in the time that a sandbox has for one.
async fn in_time<T, E: From<String>>(
    shared: &Shared,
    part: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let done = tokio::time::timeout(shared.config.deadlines.sandbox, part).await;
    done.unwrap_or_else(|_| Err(E::from(TOO_LONG.into())))
}

/// Fetches what the workspace needs from outside, where it is made anew. Before the sandbox: without root it
/// sees the repository as it is now.
async fn bring(shared: &Shared, facts: &SessionView, plan: &mut Plan) {
    if !plan.saved {
        plan.workspace.bring(shared, facts.id, facts.repository.url.as_deref()).await;
    }
}

async fn planned(shared: &Shared, facts: &SessionView, tip: &str, fresh: bool) -> Result<Plan, String> {
    // What a turn left that was lost with its sandbox is beside the branch.
    let moved = shared.repositories.move_branch(facts.id, &facts.branch, tip).await;
    moved.map_err(|error| format!("the session's branch could not be brought to its checkpoint: {error}"))?;
    // A sandbox that was lost after it stood on the layer may have left a newer checkpoint.
    let saved = facts.saved.as_ref().filter(|saved| !fresh && saved.commit == tip);
    let saved = saved.and_then(|saved| saved.layers.last().copied());
    let mut plan = plan::of_session(shared, facts, tip, fresh || saved.is_some()).await?;
    if saved.is_some() {
        (plan.spec.layer, plan.saved) = (saved, true);
    }
    Ok(plan)
}

/// The plan for when the layer of one is gone; what its workspace needs is yet to be said.
async fn without_layer(shared: &Shared, facts: &SessionView, tip: &str, plan: &Plan) -> Result<Plan, String> {
    if let Some(layer) = plan.spec.layer.filter(|_| !plan.saved) {
        caches::forget(shared, layer).await;
    }
    plan::of_session(shared, facts, tip, !plan.saved).await
}

async fn made(
    shared: &Shared,
    facts: &SessionView,
    sandbox: SandboxId,
    plan: &Plan,
) -> Result<LiveSandbox, NotMade> {
    let ground = Ground::Environment(plan.environment.id);
    if let Some(live) = warm::take(shared, &plan.spec, facts.id).await {
        return Ok(bind(shared, live, facts.id, ground).await?);
    }
    let made = shared.host.create(sandbox, Some(facts.id), plan.spec.clone()).await;
    let made = made.map_err(|error| match error {
        SandboxHostError::Failed { code: HostErrorCode::NoLayer, .. } => NotMade::NoLayer(error.to_string()),
        error => NotMade::Failed(error.to_string()),
    })?;
    let live = greet(shared, &made, &plan.spec).await?;
    Ok(bind(shared, live, facts.id, ground).await?)
}

/// Makes and starts a sandbox of this kind, and binds its network in the name of this session. `owner`
/// is the session whose repository it sees.
pub(crate) async fn start(
    shared: &Shared,
    sandbox: SandboxId,
    owner: Option<SessionId>,
    spec: SandboxSpec,
    (session, ground): (SessionId, Ground),
) -> Result<LiveSandbox, String> {
    let made = shared.host.create(sandbox, owner, spec.clone()).await.map_err(|error| error.to_string())?;
    let live = greet(shared, &made, &spec).await?;
    bind(shared, live, session, ground).await
}

/// Binds the network of a new sandbox, before anything of a repository runs in it.
async fn bind(
    shared: &Shared,
    mut live: LiveSandbox,
    session: SessionId,
    ground: Ground,
) -> Result<LiveSandbox, String> {
    let bound = async {
        let told = shared.networks.bind((live.id, true), session, live.tier, ground).await?;
        let authority = shared.networks.authority(session).await.map_err(|error| {
            format!("the certificate authority of the session could not be made: {error}")
        })?;
        let trusted = &shared.config.authorities;
        trust::install(&live.link, trusted, &authority.certificate).await.map_err(|error| {
            format!("the certificate authority of the session could not be installed: {error}")
        })?;
        Ok::<_, String>(told)
    };
    match bound.await {
        Ok(told) => {
            live.unenforced.extend(told);
            Ok(live)
        }
        Err(reason) => {
            shared.reap(live.id);
            Err(reason)
        }
    }
}

pub(crate) async fn greet(shared: &Shared, made: &Made, spec: &SandboxSpec) -> Result<LiveSandbox, String> {
    let id = made.attachment.sandbox;
    if !spec.tier.accepts(made.tier) {
        shared.reap(id);
        return Err(format!(
            "the host made a sandbox of the tier `{}`, which is not what the environment asks for; `patchyard \
             doctor` says which tiers can be had",
            made.tier
        ));
    }
    match shared.host.link(made).await {
        Ok(link) => Ok(LiveSandbox { id, link, tier: made.tier, unenforced: made.unenforced.clone() }),
        Err(error) => {
            shared.reap(id);
            Err(format!("the guest of the new sandbox did not answer: {error}"))
        }
    }
}

/// Makes the session's agent, with the log up to now taken in. What it knows of the repository is read
/// here when nobody did before.
pub(crate) async fn agent(
    shared: &Shared,
    facts: &SessionView,
    sandbox: &LiveSandbox,
    project: Option<Project>,
) -> Result<Box<dyn Agent>, String> {
    let settings = plan::settings(shared, facts).await?.settings;
    let authority = shared
        .networks
        .authority(facts.id)
        .await
        .map_err(|error| format!("the certificate authority of the session cannot be read: {error}"))?;
    let place = Place {
        authorities: vec![shared.config.authorities.named.to_string(), authority.certificate],
        hands: Arc::new(sandbox.link.clone()),
        workspace: workspace_path(facts),
        environment: variables(shared, facts, &settings),
    };
    let project = match project {
        Some(project) => project,
        None => project::read(shared, facts).await?,
    };
    let mut agent = shared.agents.make(facts, place, project, &shared.config).await?;
    let events = shared.store.all_events(facts.id).await.map_err(|error| error.to_string())?;
    agent.restore(&events).await.map_err(|error| error.to_string())?;
    Ok(agent)
}

/// What every command of a session sees: the server's variables, then the environment's, the way to the model
/// where the agent lives inside, then ours, by the names that hooks and scripts of repositories know.
pub(crate) fn variables(
    shared: &Shared,
    facts: &SessionView,
    settings: &EnvironmentSettings,
) -> Vec<(String, String)> {
    let mut all = plan::own_variables(shared, settings);
    // Our own agent asks from outside: a test suite that it runs shall not find a key and spend by it.
    if shared.has_model_gateway && facts.agent != agents::OURS {
        all.extend(plan::model_variables(&all));
    }
    all.extend(ours(&facts.id.to_string(), &workspace_path(facts)));
    all
}

/// The same, with the settings that are in force now.
pub(crate) async fn session_variables(
    shared: &Shared,
    facts: &SessionView,
) -> Result<Vec<(String, String)>, String> {
    Ok(variables(shared, facts, &plan::settings(shared, facts).await?.settings))
}

/// The variables that say where a command runs.
pub(crate) fn ours(session: &str, workspace: &str) -> Vec<(String, String)> {
    [
        ("CLAUDE_CODE_REMOTE", "true"),
        ("CLAUDE_CODE_REMOTE_SESSION_ID", session),
        ("CLAUDE_PROJECT_DIR", workspace),
        ("PATCHYARD_SESSION_ID", session),
        ("CLAUDECODE", "1"),
        ("GIT_EDITOR", "true"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
