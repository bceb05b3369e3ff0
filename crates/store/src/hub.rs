//! Who wants to know what was committed.
//!
//! ```text
//!  writer ── Notice ─┬─▶ channel of the session ─▶ its viewers, its waiters
//!                    └─▶ channel of all         ─▶ lists
//! ```
//!
//! Channels are bounded. A viewer that is too slow loses notices, learns so, and reads the log
//! again: nobody waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::event::{Event, LiveDelta};
use protocol::ids::SessionId;
use protocol::view::SessionView;
use tokio::sync::broadcast;

/// Notices that wait for one slow subscriber before it is told to read the log again.
const CAPACITY: usize = 256;

/// Something that subscribers may want to know.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Events were committed; the view is the one after the last of them.
    Appended { events: Arc<Vec<Event>>, view: Arc<SessionView> },
    /// Something to show at once, in order with the events around it, never stored.
    Live { session: SessionId, delta: LiveDelta },
    /// The session was deleted.
    Deleted { session: SessionId },
}

impl Notice {
    fn session(&self) -> SessionId {
        match self {
            Self::Appended { view, .. } => view.id,
            Self::Live { session, .. } | Self::Deleted { session } => *session,
        }
    }
}

/// A place in the stream of notices.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Notice>);

impl Subscription {
    /// The next notice; `Ok(None)` when some were lost and the log has to be read again; `Err` when
    /// the store is closed or the session deleted.
    pub async fn next(&mut self) -> Result<Option<Notice>, Closed> {
        match self.0.recv().await {
            Ok(notice) => Ok(Some(notice)),
            Err(broadcast::error::RecvError::Lagged(_)) => Ok(None),
            Err(broadcast::error::RecvError::Closed) => Err(Closed),
        }
    }
}

/// Nothing will come any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

#[derive(Debug)]
pub(crate) struct Hub {
    all: broadcast::Sender<Notice>,
    sessions: Mutex<HashMap<SessionId, broadcast::Sender<Notice>>>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { all: broadcast::channel(CAPACITY * 4).0, sessions: Mutex::default() }
    }

    /// Everything that is committed from here on; without live deltas.
    pub(crate) fn subscribe_all(&self) -> Subscription {
        Subscription(self.all.subscribe())
    }

    /// What happens in one session from here on.
    pub(crate) fn subscribe(&self, session: SessionId) -> Subscription {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = sessions.entry(session).or_insert_with(|| broadcast::channel(CAPACITY).0);
        Subscription(sender.subscribe())
    }

    pub(crate) fn publish(&self, notice: Notice) {
        let session = notice.session();
        if !matches!(notice, Notice::Live { .. }) {
            // No list is open: nobody to tell.
            let _ = self.all.send(notice.clone());
        }
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted = matches!(notice, Notice::Deleted { .. });
        if let Some(sender) = sessions.get(&session)
            && (sender.send(notice).is_err() || deleted)
        {
            sessions.remove(&session);
        }
    }
}
