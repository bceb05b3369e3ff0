//! MCP servers in real sandboxes: section 8 of the compatibility specification, and row C09 of the escape matrix.

use protocol::event::{Event, EventBody, Step};
use protocol::ids::SessionId;
use serde_json::{Value, json};
use testkit::harness::{Repo, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::setup::{finished, printed};
use crate::world::{bash, check_log, completed, ends, results, serve};

const SERVER: &str = include_str!("mcp_server.py");

/// An entry for the server of these tests.
fn entry(mode: &str) -> Value {
    json!({ "command": "python3", "args": ["mcp_server.py", mode] })
}

/// A repository that names these servers.
fn repository(name: &str, servers: &Value, settings: &Value) -> Repo {
    let (servers, settings) = (json!({ "mcpServers": servers }).to_string(), settings.to_string());
    let files = [
        ("mcp_server.py", SERVER),
        (".mcp.json", servers.as_str()),
        (".claude/settings.json", settings.as_str()),
    ];
    Repo::with(name, &files)
}

fn call(tool: &str, input: Value) -> Turn {
    Turn::tool(&format!("mcp__notes__{tool}"), input)
}

/// The names of the tools that a request offers.
fn offered(body: &Value) -> Vec<&str> {
    body["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect()
}

/// What commands answered, in order.
fn outputs(events: &[Event]) -> Vec<&str> {
    let mut all = Vec::new();
    for event in events {
        if let EventBody::CommandRan(ran) = &event.body {
            all.extend(ran.output.as_deref());
        }
    }
    all
}

/// Tools, their inputs and results, images, rules and hooks, resources, prompts, and what people see.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_repository_is_as_good_as_our_own_tools() {
    let mut notes = entry("good");
    notes["args"] = json!(["mcp_server.py", "good", "${NOTES_DIR}/${MISSING:-none}", "${UNSET}"]);
    notes["env"] = json!({ "OWN": "${NOTES_DIR}" });
    let settings = json!({
        "env": { "NOTES_DIR": "/notes" },
        "permissions": { "deny": ["mcp__notes__forbidden"] },
        "hooks": { "PreToolUse": [{ "matcher": "mcp__notes__.*", "hooks":
            [{ "type": "command", "command": "cat > /tmp/hook" }] }] },
    });
    let turns = [
        call("echo", json!({ "text": "hello" })),
        bash("cat /tmp/hook"),
        call("where", json!({})),
        call("picture", json!({})),
        call("structured", json!({})),
        call("fails", json!({})),
        call("refuses", json!({})),
        call("forbidden", json!({})),
        call("nothing", json!({})),
        Turn::tool("ListMcpResourcesTool", json!({})),
        Turn::tool("ReadMcpResourceTool", json!({ "server": "notes", "uri": "memo://one" })),
        call("echo", json!({ "text": "1" })).and_tool("mcp__notes__echo", json!({ "text": "2" })),
        Turn::text("done"),
        Turn::text("hello Bonn"),
        Turn::text("read"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let repo = repository("served", &json!({ "notes": notes }), &settings);
    let session = server.create(&repo, "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);

    let told = printed(&events, Step::Mcp);
    assert!(told.contains("notes: connected, 14 tools (1 cannot be used), 1 prompt, resources"), "{told}");
    assert!(told.contains("the variable `UNSET` is not set"), "{told}");

    let results = results(&events);
    let text = |at: usize| results[at].content.as_str();
    assert_eq!(text(0), "hello");
    let hook: Value = serde_json::from_str(text(1).trim()).unwrap();
    assert_eq!(hook["tool_name"], "mcp__notes__echo");
    assert_eq!(hook["mcp_server"], json!({ "name": "notes", "source": "project" }));
    assert_eq!(hook["tool_input"], json!({ "text": "hello" }));
    let place: Value = serde_json::from_str(text(2)).unwrap();
    assert_eq!(place["cwd"], repo.workspace());
    assert_eq!(place["project"], repo.workspace());
    assert_eq!(place["own"], "/notes");
    assert_eq!(place["args"], json!(["/notes/none", "${UNSET}"]));
    assert_eq!(place["call"], results[2].call);
    assert_eq!(text(3), "[image, image/png, 1 × 1]");
    assert_eq!(text(4), "{\"answer\":42}");
    assert_eq!((text(5), results[5].is_error), ("it is broken", true));
    assert_eq!((text(6), results[6].is_error), ("no such thing", true));
    assert!(text(7).contains("the rule `mcp__notes__forbidden` of .claude/settings.json"), "{}", text(7));
    assert!(text(8).contains("there is no tool named `mcp__notes__nothing`"), "{}", text(8));
    assert!(text(9).contains("memo://one") && text(9).contains("\"server\":\"notes\""), "{}", text(9));
    assert!(text(10).contains("a memo of memo://one"), "{}", text(10));
    let mut both = [text(11), text(12)];
    both.sort_unstable();
    assert_eq!(both, ["1", "2"]);

    server.prompt(session, "/mcp").await;
    server.prompt(session, "/mcp__notes__greet Bonn").await;
    server.prompt(session, "look at @notes:memo://two, please").await;
    let events = server.until_rest(session, 4).await;
    completed(&events);
    let shown = outputs(&events);
    assert!(shown[0].contains("| notes (project) | connected, 14 tools"), "{}", shown[0]);
    assert!(shown[0].contains("`/mcp__notes__greet`: Greets [whom]"), "{}", shown[0]);

    let requests = model.requests();
    let names = offered(&requests[0].body);
    let at = names.iter().position(|name| *name == "mcp__notes__echo").unwrap();
    assert_eq!(names[at + 1], "mcp__notes__where", "as the server lists them");
    assert!(names.contains(&"ListMcpResourcesTool"));
    assert!(!names.contains(&"mcp__notes__forbidden") && !names.contains(&"mcp__notes__broken"));
    let first = requests[0].body["messages"].to_string();
    assert!(first.contains("Echo before you leap."), "{first}");
    let picture = requests[4].body["messages"].to_string();
    assert!(picture.contains(r#""media_type":"image/png""#), "{picture}");
    let last =
        |request: usize| requests[request].body["messages"].as_array().unwrap().last().unwrap().to_string();
    assert!(last(13).contains("Say hello to Bonn."), "{}", last(13));
    assert!(last(14).contains("a memo of memo://two"), "{}", last(14));
    check_log(&server, session).await;
    model.assert_clean();
}

/// Servers that die, flood, lie, hang and never end: each is told, and the session goes on.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_servers_are_bounded_and_told() {
    let mut hanging = entry("good");
    hanging["timeout"] = json!(1500);
    let servers = json!({ "notes": entry("good"), "dead": entry("dead"), "mute": entry("mute"),
        "spring": entry("spring"), "absent": { "command": "/no/such/program" }, "slow": hanging });
    let settings = json!({ "env": { "MCP_TIMEOUT": "8000", "MAX_MCP_OUTPUT_TOKENS": "1000" } });
    let turns = [
        call("lies", json!({})),
        call("big", json!({ "bytes": 2_000_000 })),
        call("big", json!({ "bytes": 40_000_000 })),
        call("floods", json!({})),
        call("echo", json!({ "text": "again" })),
        call("dies", json!({})),
        call("echo", json!({ "text": "once more" })),
        Turn::tool("mcp__slow__hangs", json!({})),
        Turn::tool("mcp__slow__echo", json!({ "text": "still here" })),
        bash(
            "tail -c 10 /tmp/patchyard/output-*.txt; grep -lz 'sprin[g]' /proc/[0-9]*/cmdline 2>/dev/null | wc -l",
        ),
        Turn::text("done"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let mut capped = servers.clone();
    capped["notes"]["timeout"] = json!(20_000);
    let session = server.create(&repository("hostile", &capped, &settings), "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);

    let told = printed(&events, Step::Mcp);
    for words in [
        "dead: failed: it ended: no such database",
        "mute: failed: it did not start within 8 s",
        "absent: failed: /no/such/program: no such file or directory",
        "spring: failed: ",
        "notes: connected",
        "slow: connected",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = finished(&events, Step::Mcp).unwrap();
    assert!(told.starts_with("4 of 6 MCP servers do not work: "), "{told}");
    let first = model.requests()[0].body["messages"].to_string();
    assert!(first.contains("- dead: failed: it ended: no such database"), "{first}");

    let results = results(&events);
    let text = |at: usize| results[at].content.as_str();
    assert_eq!(text(0), "the truth");
    assert!(
        text(1).len() < 10_000 && text(1).contains("the whole result is in /tmp/patchyard/"),
        "{}",
        text(1).len()
    );
    assert!(results[2].is_error, "{}", text(2));
    assert!(results[3].is_error && text(3).contains("the server went away"), "{}", text(3));
    assert!(text(3).contains("more than 64 MB"), "{}", text(3));
    assert!(text(4).starts_with("again") && text(4).contains("was started again"), "{}", text(4));
    assert!(text(5).contains("the server went away: I had enough"), "{}", text(5));
    assert!(text(6).starts_with("once more"), "{}", text(6));
    assert!(text(7).contains("did not answer within 1.5 s"), "{}", text(7));
    assert!(text(8).starts_with("still here"), "{}", text(8));
    assert!(text(9).contains("xxxxxxxxxx") && text(9).trim_end().ends_with('0'), "{}", text(9));
    check_log(&server, session).await;
    model.assert_clean();
}

/// The operator's lists, the repository's own, and the operator's servers.
#[tokio::test(flavor = "multi_thread")]
async fn lists_say_which_servers_start() {
    let turns = [Turn::tool("mcp__ours__echo", json!({ "text": "hi" })), Turn::text("done")];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let folder = tempfile::tempdir().unwrap();
    let write =
        |name: &str, value: &Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    write("managed-mcp.json", &json!({ "mcpServers": { "ours": entry("good") } }));
    let allowed = json!([{ "serverName": "ours" }, { "serverName": "notes" }, { "serverName": "off" },
        { "serverName": "bad" }, { "serverName": "new" }, { "serverCommand": ["python3", "mcp_server.py", "good"] }]);
    write(
        "managed-settings.json",
        &json!({ "allowedMcpServers": allowed, "deniedMcpServers": [{ "serverName": "bad" }],
            "enableAllProjectMcpServers": false, "enabledMcpjsonServers": ["notes", "off", "other"] }),
    );
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = format!("[settings]\nmanaged = {:?}\n", folder.path());
    let server = serve().model(&model).config(&config).start().await;
    let servers = json!({ "ours": { "command": "false" }, "notes": entry("good"), "off": entry("good"),
        "bad": entry("good"), "new": entry("good"), "other": entry("other"), "wrong": { "url": "https://a.org" } });
    let settings = json!({ "disabledMcpjsonServers": ["off"], "enabledMcpjsonServers": ["new"],
        "allowedMcpServers": allowed });
    let session = server.create(&repository("listed", &servers, &settings), "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    assert_eq!(results(&events)[0].content, "hi", "the operator's entry counts");
    let told = printed(&events, Step::Mcp);
    for words in [
        "ours: connected",
        "notes: connected",
        "off: not used: disabledMcpjsonServers of .claude/settings.json names it",
        "bad: not used: deniedMcpServers of managed-settings.json denies it",
        "new: needs approval: ",
        "other: not used: allowedMcpServers of managed-settings.json does not name it",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = printed(&events, Step::Workspace);
    assert!(told.contains(".mcp.json: the server `wrong` is left out: it has a `url`"), "{told}");

    write("managed-settings.json", &json!({ "useEnterpriseMcpConfigOnly": true }));
    let model = ScriptedModel::start(Script::turns([Turn::text("done")])).await;
    let server = serve().model(&model).config(&config).start().await;
    let session = server.create(&repository("ours", &servers, &settings), "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let told = printed(&events, Step::Mcp);
    assert!(told.contains("ours: ") && !told.contains("notes: "), "{told}");
    assert!(printed(&events, Step::Workspace).contains("the operator's servers are the only ones here"));
}

/// A stop is told to the server; a server of ours that dies and comes back starts them again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_cancels_a_call_and_servers_outlive_nothing() {
    let turns = [
        call("waits", json!({})),
        bash("for i in $(seq 50); do [ -e /tmp/waited ] && break; sleep 0.1; done; cat /tmp/waited"),
        call("echo", json!({ "text": "after the stop" })),
        Turn::text("done"),
        call("echo", json!({ "text": "in another sandbox" })),
        Turn::text("done"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let session =
        server.create(&repository("stopped", &json!({ "notes": entry("good") }), &json!({})), "go").await;
    let called = |events: &[Event]| events.iter().any(|event| matches!(event.body, EventBody::ToolCall(_)));
    server.until(session, called).await;
    server.cli(&["sessions", "stop", &session.to_string()]).await.exits(0);
    let events = server.until_rest(session, 1).await;
    assert!(
        results(&events)[0].content.contains("interrupted by the user"),
        "{}",
        results(&events)[0].content
    );
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(results(&events)[1].content.trim(), "cancelled");
    assert_eq!(results(&events)[2].content, "after the stop", "the same server");

    server.cli(&["sessions", "archive", &session.to_string()]).await.exits(0);
    server.prompt(session, "again").await;
    let events = server.until_rest(session, 3).await;
    completed(&events);
    assert_eq!(results(&events)[3].content, "in another sandbox");
    assert_eq!(ends(&events).len(), 3);
    check_log(&server, session).await;
    model.assert_clean();
}

/// HTTP: a server in the sandbox is reached there, and a host that nothing allows is refused as for any program.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_speak_http_are_reached_from_inside() {
    let turns = [
        Turn::tool("mcp__near__where", json!({})),
        Turn::tool("mcp__near__echo", json!({ "text": "over HTTP" })),
        Turn::tool("mcp__near__picture", json!({})),
        Turn::text("done"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let servers = json!({
        "near": { "type": "http", "url": "http://127.0.0.1:${PORT}/mcp", "headers": { "X-Key": "${KEY}" } },
        "far": { "type": "http", "url": "https://mcp.example.org/mcp" },
        "closed": { "type": "http", "url": "http://127.0.0.1:1/mcp" },
        "user": { "type": "http", "url": "https://me@mcp.example.org/mcp" },
    });
    let start = "nohup setsid python3 mcp_server.py http:8765 >/dev/null 2>&1 & \
                 for i in $(seq 100); do python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8765))' \
                 2>/dev/null && exit 0; sleep 0.1; done; exit 1";
    let settings = json!({ "env": { "PORT": "8765", "KEY": "of the session" },
        "hooks": { "SessionStart": [{ "hooks": [{ "type": "command", "command": start }] }] } });
    let session = server.create(&repository("far", &servers, &settings), "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let told = printed(&events, Step::Mcp);
    assert!(told.contains("near: connected, 14 tools"), "{told}");
    assert!(told.contains("far: failed: ") && told.contains("mcp.example.org:443 was refused: "), "{told}");
    assert!(told.contains("closed: failed: ") && told.contains("127.0.0.1:1 cannot be reached"), "{told}");
    assert!(told.contains("user: not used: its address names a user"), "{told}");
    let results = results(&events);
    assert_eq!(results[0].content, "{\"key\": \"of the session\"}");
    assert_eq!(results[1].content, "over HTTP");
    assert_eq!(results[2].content, "[image, image/png, 1 × 1]");
    denied(&server, session, "mcp.example.org").await;
    model.assert_clean();
}

/// Waits until the log tells that a host was refused.
async fn denied(server: &TestServer, session: SessionId, host: &str) {
    let is_it =
        |event: &Event| matches!(&event.body, EventBody::NetworkDenied(denied) if denied.host == host);
    server.until(session, |events| events.iter().any(is_it)).await;
}

/// Row C09: a server of `.mcp.json` starts inside the sandbox, under the same policy as everything there.
#[tokio::test(flavor = "multi_thread")]
async fn c09_a_server_of_the_repository_runs_inside_under_the_sessions_policy() {
    let turns = [
        call("where", json!({})),
        call("reach", json!({ "host": "evil.example.org" })),
        bash("cat /proc/1/comm"),
        Turn::text("done"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let session =
        server.create(&repository("inside", &json!({ "notes": entry("good") }), &json!({})), "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let results = results(&events);
    let place: Value = serde_json::from_str(&results[0].content).unwrap();
    assert_eq!(place["init"], results[2].content.trim(), "the same process 1 as that of commands");
    assert_eq!(place["interfaces"], json!(["lo"]));
    assert!(results[1].content.contains("403"), "{}", results[1].content);
    denied(&server, session, "evil.example.org").await;
    model.assert_clean();
}
