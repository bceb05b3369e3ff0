//! The stream of an answer, event by event.

use serde_json::{Value, json};

use super::reply::Reply;

/// The events of a whole answer as they go over the wire, each `event:` and `data:` with its blank
/// line. `body` is the request, `serial` counts the requests of the server.
pub(super) fn render(reply: &Reply, body: &Value, serial: u64) -> Vec<String> {
    let blocks = with_ids(&reply.blocks, serial);
    let calls = blocks.iter().any(|block| block["type"] == "tool_use");
    let default_stop = if calls { "tool_use" } else { "end_turn" };
    let stop = reply.stop_reason.as_deref().unwrap_or(default_stop);
    let mut usage = usage_of(body, &blocks);
    if let (Value::Object(usage), Value::Object(wanted)) = (&mut usage, &reply.usage) {
        usage.extend(wanted.clone());
    }
    let mut first_usage = usage.clone();
    first_usage["output_tokens"] = 1.into();
    let mut events = Vec::new();
    push(
        &mut events,
        "message_start",
        &json!({ "type": "message_start", "message": {
            "id": format!("msg_scripted_{serial:06}"), "type": "message", "role": "assistant",
            "model": body["model"], "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": first_usage,
        }}),
    );
    push(&mut events, "ping", &json!({ "type": "ping" }));
    for (index, block) in blocks.iter().enumerate() {
        push_block(&mut events, index, block, reply.chunk.max(1));
    }
    push(
        &mut events,
        "message_delta",
        &json!({ "type": "message_delta",
            "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": usage }),
    );
    push(&mut events, "message_stop", &json!({ "type": "message_stop" }));
    events
}

/// An `error` event.
pub(super) fn error_event(kind: &str, message: &str) -> String {
    let mut events = Vec::new();
    push(&mut events, "error", &json!({ "type": "error", "error": { "type": kind, "message": message } }));
    events.concat()
}

fn push(events: &mut Vec<String>, name: &str, data: &Value) {
    events.push(format!("event: {name}\ndata: {data}\n\n"));
}

fn push_block(events: &mut Vec<String>, index: usize, block: &Value, chunk: usize) {
    let text = |field: &str| block[field].as_str().unwrap_or_default().to_owned();
    let mut start = block.clone();
    // What is streamed in pieces, and as which kind of delta.
    let streamed = match block["type"].as_str().unwrap_or_default() {
        "text" => Some(("text", "text_delta", "text", text("text"))),
        "thinking" => Some(("thinking", "thinking_delta", "thinking", text("thinking"))),
        "tool_use" => Some(("input", "input_json_delta", "partial_json", input_text(&block["input"]))),
        // Other kinds stand whole in their first event.
        _ => None,
    };
    if let Some((field, ..)) = streamed {
        start[field] = if field == "input" { json!({}) } else { "".into() };
    }
    if start.get("signature").is_some() {
        start["signature"] = "".into();
    }
    push(
        events,
        "content_block_start",
        &json!({ "type": "content_block_start", "index": index, "content_block": start }),
    );
    let mut delta = |delta: Value| {
        let data = json!({ "type": "content_block_delta", "index": index, "delta": delta });
        push(events, "content_block_delta", &data);
    };
    if let Some((_, kind, field, text)) = streamed {
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(chunk) {
            delta(json!({ "type": kind, field: piece.iter().collect::<String>() }));
        }
    }
    if let Some(signature) = block["signature"].as_str() {
        delta(json!({ "type": "signature_delta", "signature": signature }));
    }
    push(events, "content_block_stop", &json!({ "type": "content_block_stop", "index": index }));
}

/// The input's JSON text; an input given as a string is streamed as it stands, to play broken calls.
fn input_text(input: &Value) -> String {
    input.as_str().map_or_else(|| input.to_string(), str::to_owned)
}

fn with_ids(blocks: &[Value], serial: u64) -> Vec<Value> {
    let mut blocks = blocks.to_vec();
    for (index, block) in blocks.iter_mut().enumerate() {
        if block["type"] == "tool_use" && block["id"].is_null() {
            block["id"] = format!("toolu_scripted_{serial:06}_{index:02}").into();
        }
    }
    blocks
}

/// Counts that follow from sizes, four characters to a token: what was in the request before is read
/// from the cache, what the last two messages added is written to it.
fn usage_of(body: &Value, blocks: &[Value]) -> Value {
    let tokens = |value: &Value| value.to_string().len() as u64 / 4 + 1;
    let empty = Vec::new();
    let messages = body["messages"].as_array().unwrap_or(&empty);
    let fresh = messages.iter().rev().take(2).map(tokens).sum::<u64>();
    let all = tokens(body);
    let (read, written) = if messages.len() > 2 { (all.saturating_sub(fresh), fresh) } else { (0, all) };
    json!({
        "input_tokens": 3,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": blocks.iter().map(tokens).sum::<u64>(),
    })
}
