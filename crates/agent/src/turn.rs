//! One turn: from a prompt to idle.
//!
//! ```text
//!  prompt ─▶ ask the model ─▶ append its blocks ─▶ calls? ─ no ─▶ end
//!                 ▲                                  │ yes
//!                 │                                  ▼
//!                 ├── results, and what the person said meanwhile ◀─ run: readers together, writers one by one
//!                 └── what a Stop hook says ◀───────────────────────── at the end, when one says to go on
//!
//!  a stop at any place: stream closed, commands signalled, every open call gets a result
//! ```

use model_gateway::{Block, ModelError, Request, Response, StopCause};
use protocol::agent_port::{AgentPort, PortError, TurnEnd, TurnInput};
use protocol::event::{Compaction, CompactionTrigger, EventBody, QuestionOption, SessionError, ToolResult};
use protocol::status::{StopReason, TurnStatus};
use protocol::usage::Usage;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::agent::PatchyardAgent;
use crate::answer::{interrupted, keepable, record, usage_event};
use crate::batch::run_all;
use crate::compact::With;
use crate::gate::Moment;
use crate::history::{CONTINUE_CODE, FINISH_CHECK, INTERRUPTED};
use crate::hooks::Event;
use crate::live::Live;
use crate::mentions;
use crate::room::Room;
use crate::slash::{self, Ran};
use crate::tools::parse;
use crate::uses::Planned;

/// How often a turn goes on because a `Stop` hook says so.
const STOP_HOOKS: u32 = 8;

/// What came of a request.
enum Answer {
    Whole {
        response: Response,
        message: String,
    },
    Ended(TurnEnd),
    /// The conversation is too long, and how the turn ends if it cannot be made shorter.
    TooLong(TurnEnd),
}

pub(crate) async fn work(
    agent: &mut PatchyardAgent,
    input: TurnInput,
    port: &dyn AgentPort,
    stop: &CancellationToken,
) -> Result<TurnEnd, PortError> {
    agent.bench.tasks.take_up(&agent.bench).await;
    let (mut messages, mut requests, mut continuations, mut held) = (0, 0, 0, 0);
    let with = With { input: &input, port, stop };
    agent.gate.revoke();
    if agent.thread.is_none() {
        agent.spent.reset();
    }
    // A command that a process died with is run again.
    let is_command = agent.thread.is_none() && slash::parse(&input.text).is_some();
    let resumed = input.resumed && !(is_command && agent.history.ends_with(&input.text));
    let ended = match resumed {
        true => take_up(agent, with, &mut messages).await?,
        false => begin(agent, with, &mut messages).await?,
    };
    if let Some(end) = ended {
        return Ok(end);
    }
    let mut room = Room::default();
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
        if let Some(why) = agent.spent.exceeds(&agent.config.caps) {
            return Ok(limit(StopReason::Budget, why));
        }
        requests += 1;
        if let Some(end) = room.keep(agent, with, &mut messages).await? {
            return Ok(end);
        }
        let (response, message) = match ask(agent, with, &mut messages).await? {
            Answer::Whole { response, message } => (response, message),
            Answer::Ended(end) => return Ok(end),
            Answer::TooLong(end) => match room.make(agent, with, &mut messages, end).await? {
                Some(end) => return Ok(end),
                None => continue,
            },
        };
        room.too_long = 0;
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
                    let end = limit(
                        StopReason::MaxTokens,
                        "the conversation fills the model's window; start a new session for the rest",
                    );
                    if let Some(end) = room.make(agent, with, &mut messages, end).await? {
                        return Ok(end);
                    }
                    if agent.history.has_last_word() {
                        go_on(agent, port).await?;
                    }
                    continue;
                }
                _ => {
                    if check_finish(agent, port).await? {
                        continue;
                    }
                    if !at_end(agent, &input, port, (&response, held), stop).await? {
                        return Ok(TurnEnd::completed());
                    }
                    held += 1;
                    continue;
                }
            }
        }
        let after = run_all(agent, port, calls, (input.prompt, false), stop).await?;
        if let Some(reason) = after.stop {
            return Ok(ended_by_hook(&reason));
        }
        hear(agent, with, &mut messages).await?;
        if let Some(name) = after.repeated.filter(|_| !stop.is_cancelled())
            && let Some(end) = ask_about_loop(agent, port, &name, stop).await?
        {
            return Ok(end);
        }
    }
}

