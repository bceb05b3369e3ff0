//! The driver: one task per live session, sole owner of its state.
//!
//! ```text
//!            ┌──────────────────────── select, most urgent first ────────────────────────┐
//!  requests ─┤ prompt · stop · answer · archive · delete · shut down                      │
//!  wishes ───┤ the agent asks the person, or for prompts that came meanwhile              ├─▶ Machine ─▶ log
//!  job ──────┤ sandbox made · a step prepared · turn over                                 │
//!  sandbox ──┤ it died                                                                    │
//!  deadline ─┘ a transient state lasted too long                                          │
//!            └───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing in an arm waits for a sandbox or a model: that is done in the one [`Job`] at a time,
//! whose end is an input like any other.

mod deadline;
mod handle;
mod hibernate;
mod job;
mod prepare;
mod queue;
mod request;
mod rewind;

use std::sync::Arc;
use std::time::Duration;

use protocol::agent_port::Agent;
use protocol::event::{Answer, EventBody, Question};
use protocol::ids::{Epoch, SandboxId, Seq, SessionId};
use protocol::prompt::PromptQueue;
use protocol::sandbox_spec::Tier;
use protocol::status::{SandboxPhase, StopReason};
use protocol::view::SessionView;
use sandbox::guest_link::GuestLink;
use store::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::checkpoint::Tip;
use crate::machine::{Input, Machine, Wants};
use crate::port::Wish;
use crate::recover;
use crate::registry::Shared;

pub use handle::Handle;
pub(crate) use handle::{Look, Request};
use hibernate::Rests;
use job::Job;
use prepare::Preparing;
pub(crate) use rewind::find as checkpoint_at;

/// Requests that wait for one driver before callers wait too.
const REQUESTS: usize = 64;

/// A sandbox that answers.
#[derive(Clone)]
pub(crate) struct LiveSandbox {
    pub(crate) id: SandboxId,
    pub(crate) link: GuestLink,
    pub(crate) tier: Tier,
    /// Promised limits that do not hold here, a sentence each.
    pub(crate) unenforced: Vec<String>,
}

/// A question that waits for the person.
struct OpenQuestion {
    question: Question,
    answer: oneshot::Sender<Answer>,
    deadline: Instant,
}

/// What goes on after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Go,
    /// The session is deleted or the server stops.
    End,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    id: SessionId,
    epoch: Epoch,
    machine: Machine,
    /// The fixed facts of the session: base, branch, image, agent.
    facts: Arc<SessionView>,
    /// The newest commit that the session repository has of the workspace.
    tip: Tip,
    queue: PromptQueue,
    agent: Option<Box<dyn Agent>>,
    sandbox: Option<LiveSandbox>,
    job: Option<Job>,
    /// What the steps of a preparation hand on.
    preparing: Option<Preparing>,
    question: Option<OpenQuestion>,
    /// When the job's phase is over at the latest.
    deadline: Option<Instant>,
    /// What is left of that while the person is asked.
    left: Option<Duration>,
    /// Whether the sandbox has files that no checkpoint holds.
    unrecorded: bool,
    /// Why the sandbox went in the turn that runs.
    lost: Option<String>,
    /// When something was done last, and when it was last seen that the sandbox cannot go yet.
    rests: Rests,
    /// Take the sandbox down as soon as nothing runs; answered then.
    suspend: Option<Suspend>,
    requests: mpsc::Receiver<Request>,
    wishes: (mpsc::Sender<Wish>, mpsc::Receiver<Wish>),
}

/// Why the sandbox is to be taken down when the turn is over.
enum Suspend {
    /// The session was archived.
    Archived,
    /// The server stops; it waits for this.
    Shutdown(oneshot::Sender<()>),
}

impl Driver {
    /// Starts the driver of a session that exists. It claims the log, puts right what a crash left,
    /// re-attaches to a living sandbox, and then takes requests.
    pub(crate) fn start(shared: Arc<Shared>, id: SessionId) -> Handle {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let orphans = shared.orphans.clone();
        let driver = tokio::spawn(async move { Self::recover(shared, id, requests).await?.run().await });
        tokio::spawn(async move {
            match driver.await {
                // Deleted under us, or taken over: that is how a driver ends.
                Ok(Ok(()) | Err(StoreError::NoSession(_) | StoreError::Fenced { .. })) => {}
                // The log cannot be written: a full disk, for one. A new driver tries until it can.
                Ok(Err(error)) => {
                    tracing::error!(session = %id, %error, "the session's driver stopped; a new one takes over");
                    let _ = orphans.send(id);
                }
                Err(died) => {
                    tracing::error!(session = %id, %died, "the session's driver died; a new one takes over");
                    let _ = orphans.send(id);
                }
            }
        });
        Handle::new(id, sender)
    }

