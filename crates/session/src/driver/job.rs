//! The one job at a time: make a sandbox, prepare it, run a turn.

use std::sync::Arc;

use protocol::agent_port::TurnInput;
use protocol::event::{EventBody, Step};
use protocol::ids::{SandboxId, Seq, TurnId};
use protocol::prompt::QueuedPrompt;
use protocol::status::{StopReason, TurnStatus};
use store::StoreError;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::prepare::Prepared;
use super::{Driver, Flow, LiveSandbox};
use crate::machine::Input;
use crate::port::SessionPort;
use crate::provision::plan::Plan;
use crate::recover::OpenTurn;
use crate::turn::{self, TurnDone};

pub(super) enum Job {
    Sandbox {
        sandbox: SandboxId,
        started: Instant,
        task: AbortOnDropHandle<Result<(LiveSandbox, Arc<Plan>), String>>,
    },
    /// A part of the preparation in a sandbox; the last one has no step where there are no hooks.
    Prepare {
        step: Option<Step>,
        started: Instant,
        /// Sandboxes that go when it is given up, besides the driver's.
        sandboxes: Vec<SandboxId>,
        task: AbortOnDropHandle<Result<Prepared, String>>,
    },
    Turn {
        turn: TurnId,
        started: Instant,
        stop: CancellationToken,
        stopped: Option<StopReason>,
        task: AbortOnDropHandle<TurnDone>,
    },
}

/// How a job ended; the outer error is a task that died.
pub(super) enum Done {
    Sandbox(Result<Result<(LiveSandbox, Arc<Plan>), String>, JoinError>),
    Prepare(Result<Result<Prepared, String>, JoinError>),
    Turn(Result<TurnDone, JoinError>),
}

/// Ends with the job; never without one.
pub(super) async fn done(job: &mut Option<Job>) -> Done {
    match job {
        Some(Job::Sandbox { task, .. }) => Done::Sandbox(task.await),
        Some(Job::Prepare { task, .. }) => Done::Prepare(task.await),
        Some(Job::Turn { task, .. }) => Done::Turn(task.await),
        None => std::future::pending().await,
    }
}

impl Job {
    pub(super) fn turn(&self) -> Option<TurnId> {
        match self {
            Self::Turn { turn, .. } => Some(*turn),
            Self::Sandbox { .. } | Self::Prepare { .. } => None,
        }
    }

    pub(super) fn step(&self) -> Option<(Step, Instant)> {
        match self {
            Self::Sandbox { started, .. } => Some((Step::Sandbox, *started)),
            Self::Prepare { step, started, .. } => Some(((*step)?, *started)),
            Self::Turn { .. } => None,
        }
    }
}

impl Driver {
    pub(super) async fn start_turn(&mut self) -> Result<(), StoreError> {
        let (Some(first), Some(sandbox)) = (self.queue.first().cloned(), self.sandbox.clone()) else {
            return Ok(());
        };
        let QueuedPrompt { prompt, text, .. } = first;
        self.queue.apply(&EventBody::TurnStarted { prompt });
        let turn = TurnId::from(Ulid::generate());
        self.machine = self.machine.next(Input::Start).unwrap_or(self.machine);
        let bodies =
            vec![EventBody::TurnStarted { prompt }, EventBody::SessionStatus(self.machine.change(None))];
        let seq = self.shared.store.append(self.id, self.epoch, Some(turn), None, bodies).await?;
        self.run_turn(sandbox, TurnInput { turn, prompt, text, resumed: false }, seq - 1, Instant::now());
        Ok(())
    }

    /// Goes on with a turn that began under a server that died.
    pub(super) fn resume_turn(&mut self, open: OpenTurn) {
        let Some(sandbox) = self.sandbox.clone() else { return };
        let OpenTurn { turn, prompt, text, seq, at } = open;
        let before = self.shared.store.clock().now().duration_since(at).unsigned_abs();
        let started = Instant::now().checked_sub(before).unwrap_or_else(Instant::now);
        self.run_turn(sandbox, TurnInput { turn, prompt, text, resumed: true }, seq, started);
    }

