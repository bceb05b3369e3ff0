//! The end of a session.
//!
//! ```text
//!  its row and its key go, in one transaction: hidden, refused, unreadable
//!      └─▶ turn ended ─▶ sandbox, layers, blobs, write-ahead log, repository, authority
//!                            │ what cannot go now is tried again until it is gone
//!                            └ a crash: the next start finds what no session knows
//! ```
//!
//! What stays is the audit of where its sandboxes connected to, for as long as the operator keeps that.

use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{LayerId, SandboxId, SessionId};

use crate::networks::retention;
use crate::registry::Shared;

/// Between two tries.
const REST: Duration = Duration::from_secs(5);

/// What a deleted session leaves outside of the log.
pub(crate) struct Remains {
    pub(crate) session: SessionId,
    pub(crate) sandbox: Option<SandboxId>,
    /// The newest last.
    pub(crate) layers: Vec<LayerId>,
}

/// Removes what there is, and goes on in the background with what cannot go now or takes long.
pub(crate) async fn clear(shared: &Arc<Shared>, mut remains: Remains) {
    let limit = shared.config.deadlines.teardown;
    let (shared, stopping) = (Arc::clone(shared), shared.stopping.clone());
    let background = shared.background.clone();
    let (tried, first) = tokio::sync::oneshot::channel();
    background.spawn(async move {
        let mut gone = try_clear(&shared, &mut remains).await;
        // Nobody may wait any more.
        let _ = tried.send(());
        while !gone && stopping.run_until_cancelled(tokio::time::sleep(REST)).await.is_some() {
            gone = try_clear(&shared, &mut remains).await;
        }
    });
    let _ = tokio::time::timeout(limit, first).await;
}

/// Whether all of it is gone.
async fn try_clear(shared: &Shared, remains: &mut Remains) -> bool {
    let session = remains.session;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        tracing::warn!(%session, %error, "{what} of a deleted session could not be removed; it is tried again");
    };
    if let Some(sandbox) = remains.sandbox {
        shared.networks.release(sandbox).await;
        match shared.host.destroy(sandbox).await {
            Ok(()) => remains.sandbox = None,
            Err(error) => failed("the sandbox", &error),
        }
    }
    // A layer that others stand on goes after them.
    while let Some(layer) = remains.layers.last().filter(|_| remains.sandbox.is_none()) {
        match shared.host.drop_layer(*layer).await {
            Ok(()) => drop(remains.layers.pop()),
            Err(error) => {
                failed("a layer", &error);
                break;
            }
        }
    }
    let mut gone = remains.sandbox.is_none() && remains.layers.is_empty();
    if let Err(error) = shared.store.erase(session).await {
        failed("something in the database", &error);
        gone = false;
    }
    // A git of the dead turn may still write for a moment.
    if let Err(error) = shared.repositories.delete(session).await {
        failed("the repository", &error);
        gone = false;
    }
    let (audit, now) = (shared.config.audit.clone(), shared.store.clock().now().into());
    let _ = tokio::task::spawn_blocking(move || retention::deleted(&audit, session, now)).await;
    gone
}
