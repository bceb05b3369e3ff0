//! A kept setup that is too old is built anew while the session that still used it works.
//!
//! ```text
//!  start with an old layer ─▶ copy of the repository · sandbox · clone · setup ─▶ sealed ─▶ takes its place
//!                                                                └ failed ─▶ the old one goes, too
//! ```
//!
//! It works on a copy of the session's repository under the id of a session that nobody knows, as a
//! setup test does: what a crash leaves goes at the next start.

use std::sync::Arc;
use std::time::Duration;

use protocol::hands::ExecSpec;
use protocol::ids::{LayerId, SandboxId, SessionId};
use protocol::view::SessionView;
use store::{NewSetupCache, StoredSetupCache};
use tokio::time::Instant;
use ulid::Ulid;

use super::caches;
use crate::driver::LiveSandbox;
use crate::networks::Ground;
use crate::provision::plan::{self, Plan};
use crate::provision::workspace::{Seen, Wanted};
use crate::provision::{self, exec, setup, steps, workspace};
use crate::registry::Shared;

/// The branch of the copy.
const BRANCH: &str = "patchyard/setup-cache";

/// Begins to build an old layer anew, unless that is done already.
pub(crate) fn start(shared: &Arc<Shared>, facts: &Arc<SessionView>, plan: &Arc<Plan>) {
    let Some((old, true)) = plan.reused.clone() else { return };
    if !shared.rebuilding.begin(old.layer) {
        return;
    }
    let (this, facts, plan) = (Arc::clone(shared), Arc::clone(facts), Arc::clone(plan));
    shared.background.spawn(async move {
        let layer = old.layer;
        tokio::select! {
            () = run(&this, &facts, &plan, old) => {}
            () = this.stopping.cancelled() => {}
        }
        this.rebuilding.end(layer);
    });
}

async fn run(shared: &Arc<Shared>, facts: &SessionView, plan: &Plan, old: StoredSetupCache) {
    let (sandbox, session) = (SandboxId::from(Ulid::generate()), SessionId::from(Ulid::generate()));
    let _down = TakeDown { shared: Arc::clone(shared), sandbox, session };
    if let Err(reason) = build(shared, facts, plan, &old, sandbox, session).await {
        tracing::warn!(environment = %plan.environment.id, reason, "an old setup could not be built anew; it is dropped");
        caches::forget(shared, old.layer).await;
    }
}

/// Takes down what was made, also when the server stops in the middle.
struct TakeDown {
    shared: Arc<Shared>,
    sandbox: SandboxId,
    session: SessionId,
}

impl Drop for TakeDown {
    fn drop(&mut self) {
        let (shared, sandbox, session) = (Arc::clone(&self.shared), self.sandbox, self.session);
        self.shared.background.spawn(async move {
            shared.destroy(sandbox).await;
            if let Err(error) = shared.repositories.delete(session).await {
                tracing::warn!(%error, "a copied repository stays until the next start");
            }
        });
    }
}

async fn build(
    shared: &Shared,
    facts: &SessionView,
    plan: &Plan,
    old: &StoredSetupCache,
    sandbox: SandboxId,
    session: SessionId,
) -> Result<(), String> {
    let words = |error: git_proxy::GitError| error.to_string();
    shared.repositories.copy(facts.id, session, &facts.base).await.map_err(words)?;
    shared.repositories.start_branch(session, BRANCH, &facts.base).await.map_err(words)?;
    let mut wanted = Wanted {
        path: plan.workspace.path.clone(),
        branch: BRANCH.into(),
        commit: facts.base.clone(),
        ..plan.workspace.clone()
    };
    wanted.bring(shared, session, facts.repository.url.as_deref()).await;
    let spec = protocol::sandbox_spec::SandboxSpec { layer: None, ..plan.spec.clone() };
    let bound = (session, Ground::Environment(plan.environment.id));
    let live = provision::start(shared, sandbox, Some(session), spec, bound).await?;
    let plan = Plan { workspace: wanted, reused: None, ..plan.clone() };
    let begun = Instant::now();
    well(&live, workspace::clone_command(&plan.workspace), "the clone").await?;
    let before = workspace::state(&live.link, &plan.workspace, Seen::Everything).await?;
    if plan.runs_script() {
        run_script(shared, &live, &plan, session).await?;
    }
    let facts_of = steps::describe(&live.link, facts, &plan, before, begun.elapsed()).await?;
    let layer = LayerId::from(Ulid::generate());
    let saved = shared.host.seal(sandbox, layer).await.map_err(|error| error.to_string())?;
    let key = plan::key(shared, facts, &plan.environment).await.ok_or("the image is gone")?;
    let new =
        NewSetupCache { layer, environment: plan.environment.id, key, bytes: saved.bytes, facts: facts_of };
    caches::keep(shared, new, Some(old.layer), &plan.environment.settings).await
}

async fn run_script(
    shared: &Shared,
    live: &LiveSandbox,
    plan: &Plan,
    session: SessionId,
) -> Result<(), String> {
    let settings = &plan.environment.settings;
    let argv = setup::place(&live.link, &settings.setup_script).await?;
    let mut env = plan::own_variables(shared, settings);
    env.extend(provision::ours(&session.to_string(), &plan.workspace.path));
    let limit = shared.config.deadlines.setup;
    let outcome =
        well(live, setup::command_of(argv, &plan.workspace.path, env, limit), "the setup script").await;
    setup::take_away(&live.link).await;
    outcome?;
    let left = setup::left_running(&live.link).await?;
    if left.is_empty() { Ok(()) } else { Err(setup::not_kept(&left)) }
}

async fn well(live: &LiveSandbox, spec: ExecSpec, what: &str) -> Result<(), String> {
    let limit = spec.timeout.unwrap_or(Duration::MAX);
    let (end, _) = exec::ask(&live.link, spec, 0).await?;
    if end.is_success() { Ok(()) } else { Err(format!("{what} {}", exec::ending(&end, limit))) }
}

/// The layers that are built anew now.
#[derive(Debug, Default)]
pub(crate) struct Rebuilding(std::sync::Mutex<std::collections::HashSet<LayerId>>);

impl Rebuilding {
    fn begin(&self, layer: LayerId) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(layer)
    }

    fn end(&self, layer: LayerId) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&layer);
    }
}
