//! One turn: from a prompt to idle.
//!
//! ```text
//!  prompt ─▶ ask the model ─▶ append its blocks ─▶ calls? ─ no ─▶ end
//!                 ▲                                  │ yes
//!                 │                                  ▼
//!                 └── results and what the person said meanwhile, in one user message ◀─ run: readers together, writers one by one
//!
//!  a stop at any place: stream closed, commands signalled, every open call gets a result
//! ```

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model_gateway::{Block, ModelError, Request, Response, StopCause};
use protocol::agent_port::{AgentPort, PortError, TurnEnd, TurnInput};
use protocol::event::{
    AgentBlock, EventBody, NetworkDenied, QuestionOption, SessionError, ToolCall, ToolResult,
};
use protocol::status::{StopReason, TurnStatus};
use protocol::usage::Usage;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::PatchyardAgent;
use crate::guard::Verdict;
use crate::history::{CONTINUE_CODE, INTERRUPTED};
use crate::live::Live;
use crate::outcome::Outcome;
use crate::tools::{Call, Run, is_read_only, parse, run, title};

/// Calls that run at the same time.
const PARALLEL: usize = 8;

const NOTE: &str = "\n\n[you have made this very call with this very result several times; repeating it will \
                    not change anything, so try another way or explain what is in the way]";

/// A call of the model, recorded and not yet run.
struct Planned {
    call: String,
    name: String,
    input: Value,
    /// The call, or why it cannot run.
    parsed: Result<Call, String>,
}

/// What came of a request.
enum Answer {
    Whole { response: Response, message: String },
    Ended(TurnEnd),
}

pub(crate) async fn work(
    agent: &mut PatchyardAgent,
    input: TurnInput,
    port: &dyn AgentPort,
    stop: &CancellationToken,
) -> Result<TurnEnd, PortError> {
    agent.bench.tasks.take_up(&agent.bench).await;
    if input.resumed {
        agent.guard.reset();
        take_up(agent, port, stop).await?;
        if agent.history.has_last_word() {
            // All was said; only the end was not recorded.
            return Ok(TurnEnd::completed());
        }
    } else {
        begin(agent, &input, port).await?;
    }
    let (mut messages, mut requests, mut continuations) = (0, 0, 0);
    loop {
        if stop.is_cancelled() {
            return Ok(TurnEnd::interrupted());
        }
        if requests == agent.config.caps.requests {
            return Ok(limit(
                StopReason::MaxRequests,
                format!("the turn reached its limit of {requests} model requests; send a prompt to go on"),
            ));
        }
        requests += 1;
        let answer = ask(agent, Live::begin(port, input.turn, &mut messages), port, stop).await?;
        let (response, message) = match answer {
            Answer::Whole { response, message } => (response, message),
            Answer::Ended(end) => return Ok(end),
        };
        let calls = record(agent, port, &response, &message).await?;
        if calls.is_empty() {
            match response.stop {
                StopCause::MaxTokens if continuations < agent.config.caps.continuations => {
                    continuations += 1;
                    go_on(agent, port).await?;
                    continue;
                }
                StopCause::MaxTokens => {
                    return Ok(limit(
                        StopReason::MaxTokens,
                        "the model's answers reached their token limit again and again; ask for smaller steps",
                    ));
                }
                StopCause::ContextFull => {
                    return Ok(limit(
                        StopReason::MaxTokens,
                        "the conversation fills the model's window; start a new session for the rest",
                    ));
                }
                _ => return Ok(TurnEnd::completed()),
            }
        }
        let repeated = run_all(agent, port, calls, stop, false).await?;
        hear(agent, port, stop).await?;
        if let Some(name) = repeated.filter(|_| !stop.is_cancelled())
            && let Some(end) = ask_about_loop(agent, port, &name, stop).await?
        {
            return Ok(end);
        }
    }
}

