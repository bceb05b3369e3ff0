//! The steps of the preparation in a sandbox that lives, each as one piece of work for the driver.

use std::sync::Arc;
use std::time::Duration;

use agent::hooks::{Event, Handler, Ran, at_start};
use protocol::agent_port::{Agent, Connected};
use protocol::event::{EventBody, Step};
use protocol::ids::{Epoch, LayerId, SandboxId};
use protocol::view::SessionView;
use sandbox::guest_link::GuestLink;
use store::{NewSetupCache, SetupCacheFacts};
use tokio::time::Instant;
use ulid::Ulid;

use super::exec::{StepLog, command, ending};
use super::hooks::{self, Source};
use super::plan::{Keep, Plan};
use super::workspace::{self, Seen, State};
use super::{remote, setup, variables, workspace_path};
use crate::driver::LiveSandbox;
use crate::environments::caches;
use crate::networks::Ground;
use crate::project::{self, Project};
use crate::registry::Shared;

/// Remarks about settings that are shown at the most.
const MAX_REMARKS: usize = 50;

/// What every step works with.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) shared: Arc<Shared>,
    pub(crate) facts: Arc<SessionView>,
    pub(crate) epoch: Epoch,
    pub(crate) sandbox: LiveSandbox,
    pub(crate) plan: Arc<Plan>,
}

impl Bench {
    fn link(&self) -> &GuestLink {
        &self.sandbox.link
    }

    fn log(&self, step: Step) -> StepLog<'_> {
        StepLog::new(&self.shared, self.facts.id, self.epoch, step)
    }
}

/// A workspace, and what was read of the repository meanwhile.
pub(crate) struct Workspace {
    pub(crate) project: Box<Project>,
    pub(crate) source: Source,
    /// What is told of the step.
    pub(crate) detail: Option<String>,
    /// Why the layer that the sandbox stands on is of no use, where it is not.
    pub(crate) spoilt: Option<String>,
    pub(crate) took: Duration,
}

/// Makes the workspace; what is read of the repository needs no sandbox and is read meanwhile.
pub(crate) async fn workspace(bench: &Bench) -> Result<Workspace, String> {
    let Bench { shared, facts, .. } = bench;
    let begun = Instant::now();
    let (made, project, now) =
        tokio::join!(make_workspace(bench), project::read(shared, facts), shared.store.session(facts.id));
    let spoilt = made?;
    let project = Box::new(project?);
    let source = match now.map_err(|error| error.to_string())?.turns {
        0 => Source::Startup,
        _ => Source::Resume,
    };
    let detail = match &spoilt {
        Some(_) => None,
        None if bench.plan.saved => Some("everything is as it was when the sandbox was put away".into()),
        None => bench.plan.reuse_detail(shared.store.clock().now()),
    };
    for remark in project.remarks.iter().take(MAX_REMARKS) {
        workspace::log(shared, facts.id, bench.epoch).note(remark).await?;
    }
    Ok(Workspace { project, source, detail, spoilt, took: begun.elapsed() })
}

async fn make_workspace(bench: &Bench) -> Result<Option<String>, String> {
    let Bench { shared, facts, plan, .. } = bench;
    if plan.saved {
        return Ok(None);
    }
    let Some((cache, _)) = &plan.reused else {
        let mut log = workspace::log(shared, facts.id, bench.epoch);
        workspace::clone(&mut log, bench.link(), &plan.workspace).await?;
        remote::attach(&mut log, bench.link(), facts, &plan.workspace.modules.found).await?;
        return Ok(None);
    };
    let (was, expected) = (&cache.facts.commit, &cache.facts.workspace_state);
    match workspace::take_over(bench.link(), &plan.workspace, was, expected).await? {
        Ok(()) => {
            let mut log = workspace::log(shared, facts.id, bench.epoch);
            workspace::tell(&mut log, &plan.workspace).await?;
            remote::attach(&mut log, bench.link(), facts, &plan.workspace.modules.found).await?;
            caches::used(shared, cache.layer).await;
            Ok(None)
        }
        Err(reason) => {
            caches::forget(shared, cache.layer).await;
            Ok(Some(reason))
        }
    }
}

