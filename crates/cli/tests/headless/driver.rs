//! Runs that a program drives over their streams: section 9.3.

use serde_json::{Value, json};
use testkit::model::{Script, Turn, When};

use crate::world::{World, bash, of, until_written, user};

/// Section 9.3, `can_use_tool`: allowed with another input, refused with a reason.
#[tokio::test]
async fn the_driver_decides_about_uses() {
    let world = World::new([
        bash("touch one").and_tool("Bash", json!({ "command": "touch two" })),
        Turn::text("Done."),
    ])
    .await;
    let mut run = world.drive(&["--permission-prompt-tool", "stdio"]);
    let hello = run.ask(json!({ "subtype": "initialize" })).await;
    assert_eq!(hello["subtype"], "success");
    assert!(hello["response"]["commands"].is_array(), "{hello}");
    run.prompt("go").await;
    let asked = run.request("can_use_tool").await;
    let request = &asked["request"];
    assert_eq!(
        (request["tool_name"].as_str(), &request["input"]),
        (Some("Bash"), &json!({ "command": "touch one" }))
    );
    assert!(request["tool_use_id"].is_string() && request["permission_suggestions"].is_array(), "{request}");
    run.answer(&asked, json!({ "behavior": "allow", "updatedInput": { "command": "touch other" } })).await;
    let asked = run.request("can_use_tool").await;
    run.answer(&asked, json!({ "behavior": "deny", "message": "not two" })).await;
    let result = run.result().await;
    assert_eq!(result["permission_denials"].as_array().unwrap().len(), 1);
    let (code, lines) = run.end().await;
    assert_eq!(code, Some(0));
    assert!(world.has("other") && !world.has("one") && !world.has("two"));
    assert_eq!(of(&lines, "system/permission_denied")[0]["message"], "not two");
}

/// Section 9.3: permissions that an answer changes; a refusal that ends the turn.
#[tokio::test]
async fn an_answer_changes_rules_and_ends_turns() {
    let turns = [bash("touch one"), bash("touch two"), bash("rm one"), Turn::text("never")];
    let world = World::new(turns).await;
    let mut run = world.drive(&["--permission-prompt-tool", "stdio"]);
    run.prompt("go").await;
    let asked = run.request("can_use_tool").await;
    let rule = json!({ "toolName": "Bash", "ruleContent": "touch *" });
    let update =
        json!({ "type": "addRules", "rules": [rule], "behavior": "allow", "destination": "session" });
    let answer = json!({ "behavior": "allow", "updatedInput": asked["request"]["input"], "updatedPermissions": [update] });
    run.answer(&asked, answer).await;
    // The second one is allowed by then.
    let asked = run.request("can_use_tool").await;
    assert_eq!(asked["request"]["input"]["command"], "rm one");
    run.answer(&asked, json!({ "behavior": "deny", "message": "stop here", "interrupt": true })).await;
    let result = run.result().await;
    assert_eq!(result["subtype"], "error_during_execution");
    assert_eq!(run.end().await.0, Some(0), "a driver that stops a turn knows it");
    assert!(world.has("one") && world.has("two"));
    assert_eq!(world.model.requests().len(), 3);
}

/// Section 9.3, `hook_callback`: hooks that live with the driver.
#[tokio::test]
async fn hooks_of_the_driver_are_called() {
    let world = World::new([bash("touch one"), Turn::text("Done.")]).await;
    let mut run = world.drive(&["--allowedTools", "Bash"]);
    let hooks = json!({ "PreToolUse": [{ "matcher": "Bash", "hookCallbackIds": ["hook_0"] }],
        "Stop": [{ "hookCallbackIds": ["hook_1"] }] });
    run.ask(json!({ "subtype": "initialize", "hooks": hooks })).await;
    run.prompt("go").await;
    let asked = run.request("hook_callback").await;
    let request = &asked["request"];
    assert_eq!(
        (request["callback_id"].as_str(), request["input"]["tool_name"].as_str()),
        (Some("hook_0"), Some("Bash"))
    );
    assert_eq!(request["tool_use_id"], request["input"]["tool_use_id"]);
    let denial = json!({ "hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": "mine" });
    run.answer(&asked, json!({ "hookSpecificOutput": denial })).await;
    let asked = run.request("hook_callback").await;
    assert_eq!(asked["request"]["callback_id"], "hook_1");
    run.answer(&asked, json!({})).await;
    run.result().await;
    assert!(!world.has("one"));
    let (_, lines) = run.end().await;
    assert!(of(&lines, "user")[0].to_string().contains("mine"));
}

