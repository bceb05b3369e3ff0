//! The prompts that wait: accepted, changed, handed over, given up.
//!
//! The driver is the only one that takes from the queue and the only one that changes it, so a prompt
//! is either taken or changed, never both.

use failpoint::{Rule, is_broken};
use protocol::event::EventBody;
use protocol::ids::{PromptId, Seq};
use protocol::prompt::{Delivery, QueuedPrompt};
use protocol::status::{SessionStatus, StopReason, TurnStatus};
use store::{Accepted, IdempotencyKey, StoreError};
use tokio::sync::oneshot;
use ulid::Ulid;

use super::Driver;
use super::job::Job;
use crate::error::SessionError;
use crate::machine::Input;

impl Driver {
    pub(super) async fn prompt(
        &mut self,
        text: String,
        delivery: Delivery,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted<(PromptId, Seq)>, StoreError> {
        let prompt = Ulid::generate().into();
        let queued = QueuedPrompt { prompt, text: text.clone(), delivery };
        let accepted = self.shared.store.queue_prompt(self.id, self.epoch, queued, key).await?;
        if accepted.repeated {
            return Ok(accepted);
        }
        self.queue.apply(&EventBody::PromptQueued { prompt, text, delivery });
        let was_failed = self.machine.status() == SessionStatus::Failed;
        self.advance(Input::Prompt, Vec::new(), None).await?;
        if was_failed && self.job.is_none() {
            // A new prompt is the person's word to try again.
            self.start_sandbox().await?;
        }
        self.make_way(delivery).await?;
        Ok(accepted)
    }

    /// Interrupts the turn for a prompt that cannot wait.
    async fn make_way(&mut self, delivery: Delivery) -> Result<(), StoreError> {
        match (&self.job, delivery) {
            (Some(Job::Turn { .. }), Delivery::Now) => self.stop(StopReason::UserStop).await,
            _ => Ok(()),
        }
    }

    /// Changes a prompt that waits.
    pub(super) async fn edit_prompt(
        &mut self,
        prompt: PromptId,
        text: Option<String>,
        delivery: Option<Delivery>,
    ) -> Result<Result<QueuedPrompt, SessionError>, StoreError> {
        let Some(old) = self.queue.get(prompt) else { return Ok(Err(SessionError::PromptTaken(prompt))) };
        let text = text.unwrap_or_else(|| old.text.clone());
        let delivery = delivery.unwrap_or(old.delivery);
        let edited = EventBody::PromptEdited { prompt, text: text.clone(), delivery };
        self.append(vec![edited.clone()]).await?;
        self.queue.apply(&edited);
        self.make_way(delivery).await?;
        Ok(Ok(QueuedPrompt { prompt, text, delivery }))
    }

    /// Takes a prompt back that waits.
    pub(super) async fn cancel_prompt(
        &mut self,
        prompt: PromptId,
    ) -> Result<Result<(), SessionError>, StoreError> {
        if self.queue.get(prompt).is_none() {
            return Ok(Err(SessionError::PromptTaken(prompt)));
        }
        let cancelled = EventBody::PromptCancelled { prompt };
        self.queue.apply(&cancelled);
        self.advance(Input::Drop, vec![cancelled], None).await?;
        Ok(Ok(()))
    }

    /// Hands the prompts over that wait for the turn's next request. None once the turn was told to stop:
    /// they begin the turn after it.
    pub(super) async fn hand_over(
        &mut self,
        reply: oneshot::Sender<Vec<(PromptId, String)>>,
    ) -> Result<(), StoreError> {
        if !matches!(self.job, Some(Job::Turn { stopped: None, .. })) || reply.is_closed() {
            return Ok(());
        }
        let next = self.queue.iter().filter(|waiting| waiting.delivery == Delivery::Next);
        let taken: Vec<_> = next.map(|waiting| (waiting.prompt, waiting.text.clone())).collect();
        let mut bodies = Vec::new();
        for (prompt, _) in &taken {
            bodies.push(EventBody::PromptDelivered { prompt: *prompt });
            self.machine = self.machine.next(Input::Drop).unwrap_or(self.machine);
        }
        if !bodies.is_empty() {
            bodies.iter().for_each(|body| self.queue.apply(body));
            if is_broken(Rule::QueueTake) {
                let _ = reply.send(taken);
                return self.append(bodies).await.map(drop);
            }
            self.append(bodies).await?;
        }
        // An agent that went away meanwhile is made anew from the log, which has them.
        let _ = reply.send(taken);
        Ok(())
    }

    /// Gives up the prompts that wait, each with a turn that says so.
    pub(super) async fn drop_waiting(&mut self, reason: StopReason) -> Result<(), StoreError> {
        while let Some(prompt) = self.queue.first().map(|waiting| waiting.prompt) {
            let turn = Some(Ulid::generate().into());
            let ended = crate::turn::ended(TurnStatus::Interrupted, reason, None, 0);
            let bodies = vec![EventBody::TurnStarted { prompt }, EventBody::TurnEnded(ended)];
            bodies.iter().for_each(|body| self.queue.apply(body));
            self.shared.store.append(self.id, self.epoch, turn, None, bodies).await?;
            self.advance(Input::Drop, Vec::new(), None).await?;
        }
        Ok(())
    }
}
