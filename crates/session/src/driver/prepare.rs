//! The preparation of a sandbox as jobs, one after the other.
//!
//! ```text
//!  Sandbox ─▶ Workspace ─▶ Setup ─▶ Cache ─▶ Hooks ─▶ MCP servers ─▶ ready
//!    ▲            │ spoilt            │ lost
//!    └── anew ◀───┴───────────────────┘
//! ```
//!
//! A part that has nothing to do is left out and not logged. The sandbox of a failed setup stays for a
//! while, so that a person can look.

use std::sync::Arc;
use std::time::Duration;

use protocol::event::{EventBody, Step};
use protocol::ids::SandboxId;
use protocol::status::SandboxPhase;
use store::StoreError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::job::Job;
use super::{Driver, LiveSandbox};
use crate::environments::caches::SLOW_CLONE;
use crate::environments::rebuild;
use crate::machine::Input;
use crate::project::Project;
use crate::provision;
use crate::provision::hooks::Source;
use crate::provision::plan::Plan;
use crate::provision::steps::{self, Bench, Kept, Ready, SetupDone, Workspace};
use crate::provision::workspace::State;
use crate::warm;

/// What one step hands on to the next.
pub(super) struct Preparing {
    plan: Arc<Plan>,
    project: Project,
    source: Source,
    /// What git said before the setup script.
    before: Option<State>,
    /// Clone and setup so far.
    took: Duration,
}

/// What a step made.
pub(super) enum Prepared {
    Workspace(Workspace),
    Setup(SetupDone),
    Kept(Kept),
    Ready(Ready),
    Connected(Ready),
}

impl Driver {
    pub(super) async fn start_sandbox(&mut self) -> Result<(), StoreError> {
        self.drop_failed_sandbox();
        self.advance(Input::Provision, vec![EventBody::StepStarted { step: Step::Sandbox }], None).await?;
        self.make_sandbox(false);
        Ok(())
    }

    /// Builds everything anew, without what was kept and without keeping anything.
    async fn start_anew(&mut self) -> Result<(), StoreError> {
        if let Some(sandbox) = self.sandbox.take() {
            self.shared.reap(sandbox.id);
        }
        self.append(vec![EventBody::StepStarted { step: Step::Sandbox }]).await?;
        self.make_sandbox(true);
        Ok(())
    }