/// A setup that ended well.
pub(crate) struct SetupDone {
    /// What git said before, where the result may be kept.
    pub(crate) before: Option<State>,
    /// What is told of the step, where the result may not be kept.
    pub(crate) not_kept: Option<String>,
}

/// Runs the setup script.
pub(crate) async fn setup(bench: &Bench) -> Result<SetupDone, String> {
    let Bench { shared, facts, plan, .. } = bench;
    let (link, settings, limit) = (bench.link(), &plan.environment.settings, shared.config.deadlines.setup);
    let before = match plan.keep {
        Some(_) => workspace::state(link, &plan.workspace, Seen::Everything).await?,
        None => None,
    };
    let argv = setup::place(link, &settings.setup_script).await?;
    let env = variables(shared, facts, settings);
    let mut log = bench.log(Step::Setup);
    let end = log.run(link, setup::command_of(argv, &plan.workspace.path, env, limit)).await?;
    setup::take_away(link).await;
    if !end.is_success() {
        return Err(setup::failure(&end, limit, &log.last_lines(3)));
    }
    let left = setup::left_running(link).await?;
    let not_kept = (settings.cache_setup && !left.is_empty()).then(|| setup::not_kept(&left));
    Ok(SetupDone { before, not_kept })
}

/// How keeping went.
pub(crate) enum Kept {
    /// The session goes on in this sandbox, whether it stands on the layer or could not be kept.
    In(LiveSandbox, String),
    /// The sandbox went over it, and nothing was kept: all is built anew.
    Lost(String),
}

/// Keeps what clone and setup made as a layer, and makes a sandbox on it for the session.
pub(crate) async fn keep(
    bench: Bench,
    keep: Keep,
    before: Option<State>,
    took: Duration,
    next: SandboxId,
) -> Kept {
    let Bench { shared, facts, sandbox, plan, .. } = bench;
    let facts_of = describe(&sandbox.link, &facts, &plan, before, took).await;
    let Some(key) = super::plan::key(&shared, &facts, &plan.environment).await else {
        return Kept::In(sandbox, "not kept for later sessions: the image or the repository is gone".into());
    };
    let described = match facts_of {
        Ok(described) => described,
        Err(reason) => return Kept::In(sandbox, format!("not kept for later sessions: {reason}")),
    };
    let layer = LayerId::from(Ulid::generate());
    let saved = match shared.host.seal(sandbox.id, layer).await {
        Ok(saved) => saved,
        Err(error) => {
            shared.reap(sandbox.id);
            return Kept::Lost(error.to_string());
        }
    };
    let spec = protocol::sandbox_spec::SandboxSpec { layer: Some(layer), ..plan.spec.clone() };
    // Remembered after the sandbox stands on it: when another session was first, the layer goes at once.
    shared.networks.release(sandbox.id).await;
    let bound = (facts.id, Ground::Environment(plan.environment.id));
    let live = match super::start(&shared, next, Some(facts.id), spec, bound).await {
        Ok(live) => live,
        Err(reason) => {
            caches::forget(&shared, layer).await;
            return Kept::Lost(reason);
        }
    };
    let new =
        NewSetupCache { layer, environment: plan.environment.id, key, bytes: saved.bytes, facts: described };
    let detail = match caches::keep(&shared, new, keep.replaces, &plan.environment.settings).await {
        Ok(()) => format!("kept {} MB for later sessions", saved.bytes.div_ceil(1_000_000)),
        Err(reason) => format!("not kept for later sessions: {reason}"),
    };
    Kept::In(live, detail)
}

