//! Signals, and what is left behind: section 9.1, "Exit codes".

use std::time::Instant;

use serde_json::json;
use testkit::model::Turn;

use crate::world::{World, bash, until_gone, until_written};

fn send(pid: Option<u32>, signal: &str) {
    let pid = pid.unwrap().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// Section 9.1: 143 after SIGTERM, commands killed, SessionEnd hooks run.
#[tokio::test]
async fn a_terminated_run_leaves_nothing() {
    let world = World::new([bash("echo $$ > pid; (setsid sleep 300 & echo $! > daemon); sleep 300")]).await;
    let hook = json!({ "type": "command", "command": "cat > end.json" });
    let hooks = json!({ "SessionEnd": [{ "hooks": [hook] }] });
    world.put(".claude/settings.json", &json!({ "hooks": hooks }).to_string());
    let child = world.command(&["-p", "go", "--allowedTools", "Bash"]).spawn().unwrap();
    let pid = until_written(&world.path("work/project/pid")).await;
    let daemon = until_written(&world.path("work/project/daemon")).await;
    send(child.id(), "-TERM");
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(143));
    assert!(world.read("end.json").contains("SessionEnd"));
    until_gone(&pid).await;
    until_gone(&daemon).await;
}

/// Ctrl-C ends the turn, with a result, and a run that had one prompt with 130.
#[tokio::test]
async fn an_interrupted_run_says_so() {
    let world = World::new([bash("echo $$ > pid; sleep 300")]).await;
    let mut command = world.command(&["-p", "go", "--allowedTools", "Bash", "--output-format", "json"]);
    let child = command.spawn().unwrap();
    let pid = until_written(&world.path("work/project/pid")).await;
    let began = Instant::now();
    send(child.id(), "-INT");
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (result["subtype"].as_str(), result["is_error"].as_bool()),
        (Some("error_during_execution"), Some(true))
    );
    assert!(began.elapsed().as_secs() < 30, "it waited for the command");
    until_gone(&pid).await;
}

/// Commands that were left running in the background end with the run.
#[tokio::test]
async fn background_commands_end_with_the_run() {
    let call = json!({ "command": "echo $$ > pid; exec sleep 300", "run_in_background": true });
    let world = World::new([Turn::tool("Bash", call), Turn::text("It runs.")]).await;
    world.run(&["-p", "go", "--allowedTools", "Bash"]).await.ended(0);
    until_gone(&until_written(&world.path("work/project/pid")).await).await;
}

/// A command that floods, forks or hangs is bounded: its time ends it, with all that it started.
#[tokio::test]
async fn a_command_has_an_end() {
    let call =
        json!({ "command": "(sleep 300 & echo $! > pid); yes | head -c 3000000; sleep 300", "timeout": 700 });
    let world = World::new([Turn::tool("Bash", call), Turn::text("Done.")]).await;
    let ran = world.stream(&["-p", "go", "--allowedTools", "Bash"]).await.ended(0);
    let result = ran.lines().into_iter().find(|line| line["type"] == "user").unwrap();
    let text = result["message"]["content"][0]["content"].as_str().unwrap();
    assert!(text.contains("timed out") && text.len() < 60_000, "{}", &text[text.len().saturating_sub(300)..]);
    until_gone(&until_written(&world.path("work/project/pid")).await).await;
}

/// A run that is told to end while its servers start does not wait for them.
#[tokio::test]
async fn a_start_can_be_ended() {
    let world = World::new([]).await;
    let script = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(300)";
    world.put("server.py", script);
    let config =
        json!({ "mcpServers": { "mute": { "command": "python3", "args": ["server.py"] } } }).to_string();
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let _ = std::fs::remove_file(world.path("work/project/pid"));
        let child = world.command(&["-p", "go", "--mcp-config", &config]).spawn().unwrap();
        let pid = until_written(&world.path("work/project/pid")).await;
        let began = Instant::now();
        send(child.id(), signal);
        assert_eq!(child.wait_with_output().await.unwrap().status.code(), Some(code), "{signal}");
        assert!(began.elapsed().as_secs() < 20, "it waited for the server");
        until_gone(&pid).await;
    }
    assert_eq!(world.model.requests().len(), 0);
}
