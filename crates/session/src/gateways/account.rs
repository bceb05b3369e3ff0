//! What happens at the gateways, in the logs of their sessions.
//!
//! ```text
//!   answer counted, push ended ─▶ Note ─▶ record ─▶ the session's driver ─▶ an event in the log ─▶ done
//! ```
//!
//! Only the driver of a session writes its log.

use async_trait::async_trait;
use model_gateway::front::Account;
use protocol::event::EventBody;
use protocol::ids::SessionId;
use protocol::usage::Usage;
use store::Store;
use tokio::sync::{mpsc, oneshot};

use crate::registry::Sessions;

/// Tries to record something while the driver of a session is replaced.
const TRIES: usize = 3;

/// Something for the log of a session.
pub(crate) struct Note {
    session: SessionId,
    body: EventBody,
    done: oneshot::Sender<Result<(), String>>,
}

/// Has something written into the log of a session; it is there when this returns.
pub(super) async fn note(
    notes: &mpsc::UnboundedSender<Note>,
    session: SessionId,
    body: EventBody,
) -> Result<(), String> {
    let (done, written) = oneshot::channel();
    let gone = || "the server stops".to_owned();
    notes.send(Note { session, body, done }).map_err(|_| gone())?;
    written.await.unwrap_or_else(|_| Err(gone()))
}

/// The account of a session.
pub(super) struct SessionAccount {
    pub(super) session: SessionId,
    pub(super) store: Store,
    pub(super) notes: mpsc::UnboundedSender<Note>,
}

#[async_trait]
impl Account for SessionAccount {
    async fn used(&self) -> Result<u64, String> {
        let view = self.store.session(self.session).await.map_err(|error| error.to_string())?;
        let Usage {
            input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens, ..
        } = view.usage;
        let kinds = [input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens];
        Ok(kinds.into_iter().fold(0, u64::saturating_add))
    }

    async fn record(&self, model: String, usage: Usage) -> Result<(), String> {
        note(&self.notes, self.session, EventBody::Usage { model, usage }).await
    }
}

/// Writes down what is noted, until the sessions are gone.
pub(crate) async fn record(
    mut notes: mpsc::UnboundedReceiver<Note>,
    sessions: impl Fn() -> Option<Sessions>,
) {
    while let Some(Note { session, body, done }) = notes.recv().await {
        let Some(sessions) = sessions() else { return };
        // One session's driver does not keep another one's waiting.
        tokio::spawn(async move {
            let _ = done.send(write(&sessions, session, body).await);
        });
    }
}

async fn write(sessions: &Sessions, session: SessionId, body: EventBody) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        let written = match sessions.handle(session).await {
            Ok(handle) => handle.note(body.clone()).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}
