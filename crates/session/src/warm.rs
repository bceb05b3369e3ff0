//! Sandboxes that wait for a session, one for each recently used kind.
//!
//! ```text
//!   a session got ready ─▶ what would the next one of its environment and repository start with?
//!        └─▶ made in the background ─▶ waits ─┬─ a session wants just that ─▶ its repository is mounted
//!                                             ├─ another kind is used more ──▶ gone
//!                                             └─ half an hour ──────────────▶ gone
//! ```
//!
//! Two sandboxes of equal specifications can stand in for each other until one has a session: nothing of
//! any session ever ran in a waiting one.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::{SandboxId, SessionId};
use protocol::sandbox_host::HostErrorCode;
use protocol::sandbox_spec::SandboxSpec;
use protocol::view::SessionView;
use sandbox::client::SandboxHostError;
use ulid::Ulid;

use crate::driver::LiveSandbox;
use crate::provision::{self, plan};
use crate::registry::Shared;

/// How long a sandbox waits at the most.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The sandboxes that wait.
#[derive(Default)]
pub(crate) struct Warm(Mutex<State>);

#[derive(Default)]
struct State {
    /// The longest waiting first.
    waiting: VecDeque<Waiting>,
    being_made: HashSet<SandboxSpec>,
    /// Kinds whose runtime cannot have one wait.
    impossible: HashSet<SandboxSpec>,
}

/// A sandbox that waits.
struct Waiting {
    spec: SandboxSpec,
    /// What its image was; the name may stand for another one by now.
    image: String,
    live: LiveSandbox,
}

impl Warm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self, spec: &SandboxSpec) -> Option<Waiting> {
        let mut state = self.state();
        let at = state.waiting.iter().position(|waiting| waiting.spec == *spec)?;
        state.waiting.remove(at)
    }

    fn remove(&self, sandbox: SandboxId) -> bool {
        let mut state = self.state();
        let before = state.waiting.len();
        state.waiting.retain(|waiting| waiting.live.id != sandbox);
        state.waiting.len() < before
    }
}

/// Gives a waiting sandbox of this kind to a session, if there is one that still lives.
pub(crate) async fn take(shared: &Shared, spec: &SandboxSpec, session: SessionId) -> Option<LiveSandbox> {
    let Waiting { image, live, .. } = shared.warm.pop(spec)?;
    // Should whoever asked go away in the middle, nobody else knows of it any more.
    let guard = Guard { shared, sandbox: live.id };
    if image_id(shared, &spec.image).await.as_ref() != Some(&image) {
        return None;
    }
    match shared.host.attach(live.id, session).await {
        Ok(()) => {
            std::mem::forget(guard);
            Some(live)
        }
        Err(error) => {
            tracing::debug!(sandbox = %live.id, %error, "a waiting sandbox could not be used");
            None
        }
    }
}

async fn image_id(shared: &Shared, name: &str) -> Option<String> {
    let images = shared.host.images().await.ok()?;
    images.into_iter().find(|image| image.name == name).map(|image| image.id)
}

struct Guard<'a> {
    shared: &'a Shared,
    sandbox: SandboxId,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.shared.reap(self.sandbox);
    }
}

/// Has a sandbox made that the next session like this one can begin with at once.
pub(crate) fn fill(shared: &Arc<Shared>, facts: &Arc<SessionView>) {
    if shared.config.warm_sandboxes == 0 {
        return;
    }
    let (this, facts) = (Arc::clone(shared), Arc::clone(facts));
    shared.background.spawn(async move {
        tokio::select! {
            () = make(&this, &facts) => {}
            () = this.stopping.cancelled() => {}
        }
    });
}

async fn make(shared: &Arc<Shared>, facts: &SessionView) {
    let Ok(plan) = plan::of_session(shared, facts, &facts.base, false).await else { return };
    let spec = plan.spec;
    {
        let mut state = shared.warm.state();
        let is_there = state.waiting.iter().any(|waiting| waiting.spec == spec);
        if is_there || state.impossible.contains(&spec) || !state.being_made.insert(spec.clone()) {
            return;
        }
    }
    let sandbox = SandboxId::from(Ulid::generate());
    let guard = Guard { shared, sandbox };
    // Asked before: should it change meanwhile, the sandbox is of no use, rather than of the wrong image.
    let image = image_id(shared, &spec.image).await.unwrap_or_default();
    let made = start(shared, sandbox, &spec).await;
    let mut evicted = Vec::new();
    {
        let mut state = shared.warm.state();
        state.being_made.remove(&spec);
        match made {
            Ok(live) => {
                std::mem::forget(guard);
                state.waiting.push_back(Waiting { spec, image, live });
            }
            Err(Refused::CannotWait) => {
                state.impossible.insert(spec);
            }
            Err(Refused::Other(reason)) => tracing::debug!(reason, "no sandbox could be made in advance"),
        }
        while state.waiting.len() > shared.config.warm_sandboxes {
            evicted.extend(state.waiting.pop_front().map(|waiting| waiting.live.id));
        }
    }
    evicted.into_iter().for_each(|sandbox| drop(shared.reap(sandbox)));
    watch(shared, sandbox);
}

enum Refused {
    /// The runtime of this kind mounts nothing into what runs already.
    CannotWait,
    Other(String),
}

async fn start(shared: &Shared, sandbox: SandboxId, spec: &SandboxSpec) -> Result<LiveSandbox, Refused> {
    match shared.host.create(sandbox, None, spec.clone()).await {
        Ok(made) => provision::greet(shared, &made, spec).await.map_err(Refused::Other),
        Err(SandboxHostError::Failed { code: HostErrorCode::BadRequest, .. }) => Err(Refused::CannotWait),
        Err(error) => Err(Refused::Other(error.to_string())),
    }
}

/// Takes a waiting sandbox down when it has waited long enough, or died, or the server stops.
fn watch(shared: &Arc<Shared>, sandbox: SandboxId) {
    let found = {
        let state = shared.warm.state();
        let found = state.waiting.iter().find(|waiting| waiting.live.id == sandbox);
        found.map(|waiting| waiting.live.link.clone())
    };
    let Some(link) = found else { return };
    let this = Arc::clone(shared);
    shared.background.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(PATIENCE) => {}
            _ = link.closed() => {}
            () = this.stopping.cancelled() => {}
        }
        if this.warm.remove(sandbox) {
            this.destroy(sandbox).await;
        }
    });
}
