use protocol::agent_port::TurnEnd;
use protocol::event::{EventBody, LiveDelta};
use serde_json::json;
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

#[tokio::test]
async fn a_task_from_prompt_to_report() {
    let turns = [
        Turn::text("I will look.").and_tool("Read", json!({ "file_path": "calc.py" })),
        Turn::tool("Edit", json!({ "file_path": "calc.py", "old_string": "a - b", "new_string": "a + b" })),
        Turn::tool("Bash", json!({ "command": "grep -n '+' calc.py && echo done >&2" })),
        Turn::text("Fixed the sum.").usage([10, 20, 30, 40]),
    ];
    let mut stage = Stage::with(Script::turns(turns), LocalHands::default(), |config| {
        config.memory =
            agent::memory::Sources::of(["CLAUDE.md"]).read(|_| Some("Use tabs.\n".into())).0.into();
    })
    .await;
    stage.write("calc.py", "def add(a, b):\n    return a - b\n");
    assert_eq!(stage.turn("fix add").await, TurnEnd::completed());
    assert_eq!(stage.read("calc.py"), "def add(a, b):\n    return a + b\n");
    stage.model.assert_clean();
    let kinds = [
        "prompt.queued",
        "turn.started",
        "agent.message",
        "tool.call",
        "usage",
        "tool.result",
        "tool.call",
        "usage",
        "tool.result",
        "tool.call",
        "usage",
        "tool.result",
        "agent.message",
        "usage",
    ];
    assert_eq!(stage.port.kinds(), kinds);
    assert_eq!(stage.port.appends.lock().unwrap()[2..4], [3, 1], "one answer is one append");
    let results = stage.port.results();
    assert_eq!(results[0].content, "1\tdef add(a, b):\n2\t    return a - b\n");
    assert!(results[1].detail["patch"].as_str().unwrap().contains("-    return a - b\n+    return a + b\n"));
    assert_eq!(results[2].content, "2:    return a + b\ndone");
    assert_eq!(results[2].detail["exit_code"], 0);
    let requests = stage.model.requests();
    let first = &requests[0].body["messages"][0]["content"];
    let memory = first[0]["text"].as_str().unwrap();
    assert!(memory.contains("/CLAUDE.md (instructions of the repository):\n\nUse tabs.\n"), "{memory}");
    assert_eq!(first[1]["text"], "fix add");
    let system = requests[0].body["system"].to_string();
    assert!(system.contains("patchyard/test-1") && system.contains(&stage.config.workspace));
    let usage = stage.port.bodies().into_iter().rev().find_map(|body| match body {
        EventBody::Usage { usage, .. } => Some(usage),
        _ => None,
    });
    assert_eq!(usage.unwrap().cache_read_input_tokens, 30);
    let text: String = stage
        .port
        .live_deltas()
        .iter()
        .filter_map(|delta| match delta {
            LiveDelta::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(text, "I will look.Fixed the sum.");
}

#[tokio::test]
async fn readers_run_together_and_results_stand_in_the_order_of_the_calls() {
    // The first reader cannot end before the second one has begun: they meet at a pipe.
    let guest = "#!/bin/sh\ncase \"$2\" in *first*) read line <\"$PIPE\";; *) echo go >\"$PIPE\";; esac\n\
                 echo '{\"files\":[\"'$1'\"],\"truncated\":false}'\n";
    let dir = tempfile::tempdir().unwrap();
    let (program, pipe) = (dir.path().join("guest"), dir.path().join("pipe"));
    std::fs::write(&program, guest).unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        &program,
        nix::sys::stat::Mode::S_IRWXU,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .unwrap();
    let turns = [
        Turn::tool("Glob", json!({ "pattern": "first" }))
            .and_tool("Glob", json!({ "pattern": "second" }))
            .and_tool("TodoWrite", json!({ "todos": [] }))
            .and_tool("Bash", json!({ "command": "echo later" })),
        Turn::text("ok"),
    ];
    let hands = LocalHands { guest: Some(program), ..LocalHands::default() };
    let mut stage = Stage::with(Script::turns(turns), hands, |config| {
        config.tool_env = vec![("PIPE".into(), pipe.to_str().unwrap().into())];
    })
    .await;
    assert_eq!(stage.turn("look").await, TurnEnd::completed());
    stage.model.assert_clean();
    let calls: Vec<String> = stage.port.calls().into_iter().map(|call| call.call).collect();
    let request = &stage.model.requests()[1].body;
    let results = request["messages"][2]["content"].as_array().unwrap();
    let order: Vec<&str> = results.iter().map(|block| block["tool_use_id"].as_str().unwrap()).collect();
    assert_eq!(order, calls);
    assert_eq!(stage.port.results().last().unwrap().content, "later");
}

#[tokio::test]
async fn unknown_tools_and_wrong_inputs_run_nothing() {
    let turns = [
        Turn::tool("WebFetch", json!({ "url": "http://h" }))
            .and_tool("Bash", json!({ "cmd": "touch x" }))
            .and_tool("Bash", json!({ "command": 5 }))
            .and_tool("Bash", json!("{\"command\": \"touch "))
            .and_tool("Read", json!({ "file_path": "nope.txt", "unknown": true })),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    let results = stage.port.results();
    let words =
        ["no tool named `WebFetch`", "missing field `command`", "expected a string", "no JSON object"];
    for (result, word) in results.iter().zip(words) {
        assert!(result.is_error && result.content.contains(word), "{result:?}");
        assert!(result.content.starts_with("<tool_use_error>"), "{result:?}");
    }
    assert!(results[4].content.ends_with("nope.txt: no such file or directory"), "{}", results[4].content);
    assert!(stage.hands.started.lock().unwrap().is_empty());
}

#[tokio::test]
async fn call_ids_that_come_again_are_made_unique() {
    let call = |command| json!({ "type": "tool_use", "id": "call_0", "name": "Bash", "input": { "command": command } });
    let turns = [
        Turn::empty().and_block(call("echo 1")).and_block(call("echo 2")),
        Turn::empty().and_block(call("echo 3")),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    let calls: Vec<String> = stage.port.calls().into_iter().map(|call| call.call).collect();
    assert_eq!(calls, ["call_0", "call_0_2", "call_0_3"]);
}

#[tokio::test]
async fn a_dead_sandbox_is_a_tool_error_and_the_conversation_goes_on() {
    let turns = [
        Turn::tool("Bash", json!({ "command": "ls" })).and_tool("Read", json!({ "file_path": "/x" })),
        Turn::text("The sandbox is gone."),
    ];
    let mut stage = Stage::new(turns).await;
    *stage.hands.gone.lock().unwrap() = true;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    assert!(stage.port.results().iter().all(|result| result.content.contains("the sandbox is gone")));
}