    async fn recover(
        shared: Arc<Shared>,
        id: SessionId,
        requests: mpsc::Receiver<Request>,
    ) -> Result<Self, StoreError> {
        let epoch = shared.store.claim(id).await?;
        let events = shared.store.all_events(id).await?;
        let found = recover::reconcile(&shared, id, epoch, &events).await?;
        let facts = shared.store.session(id).await?;
        let tip = facts.checkpoint.as_ref().map_or_else(|| facts.base.clone(), |point| point.commit.clone());
        let queue = PromptQueue::fold(&events);
        let machine = Machine {
            sandbox: facts.sandbox,
            turn: facts.turn,
            waiting_prompts: u32::try_from(queue.len()).unwrap_or(u32::MAX),
        };
        // What the dead server's turn wrote is in the living sandbox and in no checkpoint.
        let unrecorded = found.sandbox.is_some();
        let mut driver = Self {
            shared,
            id,
            epoch,
            machine,
            facts: Arc::new(facts),
            tip: Tip::new(tip),
            queue,
            agent: None,
            sandbox: found.sandbox,
            job: None,
            preparing: None,
            question: None,
            deadline: None,
            left: None,
            unrecorded,
            lost: None,
            rests: Rests::default(),
            suspend: None,
            requests,
            wishes: mpsc::channel(8),
        };
        match found.turn {
            // Its end records the files.
            Some(open) => driver.resume_turn(open),
            None => drop(driver.record_rest().await?),
        }
        Ok(driver)
    }

    async fn run(mut self) -> Result<(), StoreError> {
        let ended = self.work().await;
        if ended.is_err() {
            self.abandon().await;
        }
        ended
    }

    async fn work(&mut self) -> Result<(), StoreError> {
        loop {
            self.go_on().await?;
            let deadline = self.next_deadline();
            let wishes = &mut self.wishes.1;
            tokio::select! {
                // In this order: a stop must not wait behind the output of what it stops.
                biased;
                request = self.requests.recv() => match request {
                    Some(request) => if self.request(request).await? == Flow::End { return Ok(()) },
                    // Every handle is gone: the server is going down hard.
                    None => return Ok(()),
                },
                Some(wish) = wishes.recv() => match wish {
                    Wish::Ask(ask) => self.asked(ask).await?,
                    Wish::Prompts(reply) => self.hand_over(reply).await?,
                },
                done = job::done(&mut self.job) => if self.job_done(done).await? == Flow::End { return Ok(()) },
                reason = lost(self.sandbox.as_ref()) => self.sandbox_lost(reason).await?,
                () = deadline::passed(deadline) => self.deadline_passed().await?,
            }
        }
    }

    /// Another driver takes over, or none. It finds what is ready and works on; what was being made nobody would
    /// look for.
    async fn abandon(&mut self) {
        if matches!(self.job, Some(Job::Sandbox { .. } | Job::Prepare { .. })) {
            self.abort_job().await;
        }
    }

    /// Starts what the machine wants, when nothing runs.
    async fn go_on(&mut self) -> Result<(), StoreError> {
        if self.job.is_some() || self.suspend.is_some() {
            return Ok(());
        }
        match self.machine.wants() {
            Wants::Nothing => Ok(()),
            Wants::Provision => self.start_sandbox().await,
            Wants::StartTurn => self.start_turn().await,
        }
    }

    /// Moves the machine and records where it is now, after the given events.
    async fn advance(
        &mut self,
        input: Input,
        mut before: Vec<EventBody>,
        reason: Option<String>,
    ) -> Result<Seq, StoreError> {
        match self.machine.next(input) {
            Ok(next) => self.machine = next,
            Err(illegal) => {
                // A bug of ours; the log stays right because the state did not change.
                tracing::error!(session = %self.id, %illegal, "a move that the machine does not know");
            }
        }
        before.push(EventBody::SessionStatus(self.machine.change(reason)));
        self.append(before).await
    }

    async fn append(&mut self, bodies: Vec<EventBody>) -> Result<Seq, StoreError> {
        let turn = self.job.as_ref().and_then(Job::turn);
        self.shared.store.append(self.id, self.epoch, turn, None, bodies).await
    }

    async fn sandbox_lost(&mut self, reason: String) -> Result<(), StoreError> {
        if self.job.is_none() && self.machine.sandbox == SandboxPhase::Failed {
            self.drop_failed_sandbox();
            return Ok(());
        }
        if matches!(self.job, Some(Job::Prepare { .. })) {
            return self.step_failed(format!("the sandbox is gone: {reason}")).await;
        }
        let Some(gone) = self.sandbox.take() else { return Ok(()) };
        tracing::warn!(session = %self.id, sandbox = %gone.id, reason, "the sandbox is gone");
        self.agent = None;
        self.unrecorded = false;
        let told = format!(
            "the sandbox is gone ({reason}); the next prompt starts a new one from the last checkpoint"
        );
        self.advance(Input::Lost, Vec::new(), Some(told.clone())).await?;
        // Not before: whoever took the session over ends our link, and works in this sandbox.
        self.shared.reap(gone.id);
        if matches!(self.job, Some(Job::Turn { .. })) {
            self.lost = Some(told);
            // Without hands the agent can only go round in circles.
            self.stop(StopReason::Sandbox).await?;
        }
        Ok(())
    }
}

/// Ends with the reason when the sandbox dies; never without one.
async fn lost(sandbox: Option<&LiveSandbox>) -> String {
    match sandbox {
        Some(sandbox) => sandbox.link.closed().await,
        None => std::future::pending().await,
    }
}