/// Section 9.3, `interrupt`: the command ends, the call has a result, one result of the turn; the next turn works.
#[tokio::test]
async fn an_interrupt_ends_the_turn_and_not_the_run() {
    let world = World::new([bash("echo up > up; sleep 300"), Turn::text("Here again.")]).await;
    let mut run = world.drive(&["--allowedTools", "Bash"]);
    run.prompt("go").await;
    until_written(&world.path("work/project/up")).await;
    let answer = run.ask(json!({ "subtype": "interrupt" })).await;
    assert_eq!(answer["response"]["still_queued"], json!([]));
    let result = run.result().await;
    assert_eq!(
        (result["subtype"].as_str(), result["terminal_reason"].as_str()),
        (Some("error_during_execution"), Some("aborted_tools"))
    );
    assert!(of(&run.seen, "user").len() == 1, "{:#?}", run.seen);
    run.prompt("again").await;
    assert_eq!(run.result().await["result"], "Here again.");
    let (code, lines) = run.end().await;
    assert_eq!((code, of(&lines, "system/init").len()), (Some(0), 2), "init with every turn");
    world.model.assert_clean();
}

/// Section 9.3: mode and model; the mode without questions only where it was allowed; what is not known.
#[tokio::test]
async fn mode_and_model_are_set_while_it_runs() {
    let write = Turn::tool("Write", json!({ "file_path": "made", "content": "x" }));
    let world = World::new([write, Turn::text("Done.")]).await;
    let mut run = world.drive(&[]);
    let refused = run.ask(json!({ "subtype": "set_permission_mode", "mode": "bypassPermissions" })).await;
    assert_eq!(
        (refused["subtype"].as_str(), refused["error_code"].as_str()),
        (Some("error"), Some("bypass_not_launched"))
    );
    let set = run.ask(json!({ "subtype": "set_permission_mode", "mode": "acceptEdits" })).await;
    assert_eq!(set["response"], json!({ "mode": "acceptEdits" }));
    let set = run.ask(json!({ "subtype": "set_model", "model": "another" })).await;
    assert_eq!(set["response"], json!({ "model": "another" }));
    let unknown = run.ask(json!({ "subtype": "make_coffee" })).await;
    assert_eq!(
        (unknown["subtype"].as_str(), unknown["error_code"].as_str()),
        (Some("error"), Some("unsupported_request"))
    );
    run.say(&json!("not for us")).await;
    run.prompt("go").await;
    run.result().await;
    let (_, lines) = run.end().await;
    let init = of(&lines, "system/init")[0];
    assert_eq!(
        (init["permissionMode"].as_str(), init["model"].as_str()),
        (Some("acceptEdits"), Some("another"))
    );
    assert_eq!(of(&lines, "system/status")[0]["permissionMode"], "acceptEdits");
    assert!(world.has("made"));
    assert_eq!(world.model.requests()[0].body["model"], "another");
}

/// Section 9.3, `mcp_message`: a server that lives with the driver.
#[tokio::test]
async fn a_server_of_the_driver_is_used() {
    let world = World::new([Turn::tool("mcp__calc__add", json!({ "a": 1 })), Turn::text("Done.")]).await;
    let config = json!({ "mcpServers": { "calc": { "type": "sdk", "name": "calc" } } }).to_string();
    let mut run = world.drive(&["--mcp-config", &config, "--allowedTools", "mcp__calc__add"]);
    run.prompt("go").await;
    loop {
        let asked = run.request("mcp_message").await;
        let message = &asked["request"]["message"];
        assert_eq!(asked["request"]["server_name"], "calc");
        let result = match message["method"].as_str().unwrap() {
            "initialize" => json!({ "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": { "tools": {} }, "serverInfo": { "name": "calc", "version": "1" } }),
            "tools/list" => json!({ "tools": [{ "name": "add", "inputSchema": { "type": "object" } }] }),
            "tools/call" => json!({ "content": [{ "type": "text", "text": "forty-two" }] }),
            _ => json!({}),
        };
        let is_call = message["method"] == "tools/call";
        let response = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        run.answer(&asked, json!({ "mcp_response": response })).await;
        if is_call {
            break;
        }
    }
    run.result().await;
    let (code, lines) = run.end().await;
    assert_eq!(code, Some(0));
    assert_eq!(of(&lines, "system/init")[0]["mcp_servers"][0]["status"], "connected");
    assert!(of(&lines, "user")[0].to_string().contains("forty-two"));
}

