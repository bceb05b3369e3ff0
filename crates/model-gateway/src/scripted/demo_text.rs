//! Reads in a conversation what the played model decides on.

use serde_json::Value;

/// A tool call that the conversation shows, with its result where it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Done {
    pub(super) name: String,
    pub(super) input: Value,
    pub(super) text: String,
    pub(super) is_error: bool,
}

/// The calls since the last prompt, each with its result, in order.
pub(super) fn calls(body: &Value) -> Vec<Done> {
    let empty = Vec::new();
    let messages = body["messages"].as_array().unwrap_or(&empty);
    let mut calls: Vec<(String, Done)> = Vec::new();
    for message in messages {
        for block in message["content"].as_array().unwrap_or(&empty) {
            match block["type"].as_str() {
                Some("tool_use") => calls.push((
                    string(&block["id"]),
                    Done {
                        name: string(&block["name"]),
                        input: block["input"].clone(),
                        text: String::new(),
                        is_error: false,
                    },
                )),
                Some("tool_result") => {
                    let id = string(&block["tool_use_id"]);
                    if let Some((_, done)) = calls.iter_mut().rev().find(|(call, _)| *call == id) {
                        done.text = flat(&block["content"]);
                        done.is_error = block["is_error"] == true;
                    }
                }
                // A prompt begins a new piece of work.
                Some("text") if message["role"] == "user" => calls.clear(),
                _ => {}
            }
        }
    }
    calls.into_iter().map(|(_, done)| done).collect()
}

/// The line of a file that the `Read` tool showed as `<number>\t<text>`, without its number.
pub(super) fn shown_line<'a>(read: &'a str, contains: &str) -> Option<&'a str> {
    read.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(_, text)| text)
        .find(|text| text.contains(contains))
}

/// The last line that says something.
pub(super) fn last_line(text: &str) -> &str {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no output")
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn flat(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}
