//! Putting the sandbox of a session away that rests.
//!
//! ```text
//!  idle ── long enough ──▶ checkpoint ──▶ sandbox ended, its disk kept as a layer ──▶ suspended
//!            │ a person's shell, a command in the background: later      │ not possible: the checkpoint
//!            │ cannot be recorded: later, it has the only copy           ▼ is what is left
//!  next prompt ──▶ a sandbox on the layer: no clone, no setup, the hooks
//! ```
//!
//! Each sandbox after the first stands on the layer of the one before. The kernel has a limit for that:
//! a stack that is too high is let go of, and the next sandbox begins with the checkpoint.

use std::sync::Arc;
use std::time::Duration;

use protocol::event::{EventBody, SavedWorkspace, SessionError};
use protocol::ids::{LayerId, SandboxId};
use protocol::status::{SandboxPhase, TurnPhase};
use protocol::view::SessionView;
use store::StoreError;
use tokio::time::{Instant, timeout};
use ulid::Ulid;

use super::Driver;
use crate::environments::caches;
use crate::machine::Input;
use crate::registry::Shared;

/// How long commands in the background keep a sandbox up.
const BACKGROUND: Duration = Duration::from_secs(3600);

/// Layers of one session on each other at the most; a kept setup may lie below them.
const MAX_LAYERS: usize = 12;

/// How a session rests.
pub(super) struct Rests {
    since: Instant,
    looked: Instant,
    /// Shells that persons have open.
    shells: usize,
}

impl Default for Rests {
    fn default() -> Self {
        let now = Instant::now();
        Self { since: now, looked: now, shells: 0 }
    }
}

impl Rests {
    /// Something was done.
    pub(super) fn end(&mut self) {
        self.since = Instant::now();
        self.looked = self.since;
    }

    /// Takes in what a person did.
    pub(super) fn note(&mut self, body: &EventBody) {
        match body {
            EventBody::ShellOpened { .. } => self.shells += 1,
            EventBody::ShellClosed { .. } => self.shells = self.shells.saturating_sub(1),
            _ => {}
        }
    }
}

impl Driver {
    /// When the sandbox is put away, if nothing happens until then.
    pub(super) fn idle_until(&self) -> Option<Instant> {
        let rests = self.job.is_none() && self.suspend.is_none() && self.rests.shells == 0;
        let is_up = self.machine.sandbox == SandboxPhase::Ready && self.machine.turn == TurnPhase::Idle;
        let idle = self.shared.config.idle.filter(|_| rests && is_up && self.sandbox.is_some())?;
        Some(self.rests.looked + idle)
    }

    /// Puts the sandbox away.
    pub(super) async fn hibernate(&mut self) -> Result<(), StoreError> {
        let background = self.agent.as_ref().map_or(0, |agent| agent.background());
        if background > 0 && self.rests.since.elapsed() < BACKGROUND {
            self.rests.looked = Instant::now();
            return Ok(());
        }
        self.unrecorded = true;
        if !self.record_rest().await? {
            self.rests.looked = Instant::now();
            return Ok(());
        }
        let Some(sandbox) = self.sandbox.take() else { return Ok(()) };
        self.agent = None;
        self.shared.networks.release(sandbox.id).await;
        let mut layers = self.layers();
        let kept = match layers.len() < MAX_LAYERS {
            true => save(&self.shared, sandbox.id).await,
            false => Err("too many layers stand on each other".to_owned()),
        };
        let mut events = Vec::new();
        let mut reason =
            "Put away after a rest; the next prompt goes on with everything as it was.".to_owned();
        match kept {
            Ok((layer, bytes)) => {
                layers.push(layer);
                events.push(self.keep_layers(layers, bytes));
            }
            Err(why) => {
                self.shared.destroy(sandbox.id).await;
                events.extend(self.let_go_of_layers().await);
                reason =
                    format!("Put away after a rest; the next prompt begins with the last checkpoint: {why}.");
            }
        }
        if background > 0 {
            let message = format!("{background} commands in the background were ended with the sandbox.");
            let code = "background_ended".into();
            events.push(EventBody::Error(SessionError { code, message, retry_in_ms: None }));
        }
        self.advance(Input::Suspend, events, Some(reason)).await.map(drop)
    }

    fn layers(&self) -> Vec<LayerId> {
        self.facts.saved.as_ref().map(|saved| saved.layers.clone()).unwrap_or_default()
    }

    /// Remembers what is kept, and gives the event that says so.
    fn keep_layers(&mut self, layers: Vec<LayerId>, bytes: u64) -> EventBody {
        let saved = SavedWorkspace { layers, commit: self.tip.get(), bytes };
        let kept = (!saved.layers.is_empty()).then(|| saved.clone());
        self.facts = Arc::new(SessionView { saved: kept, ..(*self.facts).clone() });
        EventBody::WorkspaceSaved(saved)
    }

    /// Removes what was kept, if anything was, and gives the event that says so.
    pub(super) async fn let_go_of_layers(&mut self) -> Option<EventBody> {
        let layers = self.layers();
        for layer in layers.iter().rev() {
            caches::drop_layer(&self.shared, *layer).await;
        }
        (!layers.is_empty()).then(|| self.keep_layers(Vec::new(), 0))
    }
}

/// Ends a sandbox and keeps what it wrote.
async fn save(shared: &Shared, sandbox: SandboxId) -> Result<(LayerId, u64), String> {
    let (layer, limit) = (LayerId::from(Ulid::generate()), shared.config.deadlines.save);
    match timeout(limit, shared.host.seal(sandbox, layer)).await {
        Ok(Ok(saved)) => Ok((layer, saved.bytes)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("keeping it took longer than {} s", limit.as_secs())),
    }
}