/// Closes what an earlier process left open, and takes the prompt in.
async fn begin(agent: &mut PatchyardAgent, input: &TurnInput, port: &dyn AgentPort) -> Result<(), PortError> {
    agent.guard.reset();
    let open = agent.history.open_calls();
    if !open.is_empty() {
        let result = |call| {
            let content = INTERRUPTED.to_owned();
            EventBody::ToolResult(ToolResult {
                call,
                content,
                is_error: true,
                duration_ms: 0,
                detail: json!({ "interrupted": true }),
                full_output: None,
            })
        };
        append(agent, port, open.into_iter().map(result).collect()).await?;
    }
    // After a restart in between, the log that was restored already has this turn's prompt.
    if agent.history.turn() != Some(input.turn) {
        agent.history.prompt(input.turn, &input.text);
    }
    Ok(())
}

/// Gives results to the calls that a process that died left open: commands are taken up where they are,
/// what only looks is looked at again, and of the rest is said what is known.
async fn take_up(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    stop: &CancellationToken,
) -> Result<(), PortError> {
    let open = agent.history.open_tool_uses().into_iter();
    let calls = open.map(|(call, name, input)| Planned { parsed: parse(&name, &input), call, name, input });
    let calls: Vec<_> = calls.collect();
    if !calls.is_empty() {
        run_all(agent, port, calls, stop, true).await?;
        hear(agent, port, stop).await?;
    }
    Ok(())
}

/// Takes in what the person said while the tools ran: it goes to the model with their results.
async fn hear(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    stop: &CancellationToken,
) -> Result<(), PortError> {
    if stop.is_cancelled() {
        return Ok(());
    }
    for (_, text) in port.take_prompts().await? {
        agent.history.deliver(&text);
        // The person knows what goes on, and said something else.
        agent.guard.reset();
    }
    Ok(())
}

/// Makes bodies durable, then folds them into the conversation.
async fn append(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    bodies: Vec<EventBody>,
) -> Result<(), PortError> {
    if bodies.is_empty() {
        return Ok(());
    }
    port.append(bodies.clone()).await?;
    for body in &bodies {
        agent.history.apply(None, body);
    }
    Ok(())
}

async fn ask(
    agent: &mut PatchyardAgent,
    mut live: Live<'_>,
    port: &dyn AgentPort,
    stop: &CancellationToken,
) -> Result<Answer, PortError> {
    let request = Request { system: &agent.system, tools: &agent.tools, messages: agent.history.messages() };
    let outcome = agent.config.model.stream(request, &mut live, stop).await;
    match outcome {
        Ok(response) if response.stop == StopCause::Refusal => {
            live.discard();
            live.end()?;
            append(agent, port, vec![usage_event(&response)]).await?;
            Ok(Answer::Ended(TurnEnd::failed(
                StopReason::Refusal,
                "the model declined to answer; word the task differently, or use another model",
            )))
        }
        Ok(response) => Ok(Answer::Whole { response, message: live.end()? }),
        Err(ModelError::Stopped { partial }) => {
            let keep = keepable(&partial);
            if !keep {
                live.discard();
            }
            let message = live.end()?;
            if keep {
                let calls = record(agent, port, &partial, &message).await?;
                let results = calls.into_iter().map(|call| interrupted(&call.call)).collect();
                append(agent, port, results).await?;
            } else if partial.usage != Usage::default() {
                append(agent, port, vec![usage_event(&partial)]).await?;
            }
            Ok(Answer::Ended(TurnEnd::interrupted()))
        }
        Err(error) => {
            live.discard();
            live.end()?;
            Ok(Answer::Ended(failure(&error)))
        }
    }
}

/// Whether the part of a stopped answer is worth keeping: it says something, and no call broke off.
fn keepable(partial: &Response) -> bool {
    !partial.blocks.iter().any(|block| matches!(block, Block::BrokenToolUse { .. }))
        && partial.blocks.iter().any(|block| match block {
            Block::Text { text, .. } => !text.trim().is_empty(),
            Block::ToolUse { .. } => true,
            _ => false,
        })
}

