//! What every request must hold.

use std::collections::HashSet;

use serde_json::Value;

const FIELDS: &[&str] = &["model", "max_tokens", "stream", "thinking", "tools", "system", "messages"];

/// A cache breakpoint as it stands in a body, after another field.
const BREAKPOINT: &str = r#","cache_control":{"type":"ephemeral"}"#;

/// What follows the last block of a body: its message's list, the message, the messages, the body.
const BODY_END: &str = "]}]}";

/// What is wrong with a request by itself.
pub(super) fn request(body: &Value, bytes: &[u8]) -> Vec<String> {
    let mut wrong = Vec::new();
    let Value::Object(fields) = body else { return vec!["the body is no JSON object".into()] };
    for field in fields.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
        wrong.push(format!("unknown field `{field}`"));
    }
    let breakpoints = String::from_utf8_lossy(bytes).matches(r#""cache_control":{"#).count();
    if breakpoints > 4 {
        wrong.push(format!("{breakpoints} cache breakpoints, four are allowed"));
    }
    let empty = Vec::new();
    let messages = body["messages"].as_array().unwrap_or(&empty);
    let mut role = "assistant";
    for (at, message) in messages.iter().enumerate() {
        let this = message["role"].as_str().unwrap_or("none");
        if this == role || !matches!(this, "user" | "assistant") {
            wrong.push(format!("message {at} of `{this}` after one of `{role}`"));
        }
        role = this;
        if message["content"].as_array().is_none_or(Vec::is_empty) {
            wrong.push(format!("message {at} has no content"));
        }
        for block in message["content"].as_array().unwrap_or(&empty) {
            if block["type"] == "text" && block["text"].as_str().is_none_or(|text| text.trim().is_empty()) {
                wrong.push(format!("message {at} has an empty text block"));
            }
        }
    }
    if role != "user" {
        wrong.push(format!("the last message is of `{role}`"));
    }
    wrong.extend(pairs(messages));
    wrong
}

/// Every tool call has exactly one result in the next message, and no result is without its call.
fn pairs(messages: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut waiting: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for (at, message) in messages.iter().enumerate() {
        let results = ids(message, "tool_result", "tool_use_id");
        for result in &results {
            if !waiting.contains(result) {
                wrong.push(format!("message {at}: result of `{result}` without its call right before"));
            }
        }
        for call in &waiting {
            let count = results.iter().filter(|result| *result == call).count();
            if count != 1 {
                wrong.push(format!("message {at}: call `{call}` has {count} results"));
            }
        }
        let text_before_result = message["content"].as_array().is_some_and(|content| {
            let first_other = content.iter().position(|block| block["type"] != "tool_result");
            let last_result = content.iter().rposition(|block| block["type"] == "tool_result");
            matches!((first_other, last_result), (Some(other), Some(result)) if other < result)
        });
        if text_before_result {
            wrong.push(format!("message {at}: a result stands after another block"));
        }
        waiting = ids(message, "tool_use", "id");
        for call in &waiting {
            if !seen.insert(call.clone()) {
                wrong.push(format!("message {at}: call id `{call}` is used twice"));
            }
        }
    }
    if !waiting.is_empty() {
        wrong.push(format!("calls without results at the end: {waiting:?}"));
    }
    wrong
}

fn ids(message: &Value, kind: &str, field: &str) -> Vec<String> {
    let empty = Vec::new();
    let content = message["content"].as_array().unwrap_or(&empty);
    content
        .iter()
        .filter(|block| block["type"] == kind)
        .map(|block| block[field].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The body without its cache breakpoints, up to the end of its last block.
pub(super) fn stable_part(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace(BREAKPOINT, "");
    text.strip_suffix(BODY_END).map(str::to_owned).unwrap_or(text)
}

/// What is wrong with a request that follows another one of the same conversation.
pub(super) fn follows(before: &str, now: &str) -> Option<String> {
    if now.starts_with(before) {
        return None;
    }
    let at = before.bytes().zip(now.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| {
        let bytes = text.as_bytes();
        let from = at.saturating_sub(40).min(bytes.len());
        let to = (at + 60).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..to]).into_owned()
    };
    Some(format!(
        "the request does not begin with the bytes of the one before; at byte {at}: `{}` became `{}`",
        around(before),
        around(now)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(messages: Value) -> Vec<String> {
        let body = json!({ "model": "m", "messages": messages });
        request(&body, body.to_string().as_bytes())
    }

    #[test]
    fn a_sound_conversation_is_clean() {
        let found = wrong(json!([
            { "role": "user", "content": [{ "type": "text", "text": "go" }] },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "X", "input": {} }] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "a", "content": "ok" }, { "type": "text", "text": "and" } ] },
        ]));
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn every_breach_is_named() {
        let user = json!({ "role": "user", "content": [{ "type": "text", "text": "go" }] });
        let call = json!({ "role": "assistant",
            "content": [{ "type": "tool_use", "id": "a", "name": "X", "input": {} }] });
        let result = json!({ "type": "tool_result", "tool_use_id": "a", "content": "ok" });
        for (messages, word) in [
            (json!([user, user]), "after one of `user`"),
            (json!([call]), "after one of `assistant`"),
            (json!([user, call]), "without results at the end"),
            (json!([user, call, user]), "has 0 results"),
            (json!([user, call, { "role": "user", "content": [result, result] }]), "has 2 results"),
            (json!([{ "role": "user", "content": [result] }]), "without its call"),
            (json!([{ "role": "user", "content": [] }]), "no content"),
            (json!([{ "role": "user", "content": [{ "type": "text", "text": " " }] }]), "empty text"),
        ] {
            let found = wrong(messages);
            assert!(found.iter().any(|line| line.contains(word)), "{word}: {found:?}");
        }
        let body = json!({ "messages": [user], "temperature": 1 });
        assert!(request(&body, b"").iter().any(|line| line.contains("temperature")));
        assert!(follows("abc", "abd").is_some() && follows("abc", "abcd").is_none());
    }
}
