//! Hooks around tools, prompts and ends: `agent-compat` section 4.

use protocol::agent_port::TurnEnd;
use protocol::event::EventBody;
use protocol::status::{StopReason, TurnStatus};
use serde_json::{Value, json};
use testkit::model::Turn;

use crate::permissions::stage;
use crate::stage::Stage;

fn hook(command: &str) -> Value {
    json!([{ "hooks": [{ "type": "command", "command": command }] }])
}

fn on(matcher: &str, command: &str) -> Value {
    json!([{ "matcher": matcher, "hooks": [{ "type": "command", "command": command }] }])
}

fn bash(command: &str) -> Turn {
    Turn::tool("Bash", json!({ "command": command }))
}

fn errors(stage: &Stage) -> Vec<(String, String)> {
    let only =
        |body| if let EventBody::Error(error) = body { Some((error.code, error.message)) } else { None };
    stage.port.bodies().into_iter().filter_map(only).collect()
}

/// 4.2 and 4.3, PreToolUse and PostToolUse: what they read.
#[tokio::test]
async fn hooks_read_what_is_about_to_happen_and_what_happened() {
    let settings = json!({ "env": { "OWN": "1" }, "hooks": {
        "PreToolUse": on("Edit|Write", "cat > pre.json; echo \"$PWD|$CLAUDE_CODE_SESSION_ID|$OWN\" > env"),
        "PostToolUse": on("Write", "cat > post.json"),
        "PostToolUseFailure": on("Bash", "cat > failure.json"),
    } });
    let turns = [
        Turn::tool("Write", json!({ "file_path": "sub/a", "content": "x" })),
        bash("exit 3"),
        Turn::text("ok"),
    ];
    let mut stage = stage(&settings, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let read = |name: &str| -> Value { serde_json::from_str(&stage.read(name)).unwrap() };
    let (before, after, failure) = (read("pre.json"), read("post.json"), read("failure.json"));
    for (value, event) in [(&before, "PreToolUse"), (&after, "PostToolUse"), (&failure, "PostToolUseFailure")]
    {
        assert_eq!((&value["hook_event_name"], &value["session_id"]), (&json!(event), &json!("ses_1")));
        assert_eq!(
            (&value["cwd"], &value["permission_mode"]),
            (&json!(stage.config.workspace), &json!("bypassPermissions"))
        );
        let texts = ["transcript_path", "prompt_id", "tool_name", "tool_use_id"];
        assert!(texts.iter().all(|field| value[*field].is_string()), "{value}");
    }
    assert_eq!(before["tool_input"], json!({ "file_path": stage.full("sub/a"), "content": "x" }), "absolute");
    assert_eq!(
        (&after["tool_response"]["type"], &after["tool_response"]["content"]),
        (&json!("create"), &json!("x"))
    );
    assert!(after["duration_ms"].is_u64());
    assert!(failure["error"].as_str().unwrap().starts_with("Exit code 3"), "{failure}");
    assert_eq!(stage.read("env"), format!("{}|ses_1|1\n", stage.config.workspace));
    stage.model.assert_clean();
}

/// 4.4: exit 2 blocks with standard error as its reason, exit 1 does not.
#[tokio::test]
async fn the_exit_code_two_keeps_a_tool_from_running() {
    let check = "grep -q forbidden && { echo 'that word is forbidden' >&2; exit 2; }; echo odd >&2; exit 1";
    let settings = json!({ "hooks": { "PreToolUse": on("Bash", check) } });
    let turns = [bash("echo forbidden > a"), bash("echo fine > b"), bash("echo fine > c"), Turn::text("ok")];
    let mut stage = stage(&settings, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert!(!stage.path("a").exists() && stage.path("b").exists() && stage.path("c").exists());
    let results = stage.port.results();
    let words = &results[0].content;
    assert!(
        results[0].is_error
            && words.contains("PreToolUse:Bash hook error: ")
            && words.contains("that word is forbidden"),
        "{words}"
    );
    let errors = errors(&stage);
    assert_eq!(errors.len(), 1, "the same failure is told once: {errors:?}");
    assert!(errors[0].0 == "hook_failed" && errors[0].1.contains("ended with 1: odd"), "{errors:?}");
    stage.model.assert_clean();
}

/// 4.3: `updatedInput`, `additionalContext`; a hook's yes does not undo a rule.
#[tokio::test]
async fn json_changes_the_input_adds_context_and_cannot_undo_a_rule() {
    let answer = json!({ "systemMessage": "looked", "hookSpecificOutput": { "hookEventName": "PreToolUse",
        "permissionDecision": "allow", "updatedInput": { "command": "echo changed" }, "additionalContext": "mind the gap" } });
    let denying =
        json!({ "hookSpecificOutput": { "hookEventName": "PreToolUse", "permissionDecision": "allow" } });
    let command = format!("if grep -q '\"rm x'; then echo '{denying}'; else echo '{answer}'; fi");
    let settings =
        json!({ "permissions": { "deny": ["Bash(rm *)"] }, "hooks": { "PreToolUse": on("Bash", &command) } });
    let mut stage = stage(&settings, [bash("echo first"), bash("rm x"), Turn::text("ok")]).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let results = stage.port.results();
    assert_eq!(
        results[0].content,
        "changed\n\n<system-reminder>\nPreToolUse:Bash hook additional context: mind the gap\n</system-reminder>"
    );
    assert_eq!(results[0].detail["input"]["command"], "echo changed");
    assert_eq!(results[1].detail["denied"]["rule"], "Bash(rm *)");
    assert_eq!(errors(&stage)[0], ("hook_message".into(), "PreToolUse says: looked".into()));
    stage.model.assert_clean();
}

/// 4.3, PostToolUse: exit 2 tells the model, and the work stands.
#[tokio::test]
async fn what_a_hook_says_after_a_tool_reaches_the_model() {
    let settings = json!({ "hooks": { "PostToolUse": on("Write", "echo 'lint: bad' >&2; exit 2") } });
    let turns = [Turn::tool("Write", json!({ "file_path": "a", "content": "x" })), Turn::text("ok")];
    let mut stage = stage(&settings, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let result = &stage.port.results()[0];
    assert!(
        !result.is_error && result.content.contains("PostToolUse:Write hook blocking error: "),
        "{}",
        result.content
    );
    assert!(result.content.contains("lint: bad") && stage.path("a").exists());
}

/// 4.3, UserPromptSubmit: text is context; the exit code 2 rejects the prompt, which the model never sees.
#[tokio::test]
async fn a_prompt_gets_context_or_is_refused() {
    let command = "read -r line; case $line in *secret*) echo 'no secrets' >&2; exit 2;; esac; echo \"it is $(echo Monday)\"";
    let settings = json!({ "hooks": { "UserPromptSubmit": hook(command) } });
    let mut stage = stage(&settings, [Turn::text("ok"), Turn::text("ok again")]).await;
    assert_eq!(stage.turn("first").await, TurnEnd::completed());
    let end = stage.turn("tell the secret").await;
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Failed, StopReason::Hook));
    assert!(end.message.clone().unwrap().contains("no secrets"), "{end:?}");
    // The session's log has the end; a new process folds it.
    let ended = protocol::event::TurnEnded {
        status: end.status,
        stop_reason: end.stop_reason,
        message: end.message,
        duration_ms: 1,
    };
    stage.port.push(vec![EventBody::TurnEnded(ended)]);
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("second").await, TurnEnd::completed());
    let requests = stage.model.requests();
    assert_eq!(requests.len(), 2);
    let last = requests[1].body["messages"].to_string();
    assert!(last.contains("first") && last.contains("second") && last.contains("it is Monday"), "{last}");
    assert!(!last.contains("tell the secret"), "{last}");
    stage.model.assert_clean();
}

