//! One turn: the agent works, and the workspace is recorded now and then; in the end it is recorded once
//! more, and its branch pushed.

use std::sync::Arc;

use protocol::agent_port::{Agent, TurnEnd, TurnInput};
use protocol::event::{EventBody, TurnEnded};
use protocol::ids::{Epoch, TurnId};
use protocol::status::{StopReason, TurnStatus};
use protocol::view::SessionView;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{self, CheckpointError, Moment, Tip};
use crate::driver::LiveSandbox;
use crate::port::SessionPort;
use crate::provision;
use crate::push::{self, Plan, Wanted};
use crate::recorder;
use crate::registry::Shared;

/// What a turn works with.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) facts: Arc<SessionView>,
    pub(crate) epoch: Epoch,
    pub(crate) sandbox: LiveSandbox,
    /// The newest commit of the workspace that the session repository has.
    pub(crate) tip: Tip,
}

/// What a turn leaves.
pub(crate) struct TurnDone {
    /// The agent, unless it has to be made anew.
    pub(crate) agent: Option<Box<dyn Agent>>,
    /// How it ended.
    pub(crate) end: TurnEnd,
    /// Whether its files are recorded as it left them.
    pub(crate) recorded: bool,
}

/// Runs a turn to its end. The checkpoint is part of it: who waits for the turn sees its diff.
pub(crate) async fn run(
    context: Context,
    agent: Option<Box<dyn Agent>>,
    input: TurnInput,
    port: SessionPort,
    stop: CancellationToken,
) -> TurnDone {
    let (turn, stopped) = (input.turn, stop.clone());
    let message = input.text.clone();
    let made = match agent {
        Some(agent) => Ok(agent),
        None => provision::agent(&context.shared, &context.facts, &context.sandbox, None).await,
    };
    let (agent, end) = match made {
        Ok(mut agent) => {
            let over = CancellationToken::new();
            let work = async {
                let end = agent.turn(input, &port, stop).await;
                over.cancel();
                end
            };
            let record = recorder::run(&context, (turn, &message), port.batches(), (&over, &stopped));
            let (end, ()) = tokio::join!(work, record);
            (Some(agent), end)
        }
        Err(reason) => (None, TurnEnd::failed(StopReason::Agent, reason)),
    };
    let recorded = log_record(&context, turn, &message, !stopped.is_cancelled()).await;
    TurnDone { agent, end, recorded }
}

/// What is left of a turn that had to be killed: nothing that runs, and a record of the files.
pub(crate) async fn after_kill(context: Context, turn: TurnId) -> TurnDone {
    let link = &context.sandbox.link;
    match tokio::time::timeout(context.shared.config.deadlines.stop, link.kill_all()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(session = %context.facts.id, %error, "what the turn left running could not be killed");
        }
        // It does not do what it is told: the sandbox goes, with all that runs in it.
        Err(_) => link.give_up("it did not end what runs in it"),
    }
    let recorded = log_record(&context, turn, &context.facts.title, false).await;
    TurnDone { agent: None, end: TurnEnd::interrupted(), recorded }
}

/// Records the workspace between turns: the new tip, and the events that tell of it or of what went wrong.
pub(crate) async fn record(
    shared: &Shared,
    facts: &SessionView,
    sandbox: &LiveSandbox,
    tip: &str,
    message: &str,
) -> (Option<String>, Vec<EventBody>) {
    let work = checkpoint::take(shared, facts, sandbox, (tip, Moment::Rest), message);
    match tokio::time::timeout(shared.config.deadlines.checkpoint, work).await {
        Ok(Ok(None)) => (Some(tip.to_owned()), Vec::new()),
        Ok(Ok(Some(taken))) => {
            let tip = taken.checkpoint.commit.clone();
            (Some(tip), taken.events())
        }
        Ok(Err(error)) => (None, vec![checkpoint::failure(&error)]),
        Err(_) => (None, vec![checkpoint::failure(&CheckpointError::Deadline)]),
    }
}

/// Records the workspace, and pushes its branch where that is wanted and the turn was not stopped. Whether
/// it is recorded.
async fn log_record(context: &Context, turn: TurnId, message: &str, may_push: bool) -> bool {
    let Context { shared, facts, epoch, sandbox, tip } = context;
    let (taken, mut bodies) = record(shared, facts, sandbox, &tip.get(), message).await;
    let plan = match taken.as_deref().filter(|_| may_push) {
        Some(taken) => push::plan(shared, facts.id, taken, Wanted::ByTurn).await,
        None => None,
    };
    bodies.extend(plan.as_ref().map(Plan::event));
    let mut written = shared.store.append(facts.id, *epoch, Some(turn), None, bodies).await;
    if let (Ok(_), Some(plan)) = (&written, plan) {
        let ended = push::run(shared, facts.id, &facts.branch, plan).await;
        written = shared.store.append(facts.id, *epoch, Some(turn), None, vec![ended]).await;
    }
    if let Err(error) = written {
        tracing::warn!(session = %facts.id, %error, "a checkpoint or its push could not be logged");
        return false;
    }
    if let Some(taken) = &taken {
        tip.set(taken.clone());
    }
    taken.is_some()
}

/// The event of a turn's end.
pub(crate) fn ended(
    status: TurnStatus,
    stop_reason: StopReason,
    message: Option<String>,
    duration_ms: u64,
) -> TurnEnded {
    TurnEnded { status, stop_reason, message, duration_ms }
}