/// Closes what an earlier process left open, and takes the prompt in.
async fn begin(
    agent: &mut PatchyardAgent,
    with: With<'_>,
    messages: &mut u32,
) -> Result<Option<TurnEnd>, PortError> {
    let With { input, port, stop } = with;
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
    if let Some(thread) = agent.thread.clone() {
        let moment = Moment { bench: &agent.bench, port, stop, prompt: input.prompt, resumed: false };
        let said = agent.gate.hooks(Event::SubagentStart, &thread.kind, json!({}), moment).await?;
        let context = said.context.iter().map(|text| context_of("SubagentStart hook", text));
        append(agent, port, context.collect()).await?;
        return Ok(None);
    }
    if let Ran::Done(end) = slash::run(agent, &input.text, with, messages).await? {
        return Ok(Some(end));
    }
    let moment = Moment { bench: &agent.bench, port, stop, prompt: input.prompt, resumed: false };
    let said = agent.gate.hooks(Event::UserPromptSubmit, "", json!({ "prompt": input.text }), moment).await?;
    if let Some(reason) = said.block {
        agent.history.take_back();
        let message = format!("a UserPromptSubmit hook refused the prompt: {reason}");
        return Ok(Some(TurnEnd::failed(StopReason::Hook, message)));
    }
    if let Some(reason) = said.stop {
        return Ok(Some(ended_by_hook(&reason)));
    }
    slash::replace(agent, &input.text, with).await?;
    let context = said.context.iter().map(|text| context_of("UserPromptSubmit hook", text));
    append(agent, port, context.collect()).await?;
    mentions::bring(agent, &input.text, with).await?;
    let news = agent.bench.news_of_servers();
    append(agent, port, news.into_iter().collect()).await?;
    Ok(None)
}

/// Tells the model once that nothing was run since it changed code; whether it did.
async fn check_finish(agent: &mut PatchyardAgent, port: &dyn AgentPort) -> Result<bool, PortError> {
    if !agent.config.caps.finish_check || !agent.history.recap.unverified {
        return Ok(false);
    }
    let text = "<system-reminder>\nYou changed code and ran no command since. Run the project's checks that cover the \
                change, and mend what they find. If there is nothing to run, or it cannot run here, say so in your \
                report; do not claim that it works.\n</system-reminder>";
    let source = FINISH_CHECK.to_owned();
    append(agent, port, vec![EventBody::ContextAdded { source, text: text.into() }]).await?;
    Ok(true)
}

