//! The gateways of living sandboxes: doors that each has whatever its network level says.
//!
//! ```text
//!   in the sandbox                     the server
//!   127.0.0.1:3130 ── sandbox-host ──▶ model: the Messages API, with the server's key ─▶ usage in the log
//!   127.0.0.1:3131 ── opens them  ───▶ git: the session's repository, its branch alone to push to
//! ```
//!
//! The listener is the identity: what comes in by it is of the session that the sandbox was made for.
//! `egress` has no part in it. The listeners go with the server; the next one opens them again.

mod account;
mod git;
mod pushes;
mod serve;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use account::{Note, record};
use axum::extract::Request;
use axum::response::Response;
use git_proxy::{GitDoor, GitGateway, Repositories};
use model_gateway::front::{ModelDoor, ModelGateway};
use protocol::egress::Gateway;
use protocol::ids::{SandboxId, SessionId};
use sandbox::client::SandboxHost;
use store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use account::SessionAccount;
use git::SessionRemote;
pub(crate) use git::{address, remote_of};
pub(crate) use pushes::PushRecords;

/// The gateways of all living sandboxes.
pub(crate) struct Gateways {
    host: SandboxHost,
    store: Store,
    repositories: Repositories,
    model: ModelGateway,
    git: GitGateway,
    personal_tokens: bool,
    records: PushRecords,
    notes: mpsc::UnboundedSender<Note>,
    open: Mutex<HashMap<SandboxId, DropGuard>>,
}

/// What answers at a door.
pub(crate) enum Answering {
    Model(ModelDoor),
    Git(GitDoor),
}

impl Answering {
    pub(crate) async fn answer(&self, request: Request) -> Response {
        match self {
            Self::Model(door) => door.answer(request).await,
            Self::Git(door) => door.answer(request).await,
        }
    }
}

impl Gateways {
    /// Gateways to this model and to repositories; what happens there is told to `notes`.
    pub(crate) fn new(
        host: SandboxHost,
        (store, repositories): (Store, Repositories),
        (model, git): (ModelGateway, GitGateway),
        (records, personal_tokens): (PushRecords, bool),
        notes: mpsc::UnboundedSender<Note>,
    ) -> Self {
        let open = Mutex::default();
        Self { host, store, repositories, model, git, personal_tokens, records, notes, open }
    }

    /// Opens the gateways of a sandbox in the name of a session. One that has no log, such as that of a
    /// setup test, has nobody to account to, and no gateways.
    pub(crate) async fn open(&self, sandbox: SandboxId, session: SessionId) -> Result<(), String> {
        match self.store.session(session).await {
            Ok(_) => {}
            Err(StoreError::NoSession(_)) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        if self.doors().contains_key(&sandbox) {
            return Ok(());
        }
        let listeners = self.host.gateways(sandbox).await.map_err(|error| error.to_string())?;
        let gone = CancellationToken::new();
        for (gateway, socket) in listeners {
            let (store, notes) = (self.store.clone(), self.notes.clone());
            let answering = match gateway {
                Gateway::Model => {
                    Answering::Model(self.model.door(Arc::new(SessionAccount { session, store, notes })))
                }
                Gateway::Git => {
                    let records = self.records.clone();
                    let (repositories, personal_tokens) = (self.repositories.clone(), self.personal_tokens);
                    let remote =
                        SessionRemote { session, store, repositories, personal_tokens, records, notes };
                    Answering::Git(self.git.door(Arc::new(remote)))
                }
            };
            serve::open(socket, answering, gone.clone()).map_err(|error| error.to_string())?;
        }
        self.doors().insert(sandbox, gone.drop_guard());
        Ok(())
    }

    /// Closes the gateways of a sandbox, and ends their connections.
    pub(crate) fn close(&self, sandbox: SandboxId) {
        self.doors().remove(&sandbox);
    }

    fn doors(&self) -> MutexGuard<'_, HashMap<SandboxId, DropGuard>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
