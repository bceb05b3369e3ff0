//! What people ask of a session.

use protocol::event::{Answer, EventBody};
use protocol::hands::HandsError;
use protocol::ids::QuestionId;
use protocol::status::{SandboxPhase, StopReason, TurnPhase};
use store::StoreError;
use tokio::time::Instant;
use ulid::Ulid;

use super::handle::Look;
use super::job::Job;
use super::{Driver, Flow, OpenQuestion, Request, Suspend};
use crate::deletion::{self, Remains};
use crate::error::SessionError;
use crate::machine::Input;
use crate::port::Ask;
use crate::provision;

impl Driver {
    pub(super) async fn request(&mut self, request: Request) -> Result<Flow, StoreError> {
        self.rests.end();
        match request {
            Request::Prompt { text, delivery, key, reply } => {
                let result = self.prompt(text, delivery, key).await;
                let _ = reply.send(result.map_err(SessionError::from));
            }
            Request::Queue { reply } => {
                let _ = reply.send(Ok(self.queue.iter().cloned().collect()));
            }
            Request::EditPrompt { prompt, text, delivery, reply } => {
                let result = self.edit_prompt(prompt, text, delivery).await?;
                let _ = reply.send(result);
            }
            Request::CancelPrompt { prompt, reply } => {
                let result = self.cancel_prompt(prompt).await?;
                let _ = reply.send(result);
            }
            Request::Stop { reply } => {
                let result = if self.is_busy() { Ok(()) } else { Err(SessionError::NothingRuns(self.id)) };
                if result.is_ok() {
                    self.stop(StopReason::UserStop).await?;
                }
                let _ = reply.send(result);
            }
            Request::Retry { reply } => {
                let failed = self.machine.sandbox == SandboxPhase::Failed && self.job.is_none();
                let result = match failed && self.machine.turn == TurnPhase::Queued {
                    true => Ok(self.start_sandbox().await?),
                    false => Err(SessionError::NothingFailed(self.id)),
                };
                let _ = reply.send(result);
            }
            Request::Answer { question, answer, reply } => {
                let result = self.check_answer(question, &answer);
                if result.is_ok() {
                    self.answered(answer).await?;
                }
                let _ = reply.send(result);
            }
            Request::Archive { archived, reply } => {
                let result = self.archive(archived).await?;
                let _ = reply.send(result);
            }
            Request::Rewind { wanted, reply } => {
                let result = self.rewind(wanted).await?;
                let _ = reply.send(result);
            }
            Request::Look { reply } => {
                let _ = reply.send(self.look().await);
            }
            Request::Note { bodies, reply } => {
                bodies.iter().for_each(|body| self.rests.note(body));
                self.append(bodies).await?;
                let _ = reply.send(Ok(()));
            }
            Request::Delete { reply } => {
                let _ = reply.send(self.delete().await);
                // Also after a failure: what is left is put right by a new driver, or by the next start.
                return Ok(Flow::End);
            }
            Request::Shutdown { done } => {
                self.suspend = Some(Suspend::Shutdown(done));
                if matches!(self.job, Some(Job::Turn { .. })) {
                    self.stop(StopReason::ServerRestart).await?;
                } else {
                    // What is half made is made again at the next start.
                    self.abort_job().await;
                }
                return self.suspend_when_idle().await;
            }
        }
        Ok(Flow::Go)
    }

    async fn look(&mut self) -> Result<Look, SessionError> {
        let environment = provision::session_variables(&self.shared, &self.facts).await;
        let environment = environment.map_err(HandsError::Limit)?;
        let sandbox = self.sandbox.as_ref().ok_or(SessionError::NoSandbox(self.id))?;
        // What a person changes there is in no checkpoint yet.
        self.unrecorded = true;
        Ok(Look {
            link: sandbox.link.clone(),
            workspace: provision::workspace_path(&self.facts),
            environment,
        })
    }

    fn is_busy(&self) -> bool {
        self.job.is_some() || self.machine.turn != TurnPhase::Idle
    }

    /// Begins to stop what runs. The turn ends by itself, at the latest at its deadline; a
    /// preparation ends at once, and the prompts that waited for it are given up, each with a turn
    /// that says so.
    pub(super) async fn stop(&mut self, reason: StopReason) -> Result<(), StoreError> {
        if let Some(Job::Turn { stop, stopped, .. }) = &mut self.job {
            if stopped.is_some() {
                return Ok(());
            }
            *stopped = Some(reason);
            stop.cancel();
            self.append(vec![EventBody::TurnInterrupted { reason }]).await?;
            if self.question.is_some() {
                self.answer_by_default().await?;
            }
            self.deadline = Some(Instant::now() + self.shared.config.deadlines.stop);
            return Ok(());
        }
        let step = self.job.as_ref().and_then(Job::step);
        let stopped = step.map(|_| self.step_finished(Some("it was stopped".into()), None));
        if self.abort_job().await {
            self.advance(Input::Cancelled, stopped.into_iter().collect(), None).await?;
        }
        self.drop_waiting(reason).await
    }