/// 4.3, Stop: a block goes on with the reason; `stop_hook_active` says so; the cap is eight.
#[tokio::test]
async fn a_stop_hook_holds_the_turn_until_it_is_content() {
    let command =
        "tee -a seen | grep -q '\"stop_hook_active\":true' && exit 0; echo 'run the tests first' >&2; exit 2";
    let settings = json!({ "hooks": { "Stop": hook(command) } });
    let mut held = stage(&settings, [Turn::text("done?"), Turn::text("done!")]).await;
    assert_eq!(held.turn("go").await, TurnEnd::completed());
    let last = held.model.requests()[1].body["messages"].to_string();
    assert!(last.contains("Stop hook feedback:") && last.contains("run the tests first"), "{last}");
    let seen = held.read("seen");
    assert!(seen.contains("\"last_assistant_message\":\"done?\""), "{seen}");
    held.model.assert_clean();

    let settings = json!({ "hooks": { "Stop": hook("exit 2") } });
    let mut endless = stage(&settings, vec![Turn::text("done"); 9]).await;
    assert_eq!(endless.turn("go").await, TurnEnd::completed());
    assert_eq!(endless.model.requests().len(), 9);
    assert!(errors(&endless)[0].1.contains("held the turn 8 times"));
    endless.model.assert_clean();
}

