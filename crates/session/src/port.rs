//! The session's side of [`AgentPort`].

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use protocol::agent_port::{AgentPort, PortError};
use protocol::event::{Answer, BlobRef, EventBody, LiveDelta, NetworkDenied, QuestionOption};
use protocol::ids::{Epoch, PromptId, Seq, SessionId, TurnId};
use store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::networks::Networks;
use crate::recorder::Batches;
use crate::registry::Shared;

/// A question on its way to the driver.
pub(crate) struct Ask {
    pub(crate) text: String,
    pub(crate) options: Vec<QuestionOption>,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What an agent asks of the driver, which alone may give it.
pub(crate) enum Wish {
    /// An answer of the person.
    Ask(Ask),
    /// The prompts that wait for the turn's next request.
    Prompts(oneshot::Sender<Vec<(PromptId, String)>>),
}

/// What one turn of an agent writes through.
pub(crate) struct SessionPort {
    store: Store,
    session: SessionId,
    epoch: Epoch,
    turn: TurnId,
    cause: Seq,
    wishes: mpsc::Sender<Wish>,
    networks: Arc<Networks>,
    batches: Batches,
}

impl SessionPort {
    /// `cause` is the turn's `turn.started`.
    pub(crate) fn new(
        shared: &Shared,
        session: SessionId,
        epoch: Epoch,
        turn: TurnId,
        cause: Seq,
        wishes: mpsc::Sender<Wish>,
    ) -> Self {
        let (store, networks) = (shared.store.clone(), Arc::clone(&shared.networks));
        Self { store, session, epoch, turn, cause, wishes, networks, batches: Batches::new() }
    }

    /// Where the calls of the turn are.
    pub(crate) fn batches(&self) -> &Batches {
        &self.batches
    }
}

#[async_trait]
impl AgentPort for SessionPort {
    async fn append(&self, bodies: Vec<EventBody>) -> Result<Seq, PortError> {
        self.batches.settled(&bodies).await;
        let (turn, cause) = (Some(self.turn), Some(self.cause));
        let written = self.store.append(self.session, self.epoch, turn, cause, bodies.clone()).await;
        let seq = written.map_err(port_error)?;
        self.batches.note(&bodies);
        Ok(seq)
    }

    fn live(&self, delta: LiveDelta) {
        self.store.live(self.session, delta);
    }

    async fn put_blob(&self, bytes: Vec<u8>, truncated: bool) -> Result<BlobRef, PortError> {
        self.store.put_blob(self.session, bytes, truncated).await.map_err(port_error)
    }

    async fn ask(&self, text: String, options: Vec<QuestionOption>) -> Result<Answer, PortError> {
        let (answer, answered) = oneshot::channel();
        let ask = Wish::Ask(Ask { text, options, answer });
        self.wishes.send(ask).await.map_err(|_| PortError::Closed)?;
        answered.await.map_err(|_| PortError::Closed)
    }

    async fn take_prompts(&self) -> Result<Vec<(PromptId, String)>, PortError> {
        let (reply, taken) = oneshot::channel();
        self.wishes.send(Wish::Prompts(reply)).await.map_err(|_| PortError::Closed)?;
        // Without an answer there is nothing to take: the turn is about to end.
        Ok(taken.await.unwrap_or_default())
    }

    fn refused_since(&self, since: Instant) -> Vec<NetworkDenied> {
        self.networks.refused_since(self.session, since)
    }
}

fn port_error(error: StoreError) -> PortError {
    match error {
        StoreError::Fenced { .. } | StoreError::NoSession(_) | StoreError::Closed => PortError::Closed,
        other => PortError::Store(other.to_string()),
    }
}
