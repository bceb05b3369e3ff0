//! The calls of one answer, run.
//!
//! ```text
//!  read read write read ─▶ [read read] ─▶ [write] ─▶ [read]     one batch after the other
//! ```

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::agent_port::{AgentPort, PortError};
use protocol::event::{BlobRef, EventBody, NetworkDenied, ToolResult};
use protocol::ids::PromptId;
use tokio_util::sync::CancellationToken;

use crate::agent::PatchyardAgent;
use crate::gate::Moment;
use crate::guard::Verdict;
use crate::mcp;
use crate::outcome::Outcome;
use crate::threads;
use crate::tools::{Call, is_read_only};
use crate::turn::append;
use crate::uses::{Planned, Used, use_tool};

/// Calls that run at the same time.
const PARALLEL: usize = 8;

const NOTE: &str = "\n\n[you have made this very call with this very result several times; repeating it will \
                    not change anything, so try another way or explain what is in the way]";

/// What a batch of calls asks of the turn.
#[derive(Default)]
pub(crate) struct After {
    /// The tool whose call repeats too often.
    pub(crate) repeated: Option<String>,
    /// Why a hook wants the turn to end.
    pub(crate) stop: Option<String>,
}

/// Runs the calls of one answer. Readers next to each other run together, writers alone and in order.
/// When a hook ends the turn, those after it do not run. `resumed` says that a process that died may have
/// begun them.
pub(crate) async fn run_all(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    calls: Vec<Planned>,
    (prompt, resumed): (PromptId, bool),
    stop: &CancellationToken,
) -> Result<After, PortError> {
    let mut after = After::default();
    let mut rest = calls.into_iter().peekable();
    while rest.peek().is_some() {
        if let Some(reason) = &after.stop {
            let not_run = |call: Planned| {
                let outcome = Outcome::failed(format!("not run: a hook ended the turn: {reason}"));
                result_event(&call.call, outcome, Duration::ZERO, None)
            };
            append(agent, port, rest.map(not_run).collect()).await?;
            break;
        }
        let mut batch = Vec::new();
        while let Some(next) = rest.next_if(|next| {
            batch.is_empty() || (reads(agent, next) && batch.iter().all(|call| reads(agent, call)))
        }) {
            batch.push(next);
            if batch.len() == PARALLEL {
                break;
            }
        }
        let of_batch = run_batch(agent, port, batch, (prompt, resumed), stop).await?;
        after.repeated = of_batch.repeated.or(after.repeated);
        after.stop = after.stop.or(of_batch.stop);
    }
    Ok(after)
}

fn reads(agent: &PatchyardAgent, call: &Planned) -> bool {
    call.parsed.as_ref().is_ok_and(|call| match call {
        Call::Agent(input) => threads::only_looks(&agent.bench.library, input),
        Call::Mcp { name, .. } => mcp::is_read_only(&agent.bench.servers, name),
        call => is_read_only(call),
    })
}

async fn run_batch(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    batch: Vec<Planned>,
    (prompt, resumed): (PromptId, bool),
    stop: &CancellationToken,
) -> Result<After, PortError> {
    let PatchyardAgent { history, bench, guard, gate, .. } = agent;
    let (bench, gate) = (&*bench, &*gate);
    let moment = Moment { bench, port, stop, prompt, resumed };
    let mut running: FuturesUnordered<_> =
        batch.into_iter().map(|planned| use_tool(planned, gate, moment)).collect();
    let mut after = After::default();
    while let Some(used) = running.next().await {
        let Used { call, name, input, mut outcome, began, took, stop } = used?;
        after.stop = after.stop.or(stop);
        let is_bash = name == "Bash";
        let refused = if is_bash || name.starts_with(mcp::PREFIX) {
            port.refused_since(began.into_std())
        } else {
            Vec::new()
        };
        match guard.take(&name, &input, &outcome.content) {
            Verdict::Fine => {}
            Verdict::Note => outcome.content.push_str(NOTE),
            Verdict::Ask => {
                outcome.content.push_str(NOTE);
                after.repeated = Some(name);
            }
        }
        outcome.content.push_str(&refusals(&refused));
        outcome.content.push_str(&bench.tasks.notices());
        // A background task goes on, and is let go of when it is not listed any more.
        let is_settled = is_bash && outcome.detail["background_task_id"].is_null();
        let bodies = result_events(port, &call, outcome, took).await?;
        port.append(bodies.clone()).await?;
        if is_settled {
            bench.settle(&call);
        }
        for body in &bodies {
            history.apply(None, body);
        }
    }
    Ok(after)
}

/// Lines about what the network refused, for a program that says only that it did not work.
fn refusals(refused: &[NetworkDenied]) -> String {
    let told = |NetworkDenied { host, port, reason, askable, .. }: &NetworkDenied| {
        let next = if *askable { "; whoever watches can allow it" } else { "" };
        format!("\n[network: {host}:{port} was refused ({reason}){next}]")
    };
    refused.iter().map(told).collect()
}

async fn result_events(
    port: &dyn AgentPort,
    call: &str,
    mut outcome: Outcome,
    took: Duration,
) -> Result<Vec<EventBody>, PortError> {
    let full_output = match outcome.full_output.take() {
        Some((bytes, truncated)) => Some(port.put_blob(bytes, truncated).await?),
        None => None,
    };
    let plan = outcome.plan.take().map(|entries| EventBody::Plan { entries });
    let thread = outcome.thread.take().map(EventBody::ThreadEnded);
    Ok(thread.into_iter().chain([result_event(call, outcome, took, full_output)]).chain(plan).collect())
}

fn result_event(call: &str, outcome: Outcome, took: Duration, full_output: Option<BlobRef>) -> EventBody {
    EventBody::ToolResult(ToolResult {
        call: call.to_owned(),
        content: outcome.content,
        is_error: outcome.is_error,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        detail: outcome.detail,
        full_output,
    })
}
