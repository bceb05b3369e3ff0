//! The official Python Agent SDK drives the binary: query, client, callbacks, interrupt, a server in its process.
//!
//! Run by `make test-packages`: it fetches the SDK from the registry.

use std::process::Stdio;

use serde_json::{Value, json};
use testkit::model::{Script, Turn, When};

use crate::world::{World, bash};

/// The version that the specification was read of, and newer ones of it.
const SDK: &str = "claude-agent-sdk>=0.2.189,<0.3";

/// What the SDK says of the run, a line of JSON each.
const PROGRAM: &str = include_str!("sdk.py");

#[tokio::test]
#[ignore = "fetches packages"]
async fn the_python_sdk_drives_a_run() {
    let both = bash("touch made; echo one")
        .and_tool("Bash", json!({ "command": "touch secret" }))
        .and_tool("mcp__calc__add", json!({ "a": 2, "b": 40 }));
    let script = Script::default()
        .many_conversations()
        .when(When::last_user("plain"), [Turn::text("A plain answer.")])
        .when(When::last_user("sleep"), [bash("echo up > up; sleep 300")])
        .when(When::last_user("awake"), [Turn::text("Awake again.")])
        .when(When::Always, [both, Turn::text("Sum done.")]);
    let world = World::with(script).await;
    world.write("sdk.py", PROGRAM);
    let (venv, program) = (world.path("venv"), world.path("sdk.py"));
    run("python3", &["-m", "venv", venv.to_str().unwrap()]).await;
    let pip = venv.join("bin/pip");
    // From its source: the built one brings another program along, of hundreds of megabytes.
    run(pip.to_str().unwrap(), &["install", "--quiet", "--no-binary", "claude-agent-sdk", SDK]).await;
    let mut command = tokio::process::Command::new(venv.join("bin/python"));
    command
        .arg(program)
        .arg(env!("CARGO_BIN_EXE_patchyard"))
        .current_dir(world.path("work/project"))
        .env_clear();
    for name in ["PATH", "LANG"] {
        command.envs(std::env::var(name).map(|value| (name, value)));
    }
    command.env("HOME", world.path("home")).env("ANTHROPIC_API_KEY", "k");
    command.env("ANTHROPIC_BASE_URL", world.model.base_url()).env("ANTHROPIC_MODEL", "scripted-model");
    let output = world.run_of(command).await.ended(0);
    let facts: Value = serde_json::from_str(output.out().lines().last().unwrap()).unwrap();
    assert_eq!(facts["query"], json!(["init", "A plain answer.", "success"]));
    assert_eq!(
        facts["hooks"],
        json!([["pre", "Bash"], ["post", "one"], ["pre", "Bash"], ["post", null], ["pre", "Bash"]])
    );
    assert_eq!(facts["asked"], json!(["touch made; echo one", "touch secret", "echo up > up; sleep 300"]));
    assert_eq!(facts["added"], json!({ "a": 2, "b": 40 }));
    assert_eq!(facts["first"], json!({ "result": "Sum done.", "denied": ["touch secret"], "partial": true }));
    assert_eq!(facts["interrupted"], json!(["error_during_execution", "acceptEdits", "another-model"]));
    assert_eq!(facts["again"], json!("Awake again."));
    assert_eq!(facts["servers"], json!([["calc", "connected"]]));
    assert!(world.has("made") && !world.has("secret"));
}

async fn run(program: &str, arguments: &[&str]) {
    let status = tokio::process::Command::new(program).args(arguments).stdin(Stdio::null()).status().await;
    assert!(status.unwrap().success(), "{program} {arguments:?}");
}
