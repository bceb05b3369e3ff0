//! An answer of the model, into the log.
//!
//! ```text
//!  blocks ─▶ agent.message · agent.thought · tool.call · usage, in one step ─▶ the calls, to be run
//! ```

use model_gateway::{Block, Response, StopCause};
use protocol::agent_port::{AgentPort, PortError};
use protocol::event::{AgentBlock, EventBody, ToolCall, ToolResult};
use serde_json::{Value, json};

use crate::agent::PatchyardAgent;
use crate::tools::{parse, title};
use crate::turn::append;
use crate::uses::Planned;

/// Whether the part of a stopped answer is worth keeping: it says something, and no call broke off.
pub(crate) fn keepable(partial: &Response) -> bool {
    !partial.blocks.iter().any(|block| matches!(block, Block::BrokenToolUse { .. }))
        && partial.blocks.iter().any(|block| match block {
            Block::Text { text, .. } => !text.trim().is_empty(),
            Block::ToolUse { .. } => true,
            _ => false,
        })
}

pub(crate) fn usage_event(response: &Response) -> EventBody {
    EventBody::Usage { model: response.model.clone(), usage: response.usage }
}

pub(crate) fn interrupted(call: &str) -> EventBody {
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
pub(crate) async fn record(
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
                let parsed = offered(agent, name).and_then(|()| parse(name, input));
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

/// A thread has the tools of its kind, whatever its model calls.
fn offered(agent: &PatchyardAgent, name: &str) -> Result<(), String> {
    let has = agent.thread.is_none() || agent.tools.iter().any(|tool| tool.name == name);
    if has { Ok(()) } else { Err(format!("this agent has no tool named `{name}`")) }
}

/// The call's id, made unique in the session: some servers count anew in every answer.
fn unique(agent: &PatchyardAgent, calls: &[Planned], id: &str) -> String {
    let taken = |id: &str| agent.history.has_call(id) || calls.iter().any(|call| call.call == id);
    let base = match &agent.thread {
        // Other threads may count alike.
        Some(thread) => format!("{}-{id}", thread.id),
        None if id.is_empty() => "call".to_owned(),
        None => id.to_owned(),
    };
    let numbered = (2_u32..).map(|number| format!("{base}_{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|id| !taken(id)).unwrap_or_default()
}
