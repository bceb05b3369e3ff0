//! Runs a command.

use protocol::agent_port::{PortError, TurnEnd};
use protocol::event::{CommandRan, CompactionTrigger, EventBody};
use protocol::status::TurnStatus;

use super::parse;
use crate::agent::PatchyardAgent;
use crate::compact::{Compacted, With, sum_up};
use crate::turn::append;

/// What came of a prompt.
pub(crate) enum Ran {
    /// It was a command, and is done with; how a turn ends that was only for it.
    Done(TurnEnd),
    /// It is for the model.
    ForModel,
}

/// Runs a prompt that is one of our commands; the conversation ends with it.
pub(crate) async fn run(
    agent: &mut PatchyardAgent,
    text: &str,
    with: With<'_>,
    messages: &mut u32,
) -> Result<Ran, PortError> {
    let Some((name, words)) = parse(text) else { return Ok(Ran::ForModel) };
    match name {
        "compact" => compact(agent, words, with, messages).await.map(Ran::Done),
        _ => Ok(Ran::ForModel),
    }
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
    let ran = CommandRan { name: "compact".into(), output: Some(output), prompt: None };
    append(agent, with.port, vec![EventBody::CommandRan(ran)]).await?;
    Ok(end)
}
