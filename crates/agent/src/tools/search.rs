//! `Glob` and `Grep`: searches, made by our own program inside the sandbox.

use std::time::Duration;

use protocol::hands::HandsError;
use serde_json::{Map, Value, json};

use super::call::{GlobInput, GrepInput};
use super::command::attend;
use super::run::Run;
use crate::history::INTERRUPTED;
use crate::outcome::Outcome;

const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The most that is taken of an answer; the program caps its own at 256 KiB of text.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

/// The most characters that the model reads.
const MAX_TEXT: usize = 60_000;

pub(super) async fn glob(input: GlobInput, with: Run<'_>) -> Outcome {
    let path = with.bench.absolute(input.path.as_deref().unwrap_or("."));
    let request = json!({ "pattern": input.pattern, "path": path });
    let found = match ask("glob", request, with).await {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let files: Vec<&str> =
        found["files"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let truncated = found["truncated"] == true;
    let mut content = if files.is_empty() { "No files found".to_owned() } else { files.join("\n") };
    if truncated {
        content.push_str("\n[there are more; use a narrower pattern or path]");
    }
    Outcome::ok(content, json!({ "files": files.len(), "truncated": truncated }))
}

pub(super) async fn grep(input: GrepInput, with: Run<'_>) -> Outcome {
    let mut request = Map::new();
    request.insert("pattern".into(), input.pattern.into());
    request.insert("path".into(), with.bench.absolute(input.path.as_deref().unwrap_or(".")).into());
    let mut add = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            request.insert(field.into(), value);
        }
    };
    add("glob", input.glob.map(Into::into));
    add("type", input.file_type.map(Into::into));
    add("output_mode", input.output_mode.map(|mode| mode.as_str().into()));
    add("before", input.before.map(Into::into));
    add("after", input.after.map(Into::into));
    add("context", input.context.map(Into::into));
    add("line_numbers", input.line_numbers.map(Into::into));
    add("ignore_case", input.ignore_case.map(Into::into));
    add("only_matching", input.only_matching.map(Into::into));
    add("multiline", input.multiline.map(Into::into));
    add("head_limit", input.head_limit.map(Into::into));
    add("offset", input.offset.map(Into::into));
    let found = match ask("grep", Value::Object(request), with).await {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let text = found["text"].as_str().unwrap_or_default();
    let cut = text.floor_char_boundary(MAX_TEXT);
    let truncated = found["truncated"] == true || cut < text.len();
    let mut content = if text.is_empty() { "No matches found".to_owned() } else { text[..cut].to_owned() };
    if truncated {
        content.push_str("\n[there are more; use a narrower pattern, or offset and head_limit]");
    }
    let detail = json!({ "files": found["files"], "matches": found["matches"], "truncated": truncated });
    Outcome::ok(content, detail)
}

/// Runs the search program; its answer, or the outcome that the call has without one.
async fn ask(tool: &str, mut request: Value, with: Run<'_>) -> Result<Value, Outcome> {
    if !with.bench.hidden.is_empty() {
        request["exclude"] = with.bench.hidden.clone().into();
    }
    let words = [tool.to_owned(), request.to_string()];
    let argv = with.bench.guest_program.iter().cloned().chain(words).collect();
    let mut spec = with.bench.spec(argv);
    // The search needs no folder of its own, and must work when the shell's was deleted.
    spec.cwd.clone_from(&with.bench.workspace);
    spec.timeout = Some(TIME_LIMIT);
    let hands = |error: HandsError| Outcome::hands(&error);
    let mut execution = with.bench.hands.start(spec).await.map_err(hands)?;
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let mut take = |bytes: &[u8], is_error: bool| {
        let to: &mut Vec<u8> = if is_error { &mut complaint } else { &mut answer };
        to.extend_from_slice(&bytes[..bytes.len().min(MAX_ANSWER - to.len())]);
    };
    let ended = attend(execution.as_mut(), with.stop, &mut take).await.map_err(hands)?;
    if ended.interrupted {
        return Err(Outcome::failed(INTERRUPTED));
    }
    if ended.end.timed_out {
        return Err(Outcome::failed(format!(
            "the search took longer than {} s and was stopped; use a narrower path or pattern",
            TIME_LIMIT.as_secs()
        )));
    }
    let complaint = String::from_utf8_lossy(&complaint);
    match ended.end.code {
        Some(0) => serde_json::from_slice(&answer).map_err(|error| {
            Outcome::failed(format!("the search program gave an answer that is no JSON: {error}"))
        }),
        Some(2) => Err(Outcome::failed(complaint.trim().to_owned())),
        _ => Err(Outcome::failed(format!("the search failed: {}", complaint.trim()))),
    }
}