    fn make_sandbox(&mut self, fresh: bool) {
        self.preparing = None;
        let sandbox = SandboxId::from(Ulid::generate());
        let (shared, facts, tip) = (Arc::clone(&self.shared), Arc::clone(&self.facts), self.tip.get());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            provision::sandbox(&shared, &facts, &tip, sandbox, fresh).await
        }));
        self.job = Some(Job::Sandbox { sandbox, started: Instant::now(), task });
        // Its parts have times of their own; this is for what none of them foresees.
        let config = &self.shared.config;
        let limit = 5 * config.deadlines.sandbox + 2 * (provision::modules::LIMIT + config.lfs.time);
        self.deadline = Some(Instant::now() + limit);
    }

    /// The sandbox runs: on with the workspace.
    pub(super) async fn sandbox_made(
        &mut self,
        live: LiveSandbox,
        plan: Arc<Plan>,
    ) -> Result<(), StoreError> {
        let told = (!live.unenforced.is_empty()).then(|| live.unenforced.join("; "));
        let mut events = vec![self.step_finished(None, told)];
        self.job = None;
        if !plan.saved {
            events.extend(self.let_go_of_layers().await);
        }
        events.push(EventBody::StepStarted { step: Step::Workspace });
        match self.machine.sandbox {
            SandboxPhase::Creating => self.advance(Input::Created, events, None).await?,
            // Built anew: the machine is that far already.
            _ => self.append(events).await?,
        };
        self.sandbox = Some(live);
        self.preparing = Some(Preparing {
            plan,
            project: Project::default(),
            source: Source::Startup,
            before: None,
            took: Duration::ZERO,
        });
        let limit = self.shared.config.deadlines.workspace;
        self.step(Some(Step::Workspace), limit, async |bench| {
            steps::workspace(&bench).await.map(Prepared::Workspace)
        });
        Ok(())
    }

    pub(super) async fn prepared(&mut self, prepared: Prepared) -> Result<(), StoreError> {
        match prepared {
            Prepared::Workspace(workspace) => self.workspace_made(workspace).await,
            Prepared::Setup(done) => self.setup_done(done).await,
            Prepared::Kept(Kept::In(live, detail)) => {
                let finished = self.step_finished(None, Some(detail));
                self.sandbox = Some(live);
                self.start_hooks(finished).await
            }
            Prepared::Kept(Kept::Lost(reason)) => {
                let told = format!("nothing could be kept, and all is built anew: {reason}");
                let finished = self.step_finished(None, Some(told));
                self.job = None;
                self.append(vec![finished]).await?;
                self.start_anew().await
            }
            Prepared::Ready(ready) => match ready.agent.connecting() {
                Some(patience) => self.connect(ready, patience).await,
                None => self.agent_ready(ready).await,
            },
            Prepared::Connected(ready) => self.agent_ready(ready).await,
        }
    }

    /// The end of the last step, where the last part has one of its own.
    fn last_finished(&self, detail: Option<String>) -> Vec<EventBody> {
        let finished = self.step_finished(None, detail);
        self.job.as_ref().and_then(Job::step).map(|_| finished).into_iter().collect()
    }

    /// Waits for the agent's servers, each of which has its own deadline.
    async fn connect(&mut self, ready: Ready, patience: Duration) -> Result<(), StoreError> {
        let mut events = self.last_finished(ready.detail);
        self.job = None;
        events.push(EventBody::StepStarted { step: Step::Mcp });
        self.append(events).await?;
        let limit = patience + self.shared.config.deadlines.workspace;
        self.step(Some(Step::Mcp), limit, async move |bench| {
            steps::connect(&bench, ready.agent).await.map(Prepared::Connected)
        });
        Ok(())
    }

    async fn agent_ready(&mut self, Ready { agent, detail }: Ready) -> Result<(), StoreError> {
        let events = self.last_finished(detail);
        if let Some(preparing) = self.preparing.take() {
            rebuild::start(&self.shared, &self.facts, &preparing.plan);
            warm::fill(&self.shared, &self.facts);
        }
        (self.job, self.deadline, self.agent) = (None, None, Some(agent));
        self.advance(Input::Prepared, events, None).await.map(drop)
    }

    async fn workspace_made(&mut self, made: Workspace) -> Result<(), StoreError> {
        let spoilt = made.spoilt.as_ref();
        let told =
            spoilt.map(|reason| format!("what was kept cannot be used, and all is built anew: {reason}"));
        let finished = self.step_finished(None, told.or(made.detail));
        self.job = None;
        if spoilt.is_some() {
            self.append(vec![finished]).await?;
            return self.start_anew().await;
        }
        let Some(preparing) = &mut self.preparing else { return Ok(()) };
        preparing.project = *made.project;
        (preparing.source, preparing.took) = (made.source, made.took);
        let plan = &preparing.plan;
        if plan.reused.is_none() && !plan.saved && plan.runs_script() {
            self.append(vec![finished, EventBody::StepStarted { step: Step::Setup }]).await?;
            // The guest ends the script; we wait a little longer for it to say so.
            let limit = self.shared.config.deadlines.setup + Duration::from_secs(30);
            self.step(Some(Step::Setup), limit, async |bench| {
                steps::setup(&bench).await.map(Prepared::Setup)
            });
            return Ok(());
        }
        let slow = preparing.took > SLOW_CLONE;
        self.start_cache(finished, slow).await
    }

    async fn setup_done(&mut self, done: SetupDone) -> Result<(), StoreError> {
        let quiet = done.not_kept.is_none();
        let finished = self.step_finished(None, done.not_kept);
        let took = self.job.as_ref().and_then(Job::step).map(|(_, started)| started.elapsed());
        if let Some(preparing) = &mut self.preparing {
            preparing.took += took.unwrap_or_default();
            preparing.before = done.before;
        }
        self.start_cache(finished, quiet).await
    }

    /// Keeps what was made, where it may be and is worth it.
    async fn start_cache(&mut self, finished: EventBody, worth: bool) -> Result<(), StoreError> {
        self.job = None;
        let place = self
            .preparing
            .as_mut()
            .filter(|_| worth)
            .and_then(|preparing| Some((preparing.plan.keep?, preparing.before.take(), preparing.took)));
        let Some((keep, before, took)) = place else { return self.start_hooks(finished).await };
        self.append(vec![finished, EventBody::StepStarted { step: Step::Cache }]).await?;
        let next = SandboxId::from(Ulid::generate());
        let limit = self.shared.config.deadlines.cache;
        self.step(Some(Step::Cache), limit, async move |bench| {
            Ok(Prepared::Kept(steps::keep(bench, keep, before, took, next).await))
        });
        // It ends on purpose now: nobody may take that for a loss. The job has both to take down.
        let old = self.sandbox.take().map(|sandbox| sandbox.id);
        if let Some(Job::Prepare { sandboxes, .. }) = &mut self.job {
            sandboxes.extend(old.into_iter().chain([next]));
        }
        Ok(())
    }

    async fn start_hooks(&mut self, finished: EventBody) -> Result<(), StoreError> {
        self.job = None;
        let Some(preparing) = &mut self.preparing else { return Ok(()) };
        let project = std::mem::take(&mut preparing.project);
        let source = preparing.source;
        let hooks = steps::start_hooks(&project, source);
        let step = (!hooks.is_empty()).then_some(Step::Hooks);
        let events = [finished].into_iter().chain(step.map(|step| EventBody::StepStarted { step }));
        self.append(events.collect()).await?;
        let hooks_last: Duration = hooks.iter().map(|hook| hook.timeout).sum();
        let limit = hooks_last + self.shared.config.deadlines.workspace;
        self.step(step, limit, async move |bench| {
            steps::ready(&bench, hooks, source, project).await.map(Prepared::Ready)
        });
        Ok(())
    }

    /// Starts a piece of the preparation in the sandbox that there is.
    fn step<F, W>(&mut self, step: Option<Step>, limit: Duration, work: F)
    where
        F: FnOnce(Bench) -> W,
        W: Future<Output = Result<Prepared, String>> + Send + 'static,
    {
        let (Some(preparing), Some(sandbox)) = (&self.preparing, self.sandbox.clone()) else { return };
        let bench = Bench {
            shared: Arc::clone(&self.shared),
            facts: Arc::clone(&self.facts),
            epoch: self.epoch,
            sandbox,
            plan: Arc::clone(&preparing.plan),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(work(bench)));
        let now = Instant::now();
        self.job = Some(Job::Prepare { step, started: now, sandboxes: Vec::new(), task });
        self.deadline = Some(now + limit);
    }

    /// The preparation failed: the prompts stay, the person decides. The sandbox of a failed setup stays
    /// for a while, too.
    pub(super) async fn step_failed(&mut self, reason: String) -> Result<(), StoreError> {
        let finished = self.step_finished(Some(reason.clone()), None);
        let in_setup = matches!(&self.job, Some(Job::Prepare { step: Some(Step::Setup), .. }));
        let looked_at = self.sandbox.take_if(|_| in_setup);
        self.abort_job().await;
        self.preparing = None;
        if let Some(sandbox) = looked_at {
            self.deadline = Some(Instant::now() + self.shared.config.deadlines.failed_sandbox);
            let link = sandbox.link.clone();
            self.sandbox = Some(sandbox);
            // What the script left running would go on without an end.
            tokio::spawn(async move { link.kill_all().await });
        }
        self.advance(Input::StepFailed, vec![finished], Some(reason)).await?;
        Ok(())
    }

    /// The sandbox of a failed setup has been looked at long enough.
    pub(super) fn drop_failed_sandbox(&mut self) {
        if let Some(sandbox) = self.sandbox.take_if(|_| self.machine.sandbox == SandboxPhase::Failed) {
            self.deadline = None;
            self.shared.reap(sandbox.id);
        }
    }
}