    pub(super) async fn asked(&mut self, ask: Ask) -> Result<(), StoreError> {
        let question = protocol::event::Question {
            question: QuestionId::from(Ulid::generate()),
            text: ask.text,
            options: ask.options,
        };
        self.advance(Input::Ask, vec![EventBody::QuestionAsked(question.clone())], None).await?;
        let now = Instant::now();
        self.left = self.deadline.take().map(|deadline| deadline.saturating_duration_since(now));
        let deadline = now + self.shared.config.deadlines.question;
        self.question = Some(OpenQuestion { question, answer: ask.answer, deadline });
        if matches!(self.job, Some(Job::Turn { stopped: Some(_), .. })) {
            // The turn was told to stop: it must not wait for a person now.
            self.answer_by_default().await?;
        }
        Ok(())
    }

    fn check_answer(&self, id: QuestionId, answer: &Answer) -> Result<(), SessionError> {
        let open = self.question.as_ref().filter(|open| open.question.question == id);
        let Some(open) = open else { return Err(SessionError::NotAsked(id)) };
        if open.question.options.iter().any(|option| option.id == answer.option) {
            return Ok(());
        }
        let options: Vec<_> = open.question.options.iter().map(|option| option.id.as_str()).collect();
        Err(SessionError::NoSuchOption { given: answer.option.clone(), options: options.join(", ") })
    }

    pub(super) async fn answered(&mut self, answer: Answer) -> Result<(), StoreError> {
        let Some(open) = self.question.take() else { return Ok(()) };
        self.deadline = self.left.take().map(|left| Instant::now() + left);
        let event = EventBody::QuestionAnswered { question: open.question.question, answer: answer.clone() };
        self.advance(Input::Answer, vec![event], None).await?;
        // The agent may be gone by now; the answer stands in the log.
        let _ = open.answer.send(answer);
        Ok(())
    }

    /// The first option stands: it is the safe one.
    pub(super) async fn answer_by_default(&mut self) -> Result<(), StoreError> {
        let first = self.question.as_ref().and_then(|open| open.question.options.first());
        let option = first.map(|option| option.id.clone()).unwrap_or_default();
        self.answered(Answer { option, by_deadline: true }).await
    }

    async fn archive(&mut self, archived: bool) -> Result<Result<(), SessionError>, StoreError> {
        if archived && self.job.is_none() && !self.record_rest().await? {
            return Ok(Err(SessionError::Unrecorded(self.id)));
        }
        self.append(vec![EventBody::SessionArchived { archived }]).await?;
        if archived {
            self.suspend = Some(Suspend::Archived);
            if self.is_busy() {
                self.stop(StopReason::UserStop).await?;
            }
            self.suspend_when_idle().await?;
        }
        Ok(Ok(()))
    }

    /// Tries once more to record what no checkpoint holds, before the sandbox goes. False when it
    /// could not be recorded: the sandbox then has the only copy.
    pub(super) async fn record_rest(&mut self) -> Result<bool, StoreError> {
        let (true, Some(sandbox)) = (self.unrecorded, self.sandbox.clone()) else { return Ok(true) };
        let before = self.tip.get();
        let (taken, bodies) =
            crate::turn::record(&self.shared, &self.facts, &sandbox, &before, &self.facts.title).await;
        if taken.as_ref() != Some(&before) {
            self.append(bodies).await?;
        }
        if let Some(tip) = taken {
            self.tip.set(tip);
            self.unrecorded = false;
        }
        Ok(!self.unrecorded)
    }

    /// Takes the sandbox down when nothing runs, if somebody wanted that.
    pub(super) async fn suspend_when_idle(&mut self) -> Result<Flow, StoreError> {
        if self.job.is_some() {
            return Ok(Flow::Go);
        }
        let Some(suspend) = self.suspend.take() else { return Ok(Flow::Go) };
        if matches!(suspend, Suspend::Archived) {
            self.drop_waiting(StopReason::UserStop).await?;
        }
        self.agent = None;
        let recorded = self.record_rest().await?;
        if recorded && let Some(sandbox) = self.sandbox.take() {
            self.shared.destroy(sandbox.id).await;
            // A failed preparation stays one over a restart: the person decides when to try again.
            if self.machine.sandbox != SandboxPhase::Failed || matches!(suspend, Suspend::Archived) {
                self.advance(Input::Suspend, Vec::new(), None).await?;
            }
        }
        match suspend {
            Suspend::Archived => Ok(Flow::Go),
            Suspend::Shutdown(done) => {
                let _ = done.send(());
                Ok(Flow::End)
            }
        }
    }

    async fn delete(&mut self) -> Result<(), SessionError> {
        // First of all: from here on nobody sees it, and nothing that still runs can write to it.
        match self.shared.store.delete_session(self.id).await {
            Ok(()) | Err(StoreError::NoSession(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.abort_job().await;
        let sandbox = self.sandbox.take().map(|sandbox| sandbox.id);
        let layers = self.facts.saved.as_ref().map(|saved| saved.layers.clone()).unwrap_or_default();
        deletion::clear(&self.shared, Remains { session: self.id, sandbox, layers }).await;
        Ok(())
    }
}
