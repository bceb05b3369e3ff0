//! What every handler can reach.

use std::sync::Arc;

use git_proxy::Repositories;
use session::Sessions;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::uploads::Uploads;

/// Shared by all requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) store: Store,
    pub(crate) sessions: Sessions,
    pub(crate) repositories: Repositories,
    pub(crate) host: sandbox::client::SandboxHost,
    pub(crate) uploads: Uploads,
    pub(crate) settings: Arc<Settings>,
    /// Cancelled when the server stops, so that endless answers end.
    pub(crate) stopping: CancellationToken,
}

/// What does not change while the server runs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `Host` values that are this server.
    pub(crate) hosts: Vec<String>,
    /// The image of sessions that name none.
    pub(crate) default_image: String,
    /// The model, where there is one.
    pub(crate) model: Option<String>,
    /// What is missing for sessions to work.
    pub(crate) missing: Vec<String>,
}
