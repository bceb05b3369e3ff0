//! The agent's updates on their way to the turn that they belong to.
//!
//! ```text
//!   count:   0 ─ begin ─▶ 1 ─ end ─▶ 2 ─ begin ─▶ 3 …        odd: somebody listens
//!   update ─▶ marked with the count ─▶ queue ─▶ taken if it is still the count, else dropped
//! ```
//!
//! Nobody listens between turns: what comes then belongs to no turn, and what an earlier turn left
//! behind does not land in the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_client_protocol::v1::schema::SessionUpdate;
use tokio::sync::mpsc;

/// Updates that wait to be logged before the protocol waits too.
const WAITING: usize = 16;

/// What both ends know.
#[derive(Debug, Default)]
struct Shared {
    count: AtomicU64,
    /// Bytes that the agent wrote since the turn began.
    bytes: AtomicU64,
}

/// The end where updates come in.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    queue: mpsc::Sender<(u64, SessionUpdate)>,
    shared: Arc<Shared>,
}

/// The end of the turns.
#[derive(Debug)]
pub(super) struct Updates {
    queue: mpsc::Receiver<(u64, SessionUpdate)>,
    shared: Arc<Shared>,
}

/// Both ends, between two turns.
pub(super) fn updates() -> (Heard, Updates) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let shared = Arc::new(Shared::default());
    (Heard { queue: sender, shared: Arc::clone(&shared) }, Updates { queue: receiver, shared })
}

impl Heard {
    /// Passes an update on, if somebody listens.
    pub(super) async fn update(&self, update: SessionUpdate) {
        let count = self.shared.count.load(Ordering::Acquire);
        if count % 2 == 1 {
            // A turn that is gone needs no update.
            let _ = self.queue.send((count, update)).await;
        }
    }

    /// Counts bytes, and gives how many there were since the turn began.
    pub(super) fn bytes(&self, count: usize) -> u64 {
        let count = count as u64;
        self.shared.bytes.fetch_add(count, Ordering::Relaxed).saturating_add(count)
    }
}

impl Updates {
    /// From now on what comes is the new turn's.
    pub(super) fn begin_turn(&mut self) {
        self.end_turn();
        self.shared.bytes.store(0, Ordering::Relaxed);
        self.shared.count.fetch_add(1, Ordering::AcqRel);
    }

    /// From now on nobody listens.
    pub(super) fn end_turn(&mut self) {
        let count = self.shared.count.load(Ordering::Acquire);
        self.shared.count.store(count + count % 2, Ordering::Release);
        while self.queue.try_recv().is_ok() {}
    }

    /// The next update of this turn; `None` when there will be none. Nothing is lost when it is dropped
    /// before it is ready.
    pub(super) async fn next(&mut self) -> Option<SessionUpdate> {
        loop {
            let (count, update) = self.queue.recv().await?;
            if count == self.shared.count.load(Ordering::Acquire) {
                return Some(update);
            }
        }
    }

    /// The next update of this turn that is here already.
    pub(super) fn next_ready(&mut self) -> Option<SessionUpdate> {
        loop {
            let (count, update) = self.queue.try_recv().ok()?;
            if count == self.shared.count.load(Ordering::Acquire) {
                return Some(update);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_client_protocol::v1::schema::{ContentBlock, ContentChunk, TextContent};

    use super::*;

    fn said(text: &str) -> SessionUpdate {
        SessionUpdate::AgentMessageChunk(ContentChunk::new(ContentBlock::Text(TextContent::new(text))))
    }

    #[tokio::test]
    async fn a_turn_hears_its_own_updates_only() {
        let (heard, mut updates) = updates();
        // More than the queue holds: nothing waits when nobody listens.
        for _ in 0..4 * WAITING {
            heard.update(said("before any turn")).await;
        }
        updates.begin_turn();
        heard.update(said("first")).await;
        assert_eq!(updates.next().await, Some(said("first")));
        assert_eq!(heard.bytes(100), 100);

        // Late ones: some in the queue, one that still waits for room in it.
        for _ in 0..WAITING {
            heard.update(said("late")).await;
        }
        let waiting = heard.clone();
        let mut waiting = Box::pin(async move { waiting.update(said("later")).await });
        assert!(futures::poll!(&mut waiting).is_pending());
        updates.end_turn();
        updates.begin_turn();
        waiting.await;
        heard.update(said("second")).await;
        assert_eq!(updates.next_ready(), Some(said("second")));
        assert_eq!((updates.next_ready(), heard.bytes(7)), (None, 7));
    }
}
