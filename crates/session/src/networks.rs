//! The networks of living sandboxes: under which rules each is bound, and what it was refused.
//!
//! ```text
//!   sandbox made ─▶ bind: listeners (sandbox-host) + audit segment + rules ─▶ egress
//!   environment edited ─▶ other rules, at once
//!   egress died ─▶ it is there again ─▶ every living sandbox is bound anew
//!   egress refuses something ─▶ `network.denied` in the session's log
//!   a person decides ─▶ `network.allowed` in the session's log ─▶ other rules, at once
//! ```
//!
//! A sandbox that is not bound is offline. So is one at level none: for it nothing is opened but its
//! gateways, which are there at every level and do not depend on `egress`.

mod asking;
mod authority;
pub(crate) mod chain;
mod decisions;
mod notices;
mod records;
pub(crate) mod retention;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use egress::client::{Egress, EgressClientError, Listeners};
use protocol::egress::{AuthorityKey, EgressCounts, Ground as Rules};
use protocol::environment::NetworkLevel;
use protocol::event::NetworkDenied;
use protocol::ids::{EnvironmentId, SandboxId, SessionId};
use protocol::network::NetworkRules;
use protocol::sandbox_spec::Tier;
use protocol::secret::SecretUse;
use sandbox::client::SandboxHost;
use store::{Store, StoreError};

use crate::config::SessionConfig;
use crate::gateways::Gateways;
use crate::network::OperatorNetwork;
use crate::registry::{Sessions, Shared};
use crate::secrets::{self, OperatorSecrets};
pub use asking::AskingError;
use decisions::Decisions;
use notices::Told;

/// After `egress` went away.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries to bind a sandbox while `egress` comes and goes.
const TRIES: usize = 3;

/// Where the rules of a sandbox come from, before anything that a person decided for its session.
#[derive(Debug, Clone)]
pub(crate) enum Ground {
    /// An environment, as it is whenever they are read.
    Environment(EnvironmentId),
    /// Settings that are tried out and belong to no environment yet.
    Tried(NetworkRules),
}

fn is_offline(rules: &NetworkRules) -> bool {
    matches!(rules.level, NetworkLevel::None {})
}

/// One living sandbox.
#[derive(Debug)]
struct Bound {
    session: SessionId,
    ground: Ground,
    told: Told,
}

/// The networks of all living sandboxes.
pub(crate) struct Networks {
    egress: Egress,
    host: SandboxHost,
    store: Store,
    gateways: Gateways,
    operator: OperatorNetwork,
    secrets: OperatorSecrets,
    segments: PathBuf,
    bound: Mutex<HashMap<SandboxId, Bound>>,
    /// One handover at a time: whoever hands over looks first at what is held.
    handover: tokio::sync::Mutex<()>,
}

impl Networks {
    /// Networks by way of this `egress`, under what the operator decided.
    pub(crate) fn new(
        egress: Egress,
        host: SandboxHost,
        store: Store,
        gateways: Gateways,
        config: &SessionConfig,
    ) -> Self {
        Self {
            egress,
            host,
            store,
            gateways,
            operator: config.network.clone(),
            secrets: config.secrets.clone(),
            segments: config.audit.clone(),
            bound: Mutex::default(),
            handover: tokio::sync::Mutex::default(),
        }
    }

    /// The rules that a ground gives now.
    async fn rules(&self, ground: &Ground) -> Result<NetworkRules, StoreError> {
        match ground {
            Ground::Environment(id) => Ok(self.operator.rules(&self.store.environment(*id).await?.settings)),
            Ground::Tried(rules) => Ok(rules.clone()),
        }
    }

    /// The secrets that a ground gives now; a command of the operator's may run for each.
    async fn secrets(&self, ground: &Ground) -> Result<Vec<SecretUse>, StoreError> {
        match ground {
            Ground::Environment(id) => {
                let settings = self.store.environment(*id).await?.settings;
                secrets::fetch(&self.store, &self.secrets, (*id, &settings)).await
            }
            Ground::Tried(_) => Ok(Vec::new()),
        }
    }

