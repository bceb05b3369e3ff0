//! All sessions of a server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use egress::client::{Egress, EgressClientError};
use forge::Forges;
use git_proxy::{GitGateway, Repositories};
use model_gateway::front::ModelGateway;
use protocol::egress::EgressCounts;
use protocol::ids::{SandboxId, SessionId};
use protocol::status::SandboxPhase;
use protocol::view::SessionView;
use sandbox::client::SandboxHost;
use store::Store;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agents::Agents;
use crate::config::SessionConfig;
use crate::driver::{Driver, Handle};
use crate::environments::caches;
use crate::environments::rebuild::Rebuilding;
use crate::environments::setup_tests::SetupTests;
use crate::error::SessionError;
use crate::gateways::{self, Gateways, PushRecords};
use crate::networks::{self, Networks};
use crate::pull_requests::{self, Opening};
use crate::push;
use crate::shells::Shells;
use crate::warm::Warm;

/// What all drivers use.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) repositories: Repositories,
    /// The way to large files.
    pub(crate) git: GitGateway,
    pub(crate) host: SandboxHost,
    pub(crate) networks: Arc<Networks>,
    pub(crate) agents: Agents,
    /// Whether agents in sandboxes are answered by a model.
    pub(crate) has_model_gateway: bool,
    pub(crate) config: SessionConfig,
    /// The way to forges.
    pub(crate) forges: Forges,
    pub(crate) opening: Opening,
    /// The audit records of pushes.
    pub(crate) pushes: PushRecords,
    pub(crate) setup_tests: SetupTests,
    pub(crate) rebuilding: Rebuilding,
    /// Sandboxes that wait for a session.
    pub(crate) warm: Warm,
    /// What goes on beside the sessions; it is waited for when the server stops.
    pub(crate) background: TaskTracker,
    /// Cancelled when the server stops.
    pub(crate) stopping: CancellationToken,
    /// Sessions whose driver died of a bug of ours.
    pub(crate) orphans: mpsc::UnboundedSender<SessionId>,
}

/// How long a session rests whose driver died, so that a bug that comes back costs little.
const REST: std::time::Duration = std::time::Duration::from_secs(1);

/// How long work beside the sessions may take to end when the server stops.
const LAST_WORK: std::time::Duration = std::time::Duration::from_secs(20);

impl Shared {
    /// Takes a sandbox down, and waits for that, but not for long.
    pub(crate) async fn destroy(&self, sandbox: SandboxId) {
        let gone = self.reap(sandbox);
        if tokio::time::timeout(self.config.deadlines.teardown, gone).await.is_err() {
            tracing::warn!(%sandbox, "a sandbox takes long to go; nobody waits for it any more");
        }
    }

    /// Takes a sandbox down in the background, and says in the server's log when that fails; the next start
    /// of `sandbox-host` finds what is left.
    pub(crate) fn reap(&self, sandbox: SandboxId) -> JoinHandle<()> {
        let (host, networks) = (self.host.clone(), Arc::clone(&self.networks));
        self.background.spawn(async move {
            networks.release(sandbox).await;
            if let Err(error) = host.destroy(sandbox).await {
                tracing::warn!(%sandbox, %error, "a sandbox could not be taken down");
            }
        })
    }
}

/// The registry: finds or starts the driver of a session. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) shared: Arc<Shared>,
    live: Arc<Mutex<HashMap<SessionId, Handle>>>,
    stopping: Arc<AtomicBool>,
    pub(crate) shells: Shells,
}

impl Sessions {
    /// Sessions over these parts. Call [`Self::recover`] before serving requests.
    #[must_use]
    pub fn new(
        store: Store,
        repositories: Repositories,
        host: SandboxHost,
        egress: Egress,
        (model, git, forges): (ModelGateway, GitGateway, Forges),
        agents: Agents,
        config: SessionConfig,
    ) -> Self {
        let (record, recorded) = mpsc::unbounded_channel();
        let has_model_gateway = model.has_model();
        let records = PushRecords::new(config.audit.clone(), store.clock().clone());
        let kept = (records.clone(), config.personal_tokens);
        let gateways = {
            let kept_in = (store.clone(), repositories.clone());
            Gateways::new(host.clone(), kept_in, (model, git.clone()), kept, record)
        };
        let networks = Arc::new(Networks::new(egress, host.clone(), store.clone(), gateways, &config));
        let (orphans, mut orphaned) = mpsc::unbounded_channel();
        let this = Self {
            shared: Arc::new(Shared {
                store,
                repositories,
                git,
                host,
                networks,
                agents,
                has_model_gateway,
                config,
                forges,
                opening: Opening::default(),
                pushes: records,
                setup_tests: SetupTests::new(),
                rebuilding: Rebuilding::default(),
                warm: Warm::default(),
                background: TaskTracker::new(),
                stopping: CancellationToken::new(),
                orphans,
            }),
            live: Arc::default(),
            stopping: Arc::default(),
            shells: Shells::default(),
        };
        // None of these tasks holds more than it needs, so that the store closes with the last handle
        // to it.
        let parts =
            (Arc::downgrade(&this.shared), Arc::downgrade(&this.live), Arc::downgrade(&this.stopping));
        let again = {
            let (shared, live, stopping) = parts;
            move || {
                let (shared, live) = (shared.upgrade()?, live.upgrade()?);
                Some(Self { shared, live, stopping: stopping.upgrade()?, shells: Shells::default() })
            }
        };
        tokio::spawn(networks::retention::keep(Arc::downgrade(&this.shared)));
        tokio::spawn(networks::watch(Arc::downgrade(&this.shared), again.clone()));
        tokio::spawn(gateways::record(recorded, again.clone()));
        // A driver that died left its session as a crash would: a new one mends it.
        tokio::spawn(async move {
            while let Some(session) = orphaned.recv().await {
                tokio::time::sleep(REST).await;
                let Some(sessions) = again() else { return };
                if let Err(error) = sessions.handle(session).await {
                    tracing::warn!(%session, %error, "the session's driver could not be started again");
                }
            }
        });
        this
    }