/// 4.4, `continue: false`: everything ends; calls that did not run have a result all the same.
#[tokio::test]
async fn a_hook_can_end_the_turn() {
    let settings = json!({ "hooks": { "PostToolUse": on("Bash", "echo '{\"continue\":false,\"stopReason\":\"enough\"}'") } });
    let both = Turn::tool("Bash", json!({ "command": "echo 1" }))
        .and_tool("Bash", json!({ "command": "touch never" }));
    let mut stage = stage(&settings, [both, Turn::text("again")]).await;
    let end = stage.turn("go").await;
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Completed, StopReason::Hook));
    assert!(end.message.unwrap().contains("enough") && !stage.path("never").exists());
    assert_eq!(stage.port.results().len(), 2);
    assert_eq!(stage.turn("go on").await, TurnEnd::completed());
    stage.model.assert_clean();
}

/// 4.3, PermissionRequest: a hook answers in place of the person.
#[tokio::test]
async fn a_hook_can_answer_a_question() {
    let answer = |behavior: &str| json!({ "hookSpecificOutput": { "hookEventName": "PermissionRequest", "decision": { "behavior": behavior, "message": "not now" } } });
    let command =
        format!("if grep -q 'push a'; then echo '{}'; else echo '{}'; fi", answer("allow"), answer("deny"));
    let settings = json!({ "permissions": { "ask": ["Bash(git push *)"] }, "hooks": { "PermissionRequest": on("Bash", &command) } });
    let turns = [bash("git push a || touch a"), bash("git push b || touch b"), Turn::text("ok")];
    let mut stage = stage(&settings, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert!(stage.path("a").exists() && !stage.path("b").exists());
    assert!(stage.port.asked.lock().unwrap().is_empty());
    assert!(stage.port.results()[1].content.contains("not now"));
}

/// Hostile hooks: one that hangs, one that floods, one that is not there; the turn goes on.
#[tokio::test]
async fn hooks_that_hang_or_flood_are_bounded_and_decide_nothing() {
    let handler =
        |command: &str, timeout: f64| json!({ "type": "command", "command": command, "timeout": timeout });
    let settings = json!({ "hooks": { "PreToolUse": [{ "hooks": [
        handler("sleep 1000", 0.2), handler("yes", 30.0), { "type": "command", "command": "/nowhere/at/all", "args": [] },
    ] }] } });
    let mut stage = stage(&settings, [bash("echo fine"), Turn::text("ok")]).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(stage.port.results()[0].content, "fine");
    let errors = errors(&stage);
    assert_eq!(errors.len(), 3, "{errors:?}");
    for (word, count) in [("took longer than 0.2 s", 1), ("said more than", 1), ("could not run", 2)] {
        assert_eq!(
            errors.iter().filter(|(_, message)| message.contains(word)).count(),
            count,
            "{word}: {errors:?}"
        );
    }
}

/// 4.1, `args`: a program of its own, with the project's folder put in.
#[tokio::test]
async fn arguments_are_passed_as_they_are() {
    let handler = json!({ "type": "command", "command": "sh", "args": ["-c", "echo \"$0\" > arg", "${CLAUDE_PROJECT_DIR}/two words"] });
    let settings = json!({ "hooks": { "PreToolUse": [{ "hooks": [handler] }] } });
    let mut stage = stage(&settings, [bash("true"), Turn::text("ok")]).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(stage.read("arg"), format!("{}/two words\n", stage.config.workspace));
}

/// A stop while a hook runs ends the turn at once.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_hook() {
    let settings = json!({ "hooks": { "PreToolUse": on("Bash", "touch running; sleep 1000") } });
    let mut stage = stage(&settings, [bash("touch never"), Turn::text("ok")]).await;
    let (stop, running) = (stage.stop.clone(), stage.path("running"));
    let watch = tokio::spawn(async move {
        while !running.exists() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    });
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), stage.turn("go")).await.unwrap();
    watch.await.unwrap();
    assert_eq!(end, TurnEnd::interrupted());
    assert!(!stage.path("never").exists());
}
