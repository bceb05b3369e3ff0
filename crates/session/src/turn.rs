//! One turn: the agent works, then the workspace is recorded.

use std::sync::Arc;

use protocol::agent_port::{Agent, TurnEnd, TurnInput};
use protocol::event::{EventBody, TurnEnded};
use protocol::ids::{Epoch, TurnId};
use protocol::status::{StopReason, TurnStatus};
use protocol::view::SessionView;
use tokio_util::sync::CancellationToken;

use crate::checkpoint;
use crate::driver::LiveSandbox;
use crate::port::SessionPort;
use crate::provision;
use crate::registry::Shared;

/// What a turn works with.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) facts: Arc<SessionView>,
    pub(crate) epoch: Epoch,
    pub(crate) sandbox: LiveSandbox,
    /// The newest commit of the workspace that the session repository has.
    pub(crate) tip: String,
}

/// What a turn leaves.
pub(crate) struct TurnDone {
    /// The agent, unless it has to be made anew.
    pub(crate) agent: Option<Box<dyn Agent>>,
    /// How it ended.
    pub(crate) end: TurnEnd,
    /// The new tip, where the workspace was recorded.
    pub(crate) tip: Option<String>,
}

/// Runs a turn to its end. The checkpoint is part of it: who waits for the turn sees its diff.
pub(crate) async fn run(
    context: Context,
    agent: Option<Box<dyn Agent>>,
    input: TurnInput,
    port: SessionPort,
    stop: CancellationToken,
) -> TurnDone {
    let turn = input.turn;
    let message = input.text.clone();
    let made = match agent {
        Some(agent) => Ok(agent),
        None => provision::agent(&context.shared, &context.facts, &context.sandbox).await,
    };
    let (agent, end) = match made {
        Ok(mut agent) => {
            let end = agent.turn(input, &port, stop).await;
            (Some(agent), end)
        }
        Err(reason) => (None, TurnEnd::failed(StopReason::Agent, reason)),
    };
    let tip = record(&context, turn, &message).await;
    TurnDone { agent, end, tip }
}

/// What is left of a turn that had to be killed: nothing that runs, and a record of the files.
pub(crate) async fn after_kill(context: Context, turn: TurnId) -> TurnDone {
    if let Err(error) = context.sandbox.link.kill_all().await {
        tracing::warn!(session = %context.facts.id, %error, "what the turn left running could not be killed");
    }
    let tip = record(&context, turn, &context.facts.title).await;
    TurnDone { agent: None, end: TurnEnd::interrupted(), tip }
}

/// Records the workspace; what goes wrong is told in the log and loses nothing in the sandbox.
async fn record(context: &Context, turn: TurnId, message: &str) -> Option<String> {
    let deadline = context.shared.config.deadlines.checkpoint;
    let work = checkpoint::take(&context.shared, &context.facts, &context.sandbox, &context.tip, message);
    let (bodies, tip) = match tokio::time::timeout(deadline, work).await {
        Ok(Ok(taken)) => {
            let tip = taken.checkpoint.commit.clone();
            (vec![EventBody::Checkpoint(taken.checkpoint), EventBody::DiffStat(taken.stat)], Some(tip))
        }
        Ok(Err(error)) => (vec![checkpoint::failure(&error.to_string())], None),
        Err(_) => (vec![checkpoint::failure("it took too long")], None),
    };
    let appended =
        context.shared.store.append(context.facts.id, context.epoch, Some(turn), None, bodies).await;
    match appended {
        Ok(_) => tip,
        Err(error) => {
            tracing::warn!(session = %context.facts.id, %error, "a checkpoint could not be logged");
            None
        }
    }
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