fn failure(error: &ModelError) -> TurnEnd {
    let reason = match error {
        ModelError::Auth { .. } => StopReason::ModelAuth,
        ModelError::Exhausted { .. } | ModelError::NotAnEndpoint { .. } => StopReason::ModelUnreachable,
        _ => StopReason::ModelError,
    };
    TurnEnd::failed(reason, error.explain())
}

fn limit(stop_reason: StopReason, message: impl Into<String>) -> TurnEnd {
    TurnEnd { status: TurnStatus::Limit, stop_reason, message: Some(message.into()) }
}

fn usage_event(response: &Response) -> EventBody {
    EventBody::Usage { model: response.model.clone(), usage: response.usage }
}

fn interrupted(call: &str) -> EventBody {
    EventBody::ToolResult(ToolResult {
        call: call.to_owned(),
        content: "not run: interrupted by the user".into(),
        is_error: true,
        duration_ms: 0,
        detail: json!({ "interrupted": true }),
        full_output: None,
    })
}

/// Appends an answer's blocks and its usage in one step, and gives its calls.
async fn record(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    response: &Response,
    message: &str,
) -> Result<Vec<Planned>, PortError> {
    let mut bodies = Vec::new();
    let mut calls: Vec<Planned> = Vec::new();
    for block in &response.blocks {
        match block {
            Block::Text { text, raw } if raw.is_some() || !text.trim().is_empty() => {
                bodies.push(EventBody::AgentMessage(agent_block(message, text, raw.clone())));
            }
            Block::Text { .. } => {}
            Block::Thinking { text, raw } => {
                bodies.push(EventBody::AgentThought(agent_block(message, text, Some(raw.clone()))));
            }
            Block::Other(raw) => {
                bodies.push(EventBody::AgentThought(agent_block(message, "", Some(raw.clone()))));
            }
            // Cut by the token limit: the model is asked to go on, and will call again.
            Block::BrokenToolUse { .. } if response.stop == StopCause::MaxTokens => {}
            Block::ToolUse { id, name, input } => {
                let call = unique(agent, &calls, id);
                let parsed = parse(name, input);
                calls.push(Planned { call, name: name.clone(), input: input.clone(), parsed });
                bodies.extend(calls.last().map(|call| call_event(agent, message, call)));
            }
            Block::BrokenToolUse { id, name, partial } => {
                let shown: String = partial.chars().take(200).collect();
                let parsed = Err(format!("the input of {name} is no JSON object: {shown}"));
                let call = unique(agent, &calls, id);
                calls.push(Planned { call, name: name.clone(), input: json!({}), parsed });
                bodies.extend(calls.last().map(|call| call_event(agent, message, call)));
            }
        }
    }
    bodies.push(usage_event(response));
    append(agent, port, bodies).await?;
    Ok(calls)
}

fn agent_block(message: &str, text: &str, raw: Option<Value>) -> AgentBlock {
    AgentBlock { message: message.to_owned(), text: text.to_owned(), raw }
}

fn call_event(agent: &PatchyardAgent, message: &str, call: &Planned) -> EventBody {
    EventBody::ToolCall(ToolCall {
        message: message.to_owned(),
        call: call.call.clone(),
        name: call.name.clone(),
        title: title(&call.name, &call.input, &agent.config.workspace),
        input: call.input.clone(),
    })
}

/// The call's id, made unique in the session: some servers count anew in every answer.
fn unique(agent: &PatchyardAgent, calls: &[Planned], id: &str) -> String {
    let taken = |id: &str| agent.history.has_call(id) || calls.iter().any(|call| call.call == id);
    let base = if id.is_empty() { "call" } else { id };
    let numbered = (2_u32..).map(|number| format!("{base}_{number}"));
    std::iter::once(base.to_owned()).chain(numbered).find(|id| !taken(id)).unwrap_or_default()
}