/// Runs the `Stop` hooks; whether the turn goes on, with what they say.
async fn at_end(
    agent: &mut PatchyardAgent,
    input: &TurnInput,
    port: &dyn AgentPort,
    (response, held): (&Response, u32),
    stop: &CancellationToken,
) -> Result<bool, PortError> {
    let texts = response.blocks.iter().filter_map(|block| match block {
        Block::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let more = json!({
        "stop_hook_active": held > 0,
        "last_assistant_message": texts.collect::<Vec<_>>().join("\n\n"),
        "agent_transcript_path": "",
        "background_tasks": [],
        "session_crons": [],
    });
    let moment = Moment { bench: &agent.bench, port, stop, prompt: input.prompt, resumed: false };
    let (event, subject) = match &agent.thread {
        Some(thread) => (Event::SubagentStop, thread.kind.as_str()),
        None => (Event::Stop, ""),
    };
    let said = agent.gate.hooks(event, subject, more, moment).await?;
    let Some(reason) = said.block.filter(|_| said.stop.is_none()) else { return Ok(false) };
    if held == STOP_HOOKS {
        let message = format!("Stop hooks held the turn {STOP_HOOKS} times; it ends all the same: {reason}");
        let error = SessionError { code: "hook_failed".into(), message, retry_in_ms: None };
        append(agent, port, vec![EventBody::Error(error)]).await?;
        return Ok(false);
    }
    let text = format!("Stop hook feedback:\n{reason}");
    append(agent, port, vec![EventBody::ContextAdded { source: "Stop hook".into(), text }]).await?;
    Ok(true)
}

fn ended_by_hook(reason: &str) -> TurnEnd {
    TurnEnd {
        status: TurnStatus::Completed,
        stop_reason: StopReason::Hook,
        message: Some(format!("a hook ended the turn: {reason}")),
    }
}

fn context_of(source: &str, text: &str) -> EventBody {
    let text = format!("<system-reminder>\n{source} says: {text}\n</system-reminder>");
    EventBody::ContextAdded { source: source.into(), text }
}

/// Gives results to the calls that a process that died left open: commands are taken up where they are,
/// what only looks is looked at again, and of the rest is said what is known. Whether a call may run is asked
/// again, since nobody knows whether it was. Gives the end, where all was said already.
async fn take_up(
    agent: &mut PatchyardAgent,
    with: With<'_>,
    messages: &mut u32,
) -> Result<Option<TurnEnd>, PortError> {
    let With { input, port, stop } = with;
    agent.guard.reset();
    let open = agent.history.open_tool_uses().into_iter();
    let calls = open.map(|(call, name, input)| Planned { parsed: parse(&name, &input), call, name, input });
    let calls: Vec<_> = calls.collect();
    if !calls.is_empty() {
        let after = run_all(agent, port, calls, (input.prompt, true), stop).await?;
        if let Some(reason) = after.stop {
            return Ok(Some(ended_by_hook(&reason)));
        }
        hear(agent, with, messages).await?;
    }
    // Where all was said, only the end was not recorded.
    Ok(agent.history.has_last_word().then(TurnEnd::completed))
}

/// Takes in what the person said while the tools ran: it goes to the model with their results.
async fn hear(agent: &mut PatchyardAgent, with: With<'_>, messages: &mut u32) -> Result<(), PortError> {
    if with.stop.is_cancelled() {
        return Ok(());
    }
    let prompts = with.port.take_prompts().await?;
    // The log has all of them before what comes of the first.
    for (_, text) in &prompts {
        agent.history.deliver(text);
    }
    for (_, text) in prompts {
        // What comes of a command is told by its own event; the turn goes on.
        if let Ran::ForModel = Box::pin(slash::run(agent, &text, with, messages)).await? {
            Box::pin(slash::replace(agent, &text, with)).await?;
            mentions::bring(agent, &text, with).await?;
        }
        // The person knows what goes on, and said something else.
        agent.guard.reset();
    }
    Ok(())
}

/// Makes bodies durable, then folds them into the conversation.
pub(crate) async fn append(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    bodies: Vec<EventBody>,
) -> Result<(), PortError> {
    if bodies.is_empty() {
        return Ok(());
    }
    port.append(bodies.clone()).await?;
    for body in &bodies {
        if let EventBody::Usage { usage, .. } = body {
            agent.spent.add(*usage);
        }
        agent.history.apply(None, body);
        agent.bench.remember(body);
    }
    Ok(())
}

async fn ask(agent: &mut PatchyardAgent, with: With<'_>, messages: &mut u32) -> Result<Answer, PortError> {
    let With { input, port, stop } = with;
    let mut live = Live::begin(port, input.turn, messages);
    let request = Request { system: &agent.system, tools: &agent.tools, messages: agent.history.messages() };
    let outcome = agent.config.model_now().stream(request, &mut live, stop).await;
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
            if fall_back(agent, port, &error).await? {
                return Box::pin(ask(agent, with, messages)).await;
            }
            let end = failure(&error);
            // An image that the API does not take would be refused for ever.
            let images = agent.history.newest_images();
            if matches!(error, ModelError::BadRequest { .. }) && !images.is_empty() {
                append(agent, port, vec![without(images, agent.history.size())]).await?;
                return Box::pin(ask(agent, with, messages)).await;
            }
            Ok(match error {
                ModelError::PromptTooLong { .. } => Answer::TooLong(end),
                _ => Answer::Ended(end),
            })
        }
    }
}

/// Goes over to the other model where the first one stays overloaded; whether it did.
async fn fall_back(
    agent: &mut PatchyardAgent,
    port: &dyn AgentPort,
    error: &ModelError,
) -> Result<bool, PortError> {
    let overloaded =
        matches!(error, ModelError::Exhausted { last, .. } if matches!(**last, ModelError::Busy { .. }));
    let Some(other) = agent.config.fallback.take_if(|_| overloaded) else { return Ok(false) };
    let (from, to) = (agent.config.model_now().config().model.clone(), other.config().model.clone());
    agent.config.steering.set_model(other);
    let message = format!("the model {from} is overloaded; {to} goes on");
    let error = SessionError { code: "model_fallback".into(), message, retry_in_ms: Some(0) };
    append(agent, port, vec![EventBody::Error(error)]).await?;
    Ok(true)
}

fn without(left_out: Vec<String>, tokens_before: u64) -> EventBody {
    let trigger = CompactionTrigger::Auto;
    EventBody::ContextCompacted(Compaction { trigger, summary: None, left_out, tokens_before })
}

pub(crate) fn failure(error: &ModelError) -> TurnEnd {
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

/// Says in the log that a cut answer is continued, which tells the model too.
async fn go_on(agent: &mut PatchyardAgent, port: &dyn AgentPort) -> Result<(), PortError> {
    let error = SessionError {
        code: CONTINUE_CODE.into(),
        message: "the model's answer reached its token limit; it was asked to go on".into(),
        retry_in_ms: Some(0),
    };
    append(agent, port, vec![EventBody::Error(error)]).await
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
    let _one = agent.gate.asking.lock().await;
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
