//! Following the log: what a stream sends next.
//!
//! ```text
//!  subscribe ─▶ read the log after N ─▶ notices, those already sent skipped
//!                     ▲                     │ some were lost, or a gap
//!                     └─────────────────────┘
//! ```
//!
//! Subscribing comes first, so that nothing falls between the log and the notices.

use std::collections::VecDeque;

use protocol::event::{Event, LiveDelta};
use protocol::ids::{Seq, SessionId};
use protocol::view::SessionView;
use store::{Notice, Store, StoreError, Subscription};

/// Events that are read from the log at once.
const PAGE: usize = 200;

/// One thing to send.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Event(Box<Event>),
    Live(LiveDelta),
    Session(Box<SessionView>),
    Gone(SessionId),
    /// Notices of other sessions were lost: the list has to be read again.
    Resync,
}

/// One session's events after a point, without gap or repetition.
pub(crate) struct SessionFeed {
    store: Store,
    session: SessionId,
    sent: Seq,
    subscription: Subscription,
    pending: VecDeque<Frame>,
    /// Whether the log has to be read before notices count.
    behind: bool,
    over: bool,
}

impl SessionFeed {
    /// Follows a session that exists.
    pub(crate) async fn open(store: &Store, session: SessionId, after: Seq) -> Result<Self, StoreError> {
        let subscription = store.subscribe(session);
        store.session(session).await?;
        Ok(Self {
            store: store.clone(),
            session,
            sent: after,
            subscription,
            pending: VecDeque::new(),
            behind: true,
            over: false,
        })
    }

    /// The next frame; `None` when the session is deleted or the store closed. Cancel-safe: what was
    /// taken from the subscription is kept in `pending` before anything else is awaited.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            if self.behind {
                self.read_log().await;
                continue;
            }
            match self.subscription.next().await {
                Ok(Some(Notice::Appended { events, .. })) => self.take(&events),
                Ok(Some(Notice::Live { delta, .. })) => self.pending.push_back(Frame::Live(delta)),
                Ok(Some(Notice::Deleted { session })) => {
                    self.pending.push_back(Frame::Gone(session));
                    self.over = true;
                }
                Ok(None) => self.behind = true,
                Err(_) => self.over = true,
            }
        }
    }

    async fn read_log(&mut self) {
        match self.store.events(self.session, self.sent, PAGE).await {
            Ok((events, head)) => {
                self.take(&events);
                self.behind = self.sent < head && !events.is_empty();
            }
            Err(StoreError::NoSession(session)) => {
                self.pending.push_back(Frame::Gone(session));
                self.over = true;
            }
            Err(error) => {
                tracing::error!(session = %self.session, error = &error as &dyn std::error::Error, "the log could not be read");
                self.over = true;
            }
        }
    }

    fn take(&mut self, events: &[Event]) {
        for event in events {
            if event.seq <= self.sent {
                continue;
            }
            if event.seq != self.sent + 1 {
                self.behind = true;
                return;
            }
            self.sent = event.seq;
            self.pending.push_back(Frame::Event(Box::new(event.clone())));
        }
    }

    /// Whether its session ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over && self.pending.is_empty()
    }
}

/// What a page follows: every session's view, and one session's events.
pub(crate) struct PageFeed {
    pub(crate) all: Subscription,
    pub(crate) session: Option<SessionFeed>,
}

impl PageFeed {
    /// The next frame; `None` when the store is closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        if self.session.as_ref().is_some_and(SessionFeed::is_over) {
            self.session = None;
        }
        tokio::select! {
            // Events before the view that follows from them.
            biased;
            Some(frame) = follow(self.session.as_mut()) => Some(frame),
            notice = self.all.next() => match notice {
                Ok(Some(Notice::Appended { view, .. })) => Some(Frame::Session(Box::new((*view).clone()))),
                Ok(Some(Notice::Deleted { session })) => Some(Frame::Gone(session)),
                Ok(Some(Notice::Live { .. }) | None) => Some(Frame::Resync),
                Err(_) => None,
            },
        }
    }
}

async fn follow(session: Option<&mut SessionFeed>) -> Option<Frame> {
    match session {
        Some(session) => session.next().await,
        None => std::future::pending().await,
    }
}
