//! What may run here, where no sandbox is around it: section 3.

use serde_json::{Value, json};
use testkit::model::Turn;

use crate::world::{World, bash, of};

fn write(path: &str) -> Turn {
    Turn::tool("Write", json!({ "file_path": path, "content": "new\n" }))
}

fn settings(permissions: Value) -> String {
    json!({ "permissions": permissions }).to_string()
}

/// Section 3, "Order": in plain `-p` what would be asked is denied, and told.
#[tokio::test]
async fn what_would_be_asked_is_refused_and_told() {
    let world = World::new([
        write("made")
            .and_tool("Read", json!({ "file_path": "there" }))
            .and_tool("Bash", json!({ "command": "touch made2" })),
        Turn::text("I could not."),
    ])
    .await;
    world.put("there", "text\n");
    let ran = world.stream(&["-p", "go"]).await.ended(0);
    let result = ran.result();
    let denied: Vec<&str> = result["permission_denials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["tool_name"].as_str().unwrap())
        .collect();
    assert_eq!(denied, ["Write", "Bash"]);
    assert_eq!(result["permission_denials"][0]["tool_input"]["file_path"], "made");
    assert_eq!((result["subtype"].as_str(), result["is_error"].as_bool()), (Some("success"), Some(false)));
    let lines = ran.lines();
    let told = of(&lines, "system/permission_denied");
    assert_eq!(told.len(), 2);
    assert!(told[0]["message"].as_str().unwrap().contains("nobody is here to allow it"), "{}", told[0]);
    assert!(!world.has("made") && !world.has("made2"));
    assert!(lines.iter().any(|line| line["tool_use_result"]["type"] == "text"), "what only looks runs");
}

/// Section 3: modes and rules of the command line.
#[tokio::test]
async fn modes_and_rules_of_the_command_line_hold() {
    for (arguments, ran) in [
        (vec!["--permission-mode", "acceptEdits"], [true, false]),
        (vec!["--allowedTools", "Bash(install *)"], [false, true]),
        (vec!["--allowedTools", "Bash Write"], [true, true]),
        (vec!["--allowedTools", "Edit,Bash"], [false, true]),
        (vec!["--dangerously-skip-permissions"], [true, true]),
        (vec!["--permission-mode", "bypassPermissions", "--disallowedTools", "Bash"], [true, false]),
        (vec!["--dangerously-skip-permissions", "--disallowedTools", "Bash(install *)"], [true, false]),
        (vec!["--permission-mode", "plan"], [false, false]),
        (vec!["--permission-mode", "dontAsk"], [false, false]),
    ] {
        let world = World::new([
            write("made").and_tool("Bash", json!({ "command": "install -d made2" })),
            Turn::text("x"),
        ])
        .await;
        let mut command = world.command(&[&["-p", "go"], &arguments[..]].concat());
        command.env("IS_SANDBOX", "1");
        world.run_of(command).await.ended(0);
        assert_eq!([world.has("made"), world.has("made2")], ran, "{arguments:?}");
    }
}

/// Section 3: a bare denial removes the tool from what the model is offered.
#[tokio::test]
async fn a_denied_tool_is_not_offered() {
    let world = World::new([Turn::text("x")]).await;
    world.run(&["-p", "go", "--disallowedTools", "Bash", "WebFetch"]).await.ended(0);
    let offered = world.model.requests()[0].body["tools"].to_string();
    assert!(!offered.contains("\"Bash\"") && offered.contains("\"Read\""), "{offered}");
    let world = World::new([Turn::text("x")]).await;
    world.run(&["-p", "go", "--tools", "Read,Grep"]).await.ended(0);
    assert_eq!(world.model.requests()[0].body["tools"].as_array().unwrap().len(), 2);
}

/// Section 0.2: root does not run without questions, unless it is said to be in a sandbox.
#[tokio::test]
async fn root_is_asked() {
    if !nix_is_root() {
        return;
    }
    let world = World::new([]).await;
    let ran = world.run(&["-p", "go", "--dangerously-skip-permissions"]).await.ended(1);
    assert!(ran.err().contains("IS_SANDBOX=1"), "{}", ran.err());
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0)
}

