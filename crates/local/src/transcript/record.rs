//! One event as lines of a conversation.

use protocol::event::{AgentBlock, EventBody};
use protocol::usage::Usage;
use serde_json::{Map, Value, json};

/// What stands in a line besides what all lines have.
pub(super) type Fields = Map<String, Value>;

fn fields(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

/// A prompt; `delivered` says that it came in the middle of a turn.
pub(super) fn of_prompt(prompt: &str, text: &str, delivered: bool) -> Fields {
    let mut line = fields(json!({
        "type": "user", "promptId": prompt, "message": { "role": "user", "content": text },
    }));
    if delivered {
        line.insert("patchyard".into(), json!({ "delivered": true }));
    }
    line
}

/// The lines of an event. `message` has the model's name and what its newest message used.
pub(super) fn of_event(body: &EventBody, model: &str, usage: Option<&Usage>) -> Vec<Fields> {
    let assistant = |message: &str, block: Value| {
        let content = [block];
        vec![fields(json!({
            "type": "assistant",
            "message": {
                "id": message, "type": "message", "role": "assistant", "model": model, "content": content,
                "stop_reason": null, "stop_sequence": null, "usage": usage.map(usage_fields),
            },
        }))]
    };
    match body {
        EventBody::AgentMessage(block) => assistant(&block.message, text_block(block)),
        EventBody::AgentThought(block) => {
            assistant(&block.message, block.raw.clone().unwrap_or_else(|| text_block(block)))
        }
        EventBody::ToolCall(call) => assistant(
            &call.message,
            json!({ "type": "tool_use", "id": call.call, "name": call.name, "input": call.input }),
        ),
        EventBody::ToolResult(result) => vec![fields(json!({
            "type": "user",
            "message": { "role": "user", "content": [{
                "type": "tool_result", "tool_use_id": result.call, "content": result.content,
                "is_error": result.is_error,
            }] },
            "patchyard": { "detail": result.detail, "duration_ms": result.duration_ms },
        }))],
        EventBody::ContextAdded { source, text } => vec![fields(json!({
            "type": "user", "isMeta": true, "message": { "role": "user", "content": text },
            "patchyard": { "source": source },
        }))],
        EventBody::ContextCompacted(compaction) => {
            let boundary = fields(json!({
                "type": "system", "subtype": "compact_boundary", "content": "Conversation compacted",
                "compactMetadata": { "trigger": compaction.trigger, "preTokens": compaction.tokens_before },
                "patchyard": { "event": body },
            }));
            let summary = compaction.summary.as_ref().map(|summary| {
                fields(json!({
                    "type": "user", "isCompactSummary": true, "isVisibleInTranscriptOnly": true,
                    "message": { "role": "user", "content": summary },
                }))
            });
            std::iter::once(boundary).chain(summary).collect()
        }
        // The prompt has a line of its own, and agents that were sent have files of their own.
        EventBody::PromptQueued { .. }
        | EventBody::PromptDelivered { .. }
        | EventBody::TurnStarted { .. }
        | EventBody::ThreadStarted(_)
        | EventBody::ThreadEvent(_)
        | EventBody::ThreadEnded(_) => Vec::new(),
        other => vec![fields(json!({
            "type": "system", "subtype": "patchyard_event", "patchyard": { "event": other },
        }))],
    }
}

fn text_block(block: &AgentBlock) -> Value {
    block.raw.clone().unwrap_or_else(|| json!({ "type": "text", "text": block.text }))
}

/// Counts of tokens as the API names them.
pub(crate) fn usage_fields(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
    })
}
