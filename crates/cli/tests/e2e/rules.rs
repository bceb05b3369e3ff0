//! What the repository and the operator say in settings files, in real sandboxes: rules, questions,
//! hooks. Each test names the section of the compatibility specification that it is about.

use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::status::SessionStatus;
use serde_json::{Value, json};
use testkit::harness::{Repo, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::setup::printed;
use crate::world::{bash, check_log, completed, ends, results, serve};

/// A repository with these settings, and some files to work on.
fn repository(name: &str, settings: &Value) -> Repo {
    let text = settings.to_string();
    let files = [
        ("README.md", "a small thing\n"),
        ("secret.txt", "hidden words\n"),
        ("keys/a.pem", "hidden words\n"),
        (".claude/settings.json", text.as_str()),
    ];
    Repo::with(name, &files)
}

/// Waits for a question; its text.
async fn asked(server: &TestServer, session: SessionId, count: usize) -> String {
    let question = |event: &Event| match &event.body {
        EventBody::QuestionAsked(question) => Some(question.text.clone()),
        _ => None,
    };
    let events = server.until(session, |events| events.iter().filter_map(question).count() == count).await;
    events.iter().rev().find_map(question).unwrap()
}

/// Section 3, "Order" and "Rule form", and section 2, the managed file: denials hold in a session that
/// runs freely, for tools, searches and commands, and say which rule of which file.
#[tokio::test(flavor = "multi_thread")]
async fn denials_of_the_repository_and_of_the_operator_hold() {
    let settings = json!({ "permissions": {
        "deny": ["Bash(rm *)", "Read(./secret.txt)", "Read(keys/**)", "Bash(x", 7],
        "allow": ["Bash(curl *)"],
    }, "env": { "FROM_SETTINGS": "yes", "HTTPS_PROXY": "http://elsewhere" } });
    let turns = [
        bash("touch made; rm made"),
        Turn::tool("Read", json!({ "file_path": "secret.txt" })),
        bash("python3 -c \"import os; os.symlink('secret.txt', 'link')\"; echo $FROM_SETTINGS $HTTPS_PROXY"),
        Turn::tool("Read", json!({ "file_path": "link" })),
        Turn::tool("Grep", json!({ "pattern": "words|thing", "output_mode": "content" })),
        Turn::tool("Glob", json!({ "pattern": "**/*" })),
        bash("bash -c 'curl http://127.0.0.1'"),
        Turn::text("done"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let folder = tempfile::tempdir().unwrap();
    let managed = json!({ "permissions": { "deny": ["Bash(curl *)"] } });
    std::fs::write(folder.path().join("managed-settings.json"), managed.to_string()).unwrap();
    open(folder.path());
    let config = format!("[settings]\nmanaged = {:?}\n", folder.path());
    let server = serve().model(&model).config(&config).start().await;
    let session = server.create(&repository("ruled", &settings), "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let results = results(&events);
    let rule = |index: usize| results[index].detail["denied"]["rule"].as_str();
    assert_eq!(rule(0), Some("Bash(rm *)"));
    assert!(results[0].content.contains("the rule `Bash(rm *)` of .claude/settings.json denies it"));
    assert_eq!(
        (rule(1), rule(3)),
        (Some("Read(./secret.txt)"), Some("Read(./secret.txt)")),
        "behind a link, too"
    );
    assert!(
        results[2].content.starts_with("yes") && !results[2].content.contains("elsewhere"),
        "{}",
        results[2].content
    );
    assert!(
        results[4].content.contains("README.md") && !results[4].content.contains("hidden"),
        "{}",
        results[4].content
    );
    let files = &results[5].content;
    assert!(
        files.contains("README.md") && !files.contains("secret.txt") && !files.contains("a.pem"),
        "{files}"
    );
    assert_eq!(rule(6), Some("Bash(curl *)"), "the operator's, over the repository's permission");
    assert!(results[6].content.contains("of managed-settings.json denies it"));
    let told = printed(&events, protocol::event::Step::Workspace);
    for words in [
        "`Bash(x` is left out",
        "entry 4 of `permissions.deny` is no text",
        "HTTPS_PROXY is not a settings file's to set",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    check_log(&server, session).await;
    model.assert_clean();
}

/// The server runs as an account of its own, which has to reach the folder.
fn open(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Section 3: an `ask` rule becomes a question that the page and the command line answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_asks_waits_for_the_person() {
    let settings = json!({ "permissions": { "ask": ["Bash(touch *)"] } });
    let turns = [bash("touch one"), bash("touch two"), bash("ls"), Turn::text("done")];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&repository("asking", &settings), "go").await;
    let text = asked(&server, session, 1).await;
    assert!(text.contains("wants to use Bash: touch one"), "{text}");
    assert!(
        text.contains("the rule `Bash(touch *)` of .claude/settings.json asks first")
            || text.contains("The rule"),
        "{text}"
    );
    assert_eq!(server.session(session).await.status, SessionStatus::Waiting);
    server.cli(&["sessions", "answer", &session.to_string(), "allow"]).await.exits(0);
    asked(&server, session, 2).await;
    server.cli(&["sessions", "answer", &session.to_string(), "deny"]).await.exits(0);
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let results = results(&events);
    assert!(!results[0].is_error && results[1].is_error);
    assert!(results[1].content.contains("the person refused it"), "{}", results[1].content);
    assert!(results[2].content.contains("one") && !results[2].content.contains("two"));
    check_log(&server, session).await;
    model.assert_clean();
}

/// Section 4: hooks run inside the sandbox, block, tell the model, and hold the end of a turn; what
/// `SessionStart` prints is the first thing that the model reads, also after a new start.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_in_the_sandbox_and_what_they_say_is_heard() {
    let command = |text: &str| json!([{ "type": "command", "command": text }]);
    let settings = json!({ "hooks": {
        "SessionStart": [{ "hooks": command("echo the tests run with make check") }],
        "UserPromptSubmit": [{ "hooks": command("cat > /tmp/prompt; echo it is a good day") }],
        "PreToolUse": [{ "matcher": "Bash", "hooks":
            command("cat > /tmp/pre; grep -q 'git push' /tmp/pre && { echo no pushing here >&2; exit 2; }; exit 0") }],
        "PostToolUse": [{ "matcher": "Write|Edit", "hooks": command("cat > /tmp/post; echo 'bad style' >&2; exit 2") }],
        "Stop": [{ "hooks": command("cat > /tmp/stop; [ -e /tmp/held ] || { touch /tmp/held; echo 'check again' >&2; exit 2; }") }],
    } });
    let turns = [
        bash("git push origin HEAD"),
        Turn::tool("Write", json!({ "file_path": "new.txt", "content": "x\n" })),
        bash("cat /tmp/prompt /tmp/pre /tmp/post"),
        Turn::text("done?"),
        bash("cat /tmp/stop"),
        Turn::text("done"),
        Turn::text("again?"),
        Turn::text("again"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let repo = repository("hooked", &settings);
    let session = server.create(&repo, "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let results = results(&events);
    assert!(
        results[0].content.contains("PreToolUse:Bash hook error: ")
            && results[0].content.contains("no pushing here")
    );
    assert!(!results[1].is_error && results[1].content.contains("PostToolUse:Write hook blocking error: "));
    let read: Vec<Value> =
        results[2].content.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let names: Vec<&str> = read.iter().filter_map(|input| input["hook_event_name"].as_str()).collect();
    assert_eq!(names, ["UserPromptSubmit", "PreToolUse", "PostToolUse"]);
    for input in &read {
        assert_eq!(input["session_id"], session.to_string());
        assert_eq!(input["cwd"], repo.workspace());
    }
    assert_eq!(read[0]["prompt"], "go");
    assert_eq!(read[2]["tool_input"]["file_path"], format!("{}/new.txt", repo.workspace()));
    let stop: Value = serde_json::from_str(results[3].content.trim()).unwrap();
    assert_eq!(
        (&stop["stop_hook_active"], &stop["last_assistant_message"]),
        (&json!(false), &json!("done?"))
    );
    let requests = model.requests();
    let first = requests[0].body["messages"][0]["content"].to_string();
    let (start, prompt, day) =
        (first.find("make check"), first.find("\"go\""), first.find("it is a good day"));
    assert!(start.is_some() && start < prompt && prompt < day, "{first}");
    let held = requests[4].body["messages"].to_string();
    assert!(held.contains("Stop hook feedback:") && held.contains("check again"), "{held}");
    assert_eq!(ends(&events).len(), 1);

    // A new sandbox, a new agent: the conversation begins with the same bytes.
    server.cli(&["sessions", "archive", &session.to_string()]).await.exits(0);
    server.prompt(session, "again").await;
    completed(&server.until_rest(session, 2).await);
    check_log(&server, session).await;
    model.assert_clean();
}

/// Section 2: what the operator's file denies cannot be known when it cannot be read, so that nothing runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_of_the_operator_keeps_sessions_from_starting() {
    let model = ScriptedModel::start(Script::turns([bash("true"), Turn::text("done")])).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("managed-settings.json"), "{ \"permissions\": ").unwrap();
    open(folder.path());
    let config = format!("[settings]\nmanaged = {:?}\n", folder.path());
    let server = serve().model(&model).config(&config).start().await;
    let session = server.create(&repository("closed", &json!({})), "go").await;
    let failed = |events: &[Event]| {
        events.iter().any(|event| matches!(&event.body, EventBody::SessionStatus(change) if change.status == SessionStatus::Failed))
    };
    server.until(session, failed).await;
    let reason = server.session(session).await.reason.unwrap();
    assert!(reason.contains("the operator's settings cannot be used: managed-settings.json"), "{reason}");
    assert!(model.requests().is_empty());
    std::fs::write(folder.path().join("managed-settings.json"), "{}").unwrap();
    server.cli(&["sessions", "retry", &session.to_string()]).await.exits(0);
    completed(&server.until_rest(session, 1).await);
}