    /// The names of the agents, the default first.
    #[must_use]
    pub fn agent_names(&self) -> Vec<String> {
        self.shared.agents.names()
    }

    /// How many sessions have a driver that runs.
    pub async fn driven(&self) -> usize {
        self.live.lock().await.values().filter(|handle| !handle.is_over()).count()
    }

    /// What `egress` counted since it was started.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub async fn egress_counts(&self) -> Result<EgressCounts, EgressClientError> {
        self.shared.networks.counts().await
    }

    /// The live handle of a session that exists; its driver starts when it does not run.
    pub async fn handle(&self, id: SessionId) -> Result<Handle, SessionError> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(SessionError::Stopping);
        }
        let mut live = self.live.lock().await;
        if let Some(handle) = live.get(&id).filter(|handle| !handle.is_over()) {
            return Ok(handle.clone());
        }
        self.shared.store.session(id).await?;
        let handle = Driver::start(Arc::clone(&self.shared), id);
        live.insert(id, handle.clone());
        Ok(handle)
    }

    /// The handle of a session whose driver runs.
    pub(crate) async fn live_handle(&self, id: SessionId) -> Option<Handle> {
        self.live.lock().await.get(&id).filter(|handle| !handle.is_over()).cloned()
    }

    /// Deletes a session and everything that belongs to it.
    pub async fn delete(&self, id: SessionId) -> Result<(), SessionError> {
        let handle = self.handle(id).await?;
        handle.delete().await?;
        self.live.lock().await.remove(&id);
        Ok(())
    }

    /// After a start: drivers for all sessions that a crash left busy or whose sandbox lives, and
    /// an end for sandboxes and repositories that no session knows.
    pub async fn recover(&self) -> Result<(), SessionError> {
        self.shared.store.sweep().await?;
        let views = self.all_views().await?;
        let layers = views
            .iter()
            .filter_map(|view| view.saved.as_ref())
            .flat_map(|saved| saved.layers.clone())
            .collect();
        caches::sweep(&self.shared, &layers).await;
        networks::retention::sweep(&self.shared).await;
        let known: HashMap<SessionId, &SessionView> = views.iter().map(|view| (view.id, view)).collect();
        for view in &views {
            if needs_driver(view) {
                self.handle(view.id).await?;
            }
            let is_wanted = view.pull_request_create.as_ref().is_some_and(|create| create.is_open());
            if push::is_open(view) || is_wanted {
                let (sessions, view) = (self.clone(), view.clone());
                self.shared.background.spawn(async move {
                    let id = view.id;
                    if push::is_open(&view) {
                        push::resume(sessions.clone(), view).await;
                    }
                    // Its branch comes first.
                    pull_requests::resume(sessions, id).await;
                });
            }
        }
        match self.shared.host.list().await {
            Ok(living) => {
                for attachment in living.into_iter().map(|made| made.attachment) {
                    // A busy session's driver decides itself; all others own no sandbox unless they
                    // are ready.
                    let owner = attachment.session.and_then(|session| known.get(&session));
                    if !owner.is_some_and(|view| needs_driver(view)) {
                        self.shared.reap(attachment.sandbox);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the living sandboxes could not be listed"),
        }
        for session in self.shared.repositories.sessions().await? {
            if !known.contains_key(&session) {
                self.shared.repositories.delete(session).await?;
            }
        }
        Ok(())
    }

    async fn all_views(&self) -> Result<Vec<SessionView>, SessionError> {
        let mut views = Vec::new();
        for archived in [false, true] {
            let mut before = None;
            loop {
                let page = self.shared.store.sessions(archived, before, 500).await?;
                let Some(last) = page.last() else { break };
                before = Some(last.id);
                views.extend(page);
            }
        }
        Ok(views)
    }

    /// Ends all turns, records the workspaces and takes the sandboxes down. Nothing starts after.
    pub async fn shut_down(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.shared.stopping.cancel();
        self.shared.setup_tests.stop();
        let handles: Vec<Handle> = self.live.lock().await.drain().map(|(_, handle)| handle).collect();
        futures::future::join_all(handles.iter().map(Handle::shut_down)).await;
        self.shared.background.close();
        if tokio::time::timeout(LAST_WORK, self.shared.background.wait()).await.is_err() {
            tracing::warn!("work beside the sessions did not end; the next start takes down what it left");
        }
    }
}

/// Whether a session has something to go on with, or to put right, without being asked.
fn needs_driver(view: &SessionView) -> bool {
    view.status.is_busy()
        || view.current_turn.is_some()
        || view.sandbox == SandboxPhase::Ready
        || view.queued_prompts > 0
}