/// Section 0.2, "Trust gate": what a repository allows counts in trusted folders only, what it denies everywhere.
#[tokio::test]
async fn a_repository_allows_only_where_it_is_trusted() {
    for (trusted, made) in [(false, false), (true, true)] {
        let world = World::new([
            bash("touch made").and_tool("Bash", json!({ "command": "touch never" })),
            Turn::text("x"),
        ])
        .await;
        if trusted {
            world.trust();
        }
        let rules = json!({ "allow": ["Bash(touch *)"], "deny": ["Bash(touch never)"] });
        world.put(".claude/settings.json", &settings(rules));
        let ran = world.run(&["-p", "go"]).await.ended(0);
        assert_eq!((world.has("made"), world.has("never")), (made, false), "{trusted}");
        assert_eq!(ran.err().contains("not trusted"), !trusted, "{}", ran.err());
    }
}

/// Section 2, "Precedence", and section 3: rules of the person and of the run; a denial of any file holds.
#[tokio::test]
async fn rules_of_the_person_hold_everywhere() {
    let world =
        World::new([bash("touch made").and_tool("Bash", json!({ "command": "rm there" })), Turn::text("x")])
            .await;
    world.put("there", "");
    world.write(
        "home/.claude/settings.json",
        &settings(json!({ "allow": ["Bash(touch *)"], "deny": ["Bash(rm *)"] })),
    );
    world.run(&["-p", "go", "--settings", &settings(json!({ "allow": ["Bash(rm *)"] }))]).await.ended(0);
    assert!(world.has("made") && world.has("there"));
    let world = World::new([bash("touch made"), Turn::text("x")]).await;
    world.write("home/.claude/settings.json", &settings(json!({ "allow": ["Bash(touch *)"] })));
    world.run(&["-p", "go", "--setting-sources", "project,local"]).await.ended(0);
    assert!(!world.has("made"), "the person's file was not to be read");
}

/// A repository does not do away with questions, whatever mode it names and however much it is trusted.
#[tokio::test]
async fn a_repository_sets_no_mode_without_questions() {
    let world = World::new([bash("touch made"), Turn::text("x")]).await;
    world.trust();
    world.put(".claude/settings.json", &settings(json!({ "defaultMode": "bypassPermissions" })));
    world.run(&["-p", "go"]).await.ended(0);
    assert!(!world.has("made"));
}

/// Section 3: files outside of the folder are read where a folder is added, and links count for where they lead.
#[tokio::test]
async fn files_outside_are_not_read() {
    let reads = || {
        Turn::tool("Read", json!({ "file_path": "../secret" }))
            .and_tool("Read", json!({ "file_path": "link" }))
            .and_tool("Grep", json!({ "pattern": "x", "path": ".." }))
    };
    for (arguments, denied) in [(vec![], 3), (vec!["--add-dir", ".."], 0)] {
        let world = World::new([reads(), Turn::text("x")]).await;
        world.write("work/secret", "x\n");
        std::os::unix::fs::symlink("../secret", world.path("work/project/link")).unwrap();
        let result = world.stream(&[&["-p", "go"], &arguments[..]].concat()).await.ended(0).result();
        assert_eq!(result["permission_denials"].as_array().unwrap().len(), denied, "{arguments:?}: {result}");
    }
}

/// Section 9.1, `--permission-prompt-tool`: a tool of a server answers for the person.
#[tokio::test]
async fn a_tool_of_a_server_decides() {
    let server = r#"
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message: continue
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "judge", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "approve", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        asked = params["arguments"]
        if "good" in asked["input"]["command"]:
            answer = {"behavior": "allow", "updatedInput": {"command": "touch better"}}
        else:
            answer = {"behavior": "deny", "message": "the judge says no to " + asked["tool_use_id"]}
        result = {"content": [{"type": "text", "text": json.dumps(answer)}]}
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"#;
    let world =
        World::new([bash("touch good").and_tool("Bash", json!({ "command": "touch bad" })), Turn::text("x")])
            .await;
    world.put("judge.py", server);
    let config =
        json!({ "mcpServers": { "judge": { "command": "python3", "args": ["judge.py"] } } }).to_string();
    let arguments = ["-p", "go", "--permission-prompt-tool", "mcp__judge__approve", "--mcp-config", &config];
    let ran = world.stream(&arguments).await.ended(0);
    assert!(world.has("better") && !world.has("good") && !world.has("bad"));
    let told = ran.lines();
    let told = of(&told, "system/permission_denied")[0]["message"].as_str().unwrap().to_owned();
    assert!(told.starts_with("the judge says no to "), "{told}");
}