/// Section 9.3: a message while a tool runs joins the turn, `later` is a turn of its own, `now` ends the turn.
#[tokio::test]
async fn messages_come_into_the_turn_or_after_it() {
    let script = Script::default()
        .when(When::last_user("URGENT"), [Turn::text("At once.")])
        .when(When::last_user("LATER-ON"), [bash("echo on > on; sleep 300")])
        .when(When::last_user("MEANWHILE"), [Turn::text("Heard.")])
        .when(When::Always, [bash("echo up > up; until [ -e go ]; do sleep 0.01; done")]);
    let world = World::with(script).await;
    let mut run = world.drive(&["--allowedTools", "Bash"]);
    run.prompt("begin").await;
    until_written(&world.path("work/project/up")).await;
    let with = |text: &str, priority: &str, uuid: &str| {
        let mut line = user(text);
        line["priority"] = priority.into();
        line["uuid"] = uuid.into();
        line
    };
    run.say(&with("LATER-ON", "later", "u-later")).await;
    run.say(&with("MEANWHILE", "next", "u-next")).await;
    run.until(|line| line["type"] == "command_lifecycle" && line["command_uuid"] == "u-next").await;
    world.put("go", "x");
    assert_eq!(run.result().await["result"], "Heard.", "one result for both");
    until_written(&world.path("work/project/on")).await;
    run.say(&with("URGENT", "now", "u-now")).await;
    assert_eq!(run.result().await["terminal_reason"], "aborted_tools");
    assert_eq!(run.result().await["result"], "At once.");
    let (_, lines) = run.end().await;
    let states = |uuid: &str| -> Vec<Value> {
        let of_it = lines.iter().filter(|line| line["command_uuid"] == uuid);
        of_it.map(|line| line["state"].clone()).collect()
    };
    assert_eq!(states("u-later"), ["queued", "started", "completed"]);
    assert_eq!(states("u-next"), ["queued", "started", "completed"]);
    world.model.assert_clean();
}

/// Section 9.3: a driver that goes away is not waited for; what it was asked is refused.
#[tokio::test]
async fn a_driver_that_is_gone_answers_no() {
    let world = World::new([bash("touch made"), Turn::text("Alone.")]).await;
    let mut run = world.drive(&["--permission-prompt-tool", "stdio"]);
    run.prompt("go").await;
    run.request("can_use_tool").await;
    let (code, lines) = run.end().await;
    assert_eq!((code, of(&lines, "result").len()), (Some(0), 1));
    assert!(!world.has("made"));
}

/// Section 3: an answer of the driver does not take back what the command line denies.
#[tokio::test]
async fn denials_of_the_command_line_stay() {
    let turns = [bash("install -d one"), bash("rm there"), Turn::text("Done.")];
    let world = World::new(turns).await;
    world.put("there", "");
    let mut run = world.drive(&["--permission-prompt-tool", "stdio", "--disallowedTools", "Bash(rm *)"]);
    run.prompt("go").await;
    let asked = run.request("can_use_tool").await;
    let rule = json!({ "toolName": "Bash", "ruleContent": "rm *" });
    let update = |kind: &str, behavior: &str| json!({ "type": kind, "rules": [rule], "behavior": behavior });
    let updates = [update("removeRules", "deny"), update("replaceRules", "allow")];
    run.answer(&asked, json!({ "behavior": "allow", "updatedInput": {}, "updatedPermissions": updates }))
        .await;
    run.result().await;
    run.end().await;
    assert!(world.has("there"));
}