    /// Binds a sandbox that was just made (`new`) or adopted. What is told of a network that cannot be had.
    /// After an error it is still to be released.
    pub(crate) async fn bind(
        &self,
        (sandbox, new): (SandboxId, bool),
        session: SessionId,
        tier: Tier,
        ground: Ground,
    ) -> Result<Option<String>, String> {
        let failed = |reason: String| format!("the network of the sandbox could not be bound: {reason}");
        let rules = self.rules(&ground).await.map_err(|error| failed(error.to_string()))?;
        let offline = is_offline(&rules);
        let told = (tier != Tier::Container && !offline).then(|| {
            format!(
                "in the tier `{tier}` the network is reached by the proxy variables only: what does not know of \
                 them is offline, and names are not answered inside"
            )
        });
        match self.gateways.open(sandbox, session).await {
            Err(reason) if new => return Err(failed(reason)),
            // What lives on inside may have taken the port; the rest of it works.
            Err(reason) => tracing::warn!(%sandbox, reason, "the gateways of a sandbox are closed"),
            Ok(()) => {}
        }
        self.bound().insert(sandbox, Bound { session, ground, told: Told::default() });
        // Nobody can hold the listeners of one that is new.
        if new && offline {
            return Ok(None);
        }
        let mut last = None;
        for _ in 0..TRIES {
            match self.hand_over(sandbox).await {
                Ok(()) => return Ok(told),
                Err(Handover::Egress(EgressClientError::Broken(error))) => last = Some(error.to_string()),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        let last = last.unwrap_or_default();
        Err(failed(format!("egress ended {TRIES} times over it ({last})")))
    }

    /// Forgets a sandbox that is gone or about to be.
    pub(crate) async fn release(&self, sandbox: SandboxId) {
        self.gateways.close(sandbox);
        let known = self.bound().remove(&sandbox).is_some();
        if known && let Err(error) = self.egress.unbind(sandbox).await {
            tracing::debug!(%sandbox, %error, "egress was not told of an end");
        }
    }

    /// Puts the rules of an environment that was edited into force for all its sandboxes.
    pub(crate) async fn edited(&self, environment: EnvironmentId) {
        let of_it = |ground: &Ground| matches!(ground, Ground::Environment(id) if *id == environment);
        self.hand_over_those(|one| of_it(&one.ground)).await;
    }

    /// Puts into force what a person decided for a session, and tells of the next refusal there.
    async fn decided(&self, session: SessionId, host: &str, port: u16) {
        self.hand_over_those(|one| {
            let of_it = one.session == session;
            if of_it {
                one.told.forget(host, port);
            }
            of_it
        })
        .await;
    }

    async fn hand_over_those(&self, mut which: impl FnMut(&mut Bound) -> bool) {
        let those: Vec<SandboxId> = {
            let mut bound = self.bound();
            let those = bound.iter_mut().filter_map(|(sandbox, one)| which(one).then_some(*sandbox));
            those.collect()
        };
        for sandbox in those {
            if let Err(error) = self.hand_over(sandbox).await {
                tracing::warn!(%sandbox, %error, "the new network rules of a sandbox are not in force yet");
            }
        }
    }

    /// What a session was refused since then, each host and port once.
    pub(crate) fn refused_since(&self, session: SessionId, since: Instant) -> Vec<NetworkDenied> {
        let bound = self.bound();
        bound.values().filter(|one| one.session == session).flat_map(|one| one.told.since(since)).collect()
    }

    /// The newest sandbox of a session.
    fn sandbox_of(&self, session: SessionId) -> Option<SandboxId> {
        self.bound().iter().filter(|(_, one)| one.session == session).map(|(sandbox, _)| *sandbox).max()
    }

    /// Sees to it that a sandbox is held under its rules, whatever was before.
    async fn hand_over(&self, sandbox: SandboxId) -> Result<(), Handover> {
        let _one = self.handover.lock().await;
        let held = self.egress.list().await?.contains(&sandbox);
        let Some((session, ground)) = self.ground(sandbox) else { return Ok(()) };
        // Read here, so that whoever is last has read all that was edited and decided before.
        let rules = self.rules(&ground).await?;
        let offline = is_offline(&rules);
        if offline && !held {
            return Ok(());
        }
        // At level none nobody can use one.
        let secrets = if offline { Vec::new() } else { self.secrets(&ground).await? };
        let rules = Decisions::read(&self.store, session).await?.over(rules);
        let OperatorNetwork { canaries, budgets, .. } = &self.operator;
        let rules = Rules { rules, secrets, canaries: canaries.clone(), budgets: *budgets };
        if held {
            self.egress.rules(sandbox, rules).await?;
            return Ok(());
        }
        let (doors, sockets) = self.host.listen(sandbox).await?;
        let (segment, chain) = chain::open(&self.segments, &chain::segment_of(&self.segments, session))?;
        let listeners = Listeners { doors, sockets, segment: segment.into(), chain };
        let trusted = self.authority(session).await?;
        Ok(self.egress.bind(sandbox, session, (rules, trusted), listeners).await?)
    }

    /// The authority of a session, which its sandboxes trust.
    pub(crate) async fn authority(&self, session: SessionId) -> io::Result<AuthorityKey> {
        let folder = self.segments.clone();
        let opened = tokio::task::spawn_blocking(move || authority::open(&folder, session)).await;
        opened.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// What `egress` counted.
    pub(crate) async fn counts(&self) -> Result<EgressCounts, EgressClientError> {
        self.egress.counts().await
    }

    fn ground(&self, sandbox: SandboxId) -> Option<(SessionId, Ground)> {
        self.bound().get(&sandbox).map(|bound| (bound.session, bound.ground.clone()))
    }

    fn bound(&self) -> MutexGuard<'_, HashMap<SandboxId, Bound>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a sandbox could not be handed over.
#[derive(Debug, thiserror::Error)]
enum Handover {
    #[error(transparent)]
    Egress(#[from] EgressClientError),
    #[error(transparent)]
    Host(#[from] sandbox::client::SandboxHostError),
    #[error("its rules cannot be read: {0}")]
    Rules(#[from] StoreError),
    #[error("its audit segment or its authority cannot be had: {0}")]
    Segment(#[from] io::Error),
}

/// Watches `egress` until the sessions are gone: binds again what it lost, and tells what it refuses.
pub(crate) async fn watch(shared: Weak<Shared>, sessions: impl Fn() -> Option<Sessions>) {
    loop {
        let Some(networks) = shared.upgrade().map(|shared| Arc::clone(&shared.networks)) else { return };
        let Ok(mut notices) = networks.egress.watch().await else {
            drop(networks);
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let all: Vec<SandboxId> = networks.bound().keys().copied().collect();
        for sandbox in all {
            if let Err(error) = networks.hand_over(sandbox).await {
                tracing::warn!(%sandbox, %error, "a sandbox is offline: it could not be bound again");
            }
        }
        drop(networks);
        while let Some(notice) = notices.next().await {
            let Some(sessions) = sessions() else { return };
            notices::tell(&sessions, notice).await;
        }
    }
}
