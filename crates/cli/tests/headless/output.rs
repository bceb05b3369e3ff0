//! What a run prints, and how it ends: sections 9.1 and 9.2.

use std::collections::HashSet;
use std::process::Stdio;

use serde_json::json;
use testkit::model::Turn;
use tokio::io::AsyncWriteExt as _;

use crate::world::{World, bash, of};

/// Section 9.1: `text` prints only the final text; what is piped stands behind the prompt.
#[tokio::test]
async fn text_is_the_last_words_alone() {
    let world = World::new([
        Turn::text("Looking.").and_tool("Bash", json!({ "command": "ls" })),
        Turn::text("Done."),
    ])
    .await;
    let mut command = world.command(&["-p", "first"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"second").await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Done.\n");
    assert!(output.status.success());
    assert!(world.said(0).ends_with("first\nsecond"), "{}", world.said(0));
    world.model.assert_clean();
}

/// Section 9.1: `json` is the whole result object, once.
#[tokio::test]
async fn json_is_one_object() {
    let world = World::new([Turn::text("Hello.").usage([10, 20, 30, 40])]).await;
    let ran = world.run(&["-p", "hi", "--output-format", "json"]).await.ended(0);
    assert_eq!(ran.lines().len(), 1);
    let result = ran.result();
    for (field, value) in [
        ("subtype", json!("success")),
        ("is_error", json!(false)),
        ("result", json!("Hello.")),
        ("num_turns", json!(1)),
        ("stop_reason", json!("end_turn")),
        ("terminal_reason", json!("completed")),
        ("permission_denials", json!([])),
        ("queued_turn_count", json!(0)),
    ] {
        assert_eq!(result[field], value, "{field}");
    }
    let usage = json!({ "input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 40 });
    assert_eq!(result["usage"], usage);
    assert_eq!(result["modelUsage"]["scripted-model"]["cacheReadInputTokens"], 30);
    for field in ["duration_ms", "duration_api_ms", "total_cost_usd"] {
        assert!(result[field].is_number(), "{field}");
    }
}

/// Section 9.2: init, a line per block, results with their structure, one result, ids everywhere.
#[tokio::test]
async fn a_stream_has_a_line_for_everything() {
    let answer = Turn::text("Two things.")
        .and_tool("Bash", json!({ "command": "echo out; pwd" }))
        .and_tool("Read", json!({ "file_path": "README" }));
    let world = World::new([answer, Turn::text("Done.")]).await;
    world.put("README", "hello\n");
    let ran = world.stream(&["-p", "go"]).await.ended(0);
    let lines = ran.lines();
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    let expected = ["system", "assistant", "assistant", "assistant", "user", "user", "assistant", "result"];
    assert_eq!(kinds, expected);
    let init = &lines[0];
    assert_eq!(init["subtype"], "init");
    assert_eq!(init["cwd"], world.path("work/project").to_str().unwrap());
    assert_eq!(
        (init["model"].as_str(), init["permissionMode"].as_str()),
        (Some("scripted-model"), Some("default"))
    );
    assert_eq!(init["apiKeySource"], "ANTHROPIC_API_KEY");
    for field in ["tools", "mcp_servers", "slash_commands", "agents", "skills", "plugins"] {
        assert!(init[field].is_array(), "{field}");
    }
    assert!(init["tools"].as_array().unwrap().contains(&json!("Task")), "the original's name of it");
    let ids: HashSet<&str> = lines[1..4].iter().map(|line| line["message"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "blocks of one message have its id");
    assert!(lines[1..4].iter().all(|line| line["message"]["content"].as_array().unwrap().len() == 1));
    let results = of(&lines, "user");
    let bash = &results.iter().find(|line| line["tool_use_result"]["stdout"].is_string()).unwrap()["tool_use_result"];
    assert!(bash["stdout"].as_str().unwrap().starts_with("out\n"), "{bash}");
    let read =
        &results.iter().find(|line| line["tool_use_result"]["type"] == "text").unwrap()["tool_use_result"];
    assert_eq!(read["file"]["filePath"], "README");
    assert_eq!(results[0]["tool_result_meta"][0]["permission_decision"], "allow");
    let sessions: HashSet<&str> = lines.iter().map(|line| line["session_id"].as_str().unwrap()).collect();
    let uuids: HashSet<&str> = lines.iter().map(|line| line["uuid"].as_str().unwrap()).collect();
    assert_eq!((sessions.len(), uuids.len()), (1, lines.len()));
    assert_eq!(ran.result()["num_turns"], 2);
    world.model.assert_clean();
}

/// Section 9.2, `stream_event`: the events of the API as they are.
#[tokio::test]
async fn partial_messages_are_the_events_of_the_api() {
    let world = World::new([Turn::text("abcdef").chunk(3)]).await;
    let lines = world.stream(&["-p", "go", "--include-partial-messages"]).await.ended(0).lines();
    let events: Vec<&str> =
        of(&lines, "stream_event").iter().map(|line| line["event"]["type"].as_str().unwrap()).collect();
    assert_eq!((events.first(), events.last()), (Some(&"message_start"), Some(&"message_stop")));
    assert_eq!(events.iter().filter(|kind| **kind == "content_block_delta").count(), 2);
    let start = of(&lines, "stream_event")[0];
    assert!(start["ttft_ms"].is_number() && start["parent_tool_use_id"].is_null(), "{start}");
    let world = World::new([Turn::text("abcdef")]).await;
    let lines = world.stream(&["-p", "go"]).await.ended(0).lines();
    assert_eq!(of(&lines, "stream_event").len(), 0, "only where they are asked for");
}

/// Section 9.1, exit codes; section 9.2: an API failure is a `success` that is an error, limits have subtypes.
#[tokio::test]
async fn failures_have_their_subtypes_and_codes() {
    let world = World::new([Turn::error(401, "bad key")]).await;
    let ran = world.stream(&["-p", "go"]).await.ended(1);
    let result = ran.result();
    assert_eq!((result["subtype"].as_str(), result["is_error"].as_bool()), (Some("success"), Some(true)));
    assert_eq!(result["terminal_reason"], "api_error");
    assert!(result["result"].as_str().unwrap().contains("bad key"), "{result}");
    let lines = ran.lines();
    assert_eq!(of(&lines, "assistant")[0]["message"]["model"], "<synthetic>");
    assert_eq!(world.model.requests().len(), 1, "a key that is refused is not tried again");
    let world = World::new([bash("true"), bash("true"), bash("true")]).await;
    let result = world.stream(&["-p", "go", "--max-turns", "2"]).await.ended(1).result();
    assert_eq!(
        (result["subtype"].as_str(), result["terminal_reason"].as_str()),
        (Some("error_max_turns"), Some("max_turns"))
    );
    assert_eq!(result["num_turns"], 2);
    assert!(!result["errors"].as_array().unwrap().is_empty());
    assert!(result.get("result").is_none());
}

/// Section 9.2, `system/api_retry`.
#[tokio::test]
async fn retries_are_told() {
    let world = World::new([Turn::error(529, "busy").header("retry-after", "0"), Turn::text("Here.")]).await;
    let ran = world.stream(&["-p", "go"]).await.ended(0);
    let lines = ran.lines();
    let retry = of(&lines, "system/api_retry")[0];
    assert_eq!((retry["attempt"].as_u64(), retry["max_retries"].as_u64()), (Some(1), Some(10)));
    assert!(retry["retry_delay_ms"].is_number() && retry["error"].is_string(), "{retry}");
    assert_eq!(ran.result()["result"], "Here.");
}

/// Section 9.1: bad flags, and what is needed, end with 1 before anything is asked.
#[tokio::test]
async fn what_makes_no_sense_ends_with_1() {
    let world = World::new([]).await;
    for (arguments, words) in [
        (vec!["-p", "x", "--output-format", "stream-json"], "--verbose"),
        (vec!["-p", "x", "--nonsense"], "--nonsense"),
        (vec!["-p"], "give a task"),
        (vec!["-p", "x", "--resume", "00000000-0000-4000-8000-000000000000"], "no conversation found"),
        (vec!["-p", "x", "--resume", "../../etc/passwd"], "no conversation found"),
        (vec!["-p", "x", "--continue"], "no conversation found"),
        (vec!["-p", "x", "--session-id", "seven"], "no UUID"),
        (vec!["-p", "x", "--permission-mode", "sometimes"], "--permission-mode"),
        (vec!["-p", "x", "--settings", "{"], "--settings"),
        (vec!["-p", "x", "--mcp-config", "{\"mcpServers\":{\"a\":{}}}"], "--mcp-config"),
    ] {
        let ran = world.run(&arguments).await.ended(1);
        assert!(ran.err().contains(words), "{arguments:?}: {}", ran.err());
    }
    let mut command = world.command(&["-p", "x"]);
    command.env_remove("ANTHROPIC_API_KEY");
    let ran = world.run_of(command).await.ended(1);
    assert!(ran.err().contains("ANTHROPIC_API_KEY"), "{}", ran.err());
    assert_eq!(world.model.requests().len(), 0);
    let world = World::new([Turn::text("Fine.")]).await;
    let ran = world.run(&["-p", "x", "--effort", "high", "--include-hook-events"]).await.ended(0);
    assert!(ran.err().contains("--effort") && ran.out() == "Fine.\n", "{}", ran.err());
}