/// What is known of the workspace that is about to be kept.
pub(crate) async fn describe(
    link: &GuestLink,
    facts: &SessionView,
    plan: &Plan,
    before: Option<State>,
    took: Duration,
) -> Result<SetupCacheFacts, String> {
    let silent = || "git cannot say what is in the workspace".to_owned();
    let changes = workspace::state(link, &plan.workspace, Seen::Changes).await?.ok_or_else(silent)?;
    let all = workspace::state(link, &plan.workspace, Seen::Everything).await?.ok_or_else(silent)?;
    if changes.head != plan.workspace.commit {
        return Err("the setup script left the workspace at another commit".into());
    }
    let ran_script = plan.runs_script();
    Ok(SetupCacheFacts {
        repository: facts.repository.name.clone(),
        commit: plan.workspace.commit.clone(),
        wrote_workspace: ran_script && before.as_ref() != Some(&all),
        workspace_state: changes.digest,
        ran_script,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}

/// An agent that can begin, and what is told of the hooks.
pub(crate) struct Ready {
    pub(crate) agent: Box<dyn Agent>,
    pub(crate) detail: Option<String>,
}

/// The hooks that a session starts with.
pub(crate) fn start_hooks(project: &Project, source: Source) -> Vec<Handler> {
    project.settings.hooks.of(Event::SessionStart, source.name()).into_iter().cloned().collect()
}

/// Runs the hooks, one after the other, and makes the agent.
pub(crate) async fn ready(
    bench: &Bench,
    hooks: Vec<Handler>,
    source: Source,
    project: Project,
) -> Result<Ready, String> {
    let detail = if hooks.is_empty() { None } else { run_hooks(bench, &hooks, source, &project).await? };
    let agent = super::agent(&bench.shared, &bench.facts, &bench.sandbox, Some(project)).await?;
    Ok(Ready { agent, detail })
}

/// Waits until the agent's servers are connected or have failed, and tells how each stands.
pub(crate) async fn connect(bench: &Bench, mut agent: Box<dyn Agent>) -> Result<Ready, String> {
    let Connected { lines, wrong } = agent.connect().await;
    let mut log = bench.log(Step::Mcp);
    for line in lines {
        log.note(&line).await?;
    }
    Ok(Ready { agent, detail: wrong })
}

async fn run_hooks(
    bench: &Bench,
    hooks: &[Handler],
    source: Source,
    project: &Project,
) -> Result<Option<String>, String> {
    use protocol::hands::Hands as _;
    let Bench { shared, facts, epoch, .. } = bench;
    let link = bench.link();
    link.write_file(hooks::ENV_FILE, b"").await.map_err(|error| error.to_string())?;
    let cwd = workspace_path(facts);
    let mut env = variables(shared, facts, &bench.plan.environment.settings);
    env.push(("CLAUDE_ENV_FILE".into(), hooks::ENV_FILE.into()));
    env.push(("CLAUDE_CODE_SESSION_ID".into(), facts.id.to_string()));
    let env = project.settings.environment(&env);
    let input = format!("{}\n", hooks::input(&facts.id.to_string(), &cwd, source));
    let (mut log, mut failed, mut said) = (bench.log(Step::Hooks), Vec::new(), Vec::new());
    for hook in hooks {
        let spec = command(hook.argv(&cwd), &cwd, env.clone(), hook.timeout);
        let (end, output) = log.run_with(link, spec, Some(input.as_bytes())).await?;
        if !end.is_success() {
            let line = hook.command.lines().next().unwrap_or_default();
            let shown: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
            failed.push(format!("`{shown}` {}", ending(&end, hook.timeout)));
        }
        let (context, messages) = at_start(hook, &Ran::of(&end, output, String::new()));
        said.extend(context);
        for message in messages {
            log.note(&message).await?;
        }
    }
    let told = |text: String| EventBody::ContextAdded {
        source: "SessionStart hook".into(),
        text: format!("<system-reminder>\nSessionStart hook says: {text}\n</system-reminder>"),
    };
    let said: Vec<EventBody> = said.into_iter().map(told).collect();
    if !said.is_empty() {
        shared.store.append(facts.id, *epoch, None, None, said).await.map_err(|error| error.to_string())?;
    }
    let told = format!("{} of {} hooks failed: {}", failed.len(), hooks.len(), failed.join("; "));
    Ok((!failed.is_empty()).then_some(told))
}
