//! What we are for a server: who tells where the project is, and hears of progress and changes.

#![allow(deprecated, reason = "servers of the older era ask for roots")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, ErrorData, Implementation, ListRootsResult, ProgressNotificationParam,
    ProgressToken, Root, RootsCapabilities,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};
use tokio::sync::mpsc;

use super::names::plain;
use crate::tools::lock;

/// Notices of progress that wait to be shown.
const PROGRESS: usize = 16;

type Listeners = Mutex<HashMap<ProgressToken, mpsc::Sender<String>>>;

/// What we are for a server.
pub(super) struct Handler {
    workspace: String,
    changed: AtomicBool,
    listeners: Arc<Listeners>,
}

/// Somebody who listens to the progress of one call, until it is dropped.
pub(super) struct Listener {
    listeners: Arc<Listeners>,
    token: ProgressToken,
    told: mpsc::Receiver<String>,
}

impl Listener {
    /// The next thing that the server tells.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.told.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.listeners).remove(&self.token);
    }
}

impl Handler {
    pub(super) fn new(workspace: &str) -> Self {
        Self { workspace: workspace.to_owned(), changed: AtomicBool::new(false), listeners: Arc::default() }
    }

    /// Whether the server said that what it has is something else now; from here on it did not.
    pub(super) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// Listens to the progress of a request.
    pub(super) fn listen(&self, token: &ProgressToken) -> Listener {
        let (sender, told) = mpsc::channel(PROGRESS);
        lock(&self.listeners).insert(token.clone(), sender);
        Listener { listeners: Arc::clone(&self.listeners), token: token.clone(), told }
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.roots = Some(RootsCapabilities::default());
        ClientConfig::new(capabilities, Implementation::new("patchyard", env!("CARGO_PKG_VERSION")))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new(format!("file://{}", self.workspace))]))
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let told = lock(&self.listeners).get(&progress.progress_token).cloned();
        if let Some(told) = told {
            // What is not shown in time is not shown.
            let _ = told.try_send(progress_in_words(&progress));
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.store(true, Ordering::Relaxed);
    }

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.store(true, Ordering::Relaxed);
    }
}

fn progress_in_words(progress: &ProgressNotificationParam) -> String {
    let of = progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
    let words = progress.message.as_deref().map(|words| format!(": {}", plain(words, 200)));
    format!("{}{of}{}\n", progress.progress, words.unwrap_or_default())
}