/// Says in the log that a cut answer is continued, which tells the model too.
async fn go_on(agent: &mut PatchyardAgent, port: &dyn AgentPort) -> Result<(), PortError> {
    let error = SessionError {
        code: CONTINUE_CODE.into(),
        message: "the model's answer reached its token limit; it was asked to go on".into(),
        retry_in_ms: Some(0),
    };
    append(agent, port, vec![EventBody::Error(error)]).await
}

/// Runs the calls of one answer. Readers next to each other run together, writers alone and in order.
/// Gives the name of a tool whose call repeats too often.
async fn run_all(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    calls: Vec<Planned>,
    stop: &CancellationToken,
    resumed: bool,
) -> Result<Option<String>, PortError> {
    let mut repeated = None;
    let mut rest = calls.into_iter().peekable();
    while rest.peek().is_some() {
        let mut batch = Vec::new();
        while let Some(next) =
            rest.next_if(|next| batch.is_empty() || (reads(next) && batch.iter().all(reads)))
        {
            batch.push(next);
            if batch.len() == PARALLEL {
                break;
            }
        }
        if let Some(name) = run_batch(agent, port, batch, stop, resumed).await? {
            repeated = Some(name);
        }
    }
    Ok(repeated)
}

fn reads(call: &Planned) -> bool {
    call.parsed.as_ref().is_ok_and(is_read_only)
}

async fn run_batch(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    batch: Vec<Planned>,
    stop: &CancellationToken,
    resumed: bool,
) -> Result<Option<String>, PortError> {
    let PatchyardAgent { history, bench, guard, .. } = agent;
    let bench = &*bench;
    let mut running: FuturesUnordered<_> = batch
        .into_iter()
        .map(|planned| async move {
            let began = Instant::now();
            let Planned { call, name, input, parsed } = planned;
            let outcome = match parsed {
                Ok(parsed) => Box::pin(run(parsed, Run { bench, port, id: &call, stop, resumed })).await,
                Err(reason) => Outcome::refused(reason),
            };
            let took = began.elapsed();
            (call, name, input, outcome, (began, took))
        })
        .collect();
    let mut repeated = None;
    while let Some((call, name, input, mut outcome, (began, took))) = running.next().await {
        let is_bash = name == "Bash";
        let refused = if is_bash { port.refused_since(began.into_std()) } else { Vec::new() };
        match guard.take(&name, &input, &outcome.content) {
            Verdict::Fine => {}
            Verdict::Note => outcome.content.push_str(NOTE),
            Verdict::Ask => {
                outcome.content.push_str(NOTE);
                repeated = Some(name);
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
    Ok(repeated)
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
    outcome: Outcome,
    took: Duration,
) -> Result<Vec<EventBody>, PortError> {
    let full_output = match outcome.full_output {
        Some((bytes, truncated)) => Some(port.put_blob(bytes, truncated).await?),
        None => None,
    };
    let result = EventBody::ToolResult(ToolResult {
        call: call.to_owned(),
        content: outcome.content,
        is_error: outcome.is_error,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        detail: outcome.detail,
        full_output,
    });
    let plan = outcome.plan.map(|entries| EventBody::Plan { entries });
    Ok(std::iter::once(result).chain(plan).collect())
}

/// Asks the person whether an agent that repeats itself should go on.
async fn ask_about_loop(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    name: &str,
    stop: &CancellationToken,
) -> Result<Option<TurnEnd>, PortError> {
    let option = |id: &str, label: &str| QuestionOption { id: id.into(), label: label.into() };
    let options = vec![option("stop", "Stop the turn"), option("continue", "Let it go on")];
    let text = format!("The agent repeats the same {name} call and gets the same result. Stop it?");
    let Some(answer) = stop.run_until_cancelled(port.ask(text, options)).await else {
        return Ok(Some(TurnEnd::interrupted()));
    };
    if answer?.option == "continue" {
        agent.guard.reset();
        return Ok(None);
    }
    let message = format!("the agent repeated the same {name} call without getting further");
    Ok(Some(limit(StopReason::Loop, message)))
}