    fn run_turn(&mut self, sandbox: LiveSandbox, input: TurnInput, cause: Seq, started: Instant) {
        let (turn, stop) = (input.turn, CancellationToken::new());
        let port = SessionPort::new(&self.shared, self.id, self.epoch, turn, cause, self.wishes.0.clone());
        let context = self.turn_context(sandbox);
        let (agent, token) = (self.agent.take(), stop.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            turn::run(context, agent, input, port, token).await
        }));
        self.job = Some(Job::Turn { turn, started, stop, stopped: None, task });
        self.deadline = Some(Instant::now() + self.shared.config.deadlines.turn);
    }

    fn turn_context(&self, sandbox: LiveSandbox) -> turn::Context {
        turn::Context {
            shared: Arc::clone(&self.shared),
            facts: Arc::clone(&self.facts),
            epoch: self.epoch,
            sandbox,
            tip: self.tip.clone(),
        }
    }

    pub(super) async fn job_done(&mut self, done: Done) -> Result<Flow, StoreError> {
        self.rests.end();
        match done {
            Done::Sandbox(Ok(Ok((sandbox, plan)))) => self.sandbox_made(sandbox, plan).await?,
            Done::Prepare(Ok(Ok(prepared))) => self.prepared(prepared).await?,
            Done::Sandbox(Ok(Err(reason))) | Done::Prepare(Ok(Err(reason))) => {
                self.step_failed(reason).await?
            }
            Done::Sandbox(Err(error)) | Done::Prepare(Err(error)) => {
                self.step_failed(error.to_string()).await?
            }
            Done::Turn(Ok(done)) => self.turn_done(done).await?,
            Done::Turn(Err(error)) => self.turn_died(&error).await?,
        }
        self.suspend_when_idle().await
    }

    pub(super) fn step_finished(&self, error: Option<String>, detail: Option<String>) -> EventBody {
        let (step, started) =
            self.job.as_ref().and_then(Job::step).unwrap_or((Step::Workspace, Instant::now()));
        EventBody::StepFinished { step, duration_ms: millis(started), error, detail }
    }

    async fn turn_done(&mut self, done: TurnDone) -> Result<(), StoreError> {
        self.agent = done.agent.filter(|_| self.sandbox.is_some());
        self.unrecorded = !done.recorded && self.sandbox.is_some();
        // An agent whose words the log did not take could not close its calls, and knows less than the log now.
        if done.end.status != TurnStatus::Completed && self.close_open_calls().await? {
            self.agent = None;
        }
        let Some(Job::Turn { started, stopped, .. }) = &self.job else { return Ok(()) };
        let mut end = done.end;
        if let Some(reason) = *stopped
            && end.status == TurnStatus::Interrupted
        {
            end.stop_reason = reason;
            match reason {
                StopReason::Deadline => end.status = TurnStatus::Limit,
                StopReason::Sandbox => {
                    end.status = TurnStatus::Failed;
                    end.message = Some("The sandbox died in this turn. Send the prompt again.".into());
                }
                _ => {}
            }
        }
        let ended = turn::ended(end.status, end.stop_reason, end.message, millis(*started));
        let turn = self.job.as_ref().and_then(Job::turn);
        self.machine = self.machine.next(Input::End).unwrap_or(self.machine);
        // Why there is no sandbox any more goes on to be said.
        let status = EventBody::SessionStatus(self.machine.change(self.lost.take()));
        let bodies = vec![EventBody::TurnEnded(ended), status];
        self.shared.store.append(self.id, self.epoch, turn, None, bodies).await?;
        (self.job, self.deadline, self.question) = (None, None, None);
        Ok(())
    }

    /// The turn's task died of a bug: told, and everything that it left open is closed.
    async fn turn_died(&mut self, error: &JoinError) -> Result<(), StoreError> {
        if !error.is_cancelled() {
            tracing::error!(session = %self.id, %error, "a turn's task died");
        }
        let message = "patchyard itself failed in this turn; its log says why. Send the prompt again.";
        let end = protocol::agent_port::TurnEnd::failed(StopReason::Agent, message);
        self.turn_done(TurnDone { agent: None, end, recorded: false }).await
    }

    /// The turn did not stop in time: its task ends here, everything in the sandbox is killed, and a
    /// job of the same turn records what is there.
    pub(super) async fn kill_turn(&mut self) -> Result<(), StoreError> {
        let Some(Job::Turn { task, .. }) = &mut self.job else { return Ok(()) };
        task.abort();
        let _ = (&mut *task).await;
        self.close_open_calls().await?;
        let Some(sandbox) = self.sandbox.clone() else {
            let end = protocol::agent_port::TurnEnd::interrupted();
            return self.turn_done(TurnDone { agent: None, end, recorded: false }).await;
        };
        let context = self.turn_context(sandbox);
        if let Some(Job::Turn { task, turn, .. }) = &mut self.job {
            let turn = *turn;
            *task =
                AbortOnDropHandle::new(tokio::spawn(async move { turn::after_kill(context, turn).await }));
        }
        Ok(())
    }

    /// Gives results to calls that have none; whether there were any.
    async fn close_open_calls(&mut self) -> Result<bool, StoreError> {
        let kinds = ["tool.call", "tool.result"];
        let events = self.shared.store.events_of_kinds(self.id, &kinds).await?;
        let results = crate::recover::results_for_open_calls(&events, "interrupted");
        let were_open = !results.is_empty();
        if were_open {
            self.append(results).await?;
        }
        Ok(were_open)
    }

    /// Ends a preparation, if one runs, and takes down what it made so far.
    pub(super) async fn abort_job(&mut self) -> bool {
        let Some(job) = self.job.take() else { return false };
        self.deadline = None;
        let made = match job {
            Job::Sandbox { sandbox, task, .. } => {
                end(task).await;
                vec![sandbox]
            }
            Job::Prepare { task, mut sandboxes, .. } => {
                end(task).await;
                sandboxes.extend(self.sandbox.take().map(|sandbox| sandbox.id));
                sandboxes
            }
            Job::Turn { task, .. } => {
                end(task).await;
                Vec::new()
            }
        };
        futures::future::join_all(made.into_iter().map(|sandbox| self.shared.destroy(sandbox))).await;
        true
    }
}

/// Ends a task and waits for its end. One that is over may have been asked for its outcome before,
/// and must not be asked again.
async fn end<T>(task: AbortOnDropHandle<T>) {
    if !task.is_finished() {
        task.abort();
        let _ = task.await;
    }
}

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
