//! Runs a command.

use protocol::agent_port::{PortError, TurnEnd};
use protocol::event::{CommandRan, CompactionTrigger, EventBody};
use protocol::status::TurnStatus;

use super::expand::expand;
use super::{COMPACT, builtin, parse};
use crate::agent::PatchyardAgent;
use crate::compact::{Compacted, With, sum_up};
use crate::gate::Moment;
use crate::mcp;
use crate::turn::append;

/// What came of a prompt.
pub(crate) enum Ran {
    /// It was a command, and is done with; how a turn ends that was only for it.
    Done(TurnEnd),
    /// It is for the model.
    ForModel,
}

/// Runs a prompt that is a command which needs no turn of the model; the conversation ends with it.
pub(crate) async fn run(
    agent: &mut PatchyardAgent,
    text: &str,
    with: With<'_>,
    messages: &mut u32,
) -> Result<Ran, PortError> {
    let Some((name, words)) = parse(text) else { return Ok(Ran::ForModel) };
    if name == COMPACT {
        return compact(agent, words, with, messages).await.map(Ran::Done);
    }
    let own = agent.config.library.command(name);
    let output = match builtin::answer(agent, name) {
        Some(output) => output,
        None if own.is_some_and(|command| !command.by_person) => {
            format!("`/{name}` is for the agent to start, and not for a person.")
        }
        None => return Ok(Ran::ForModel),
    };
    told(agent, name, output, with).await?;
    Ok(Ran::Done(TurnEnd::completed()))
}

/// Puts what a command stands for in place of the prompt that the conversation ends with.
pub(crate) async fn replace(agent: &mut PatchyardAgent, text: &str, with: With<'_>) -> Result<(), PortError> {
    let Some((name, words)) = parse(text) else { return Ok(()) };
    let prompt = match agent.config.library.command(name) {
        Some(command) => {
            let With { input, port, stop } = with;
            let moment = Moment { bench: &agent.bench, port, stop, prompt: input.prompt, resumed: false };
            let body = expand(command, words, &agent.gate, moment).await?;
            format!(
                "<command-message>{name}</command-message>\n<command-name>/{name}</command-name>\n\
                 <command-args>{words}</command-args>\n\n{body}"
            )
        }
        None => match mcp::prompt(&agent.config.servers, name, words, with.stop).await {
            Some(Ok(text)) => format!("<command-name>/{name}</command-name>\n\n{text}"),
            // The model can say it, and do without.
            Some(Err(why)) => format!("<command-name>/{name}</command-name>\n\n[{why}]"),
            None => match builtin::prompt(name, words) {
                Some(prompt) => prompt,
                None => return Ok(()),
            },
        },
    };
    let ran = CommandRan { name: name.into(), output: None, prompt: Some(prompt) };
    append(agent, with.port, vec![EventBody::CommandRan(ran)]).await
}

async fn told(
    agent: &mut PatchyardAgent,
    name: &str,
    output: String,
    with: With<'_>,
) -> Result<(), PortError> {
    let ran = CommandRan { name: name.into(), output: Some(output), prompt: None };
    append(agent, with.port, vec![EventBody::CommandRan(ran)]).await
}

async fn compact(
    agent: &mut PatchyardAgent,
    focus: &str,
    with: With<'_>,
    messages: &mut u32,
) -> Result<TurnEnd, PortError> {
    let focus = Some(focus).filter(|focus| !focus.is_empty());
    let compacted = sum_up(agent, (CompactionTrigger::Manual, focus), with, messages).await?;
    let (output, end) = match compacted {
        // Its event says it.
        Compacted::Done => return Ok(TurnEnd::completed()),
        Compacted::Not(end) if end.status == TurnStatus::Completed => {
            (end.message.unwrap_or_default(), TurnEnd::completed())
        }
        Compacted::Not(end) => ("The conversation is as it was.".to_owned(), end),
    };
    told(agent, COMPACT, output, with).await?;
    Ok(end)
}
