use protocol::agent_port::TurnEnd;
use protocol::event::{Event, EventBody};
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

/// The messages of a request without cache breakpoints.
fn messages(stage: &Stage, request: usize) -> Vec<Value> {
    let mut messages = stage.model.requests()[request].body["messages"].as_array().unwrap().clone();
    for message in &mut messages {
        for block in message["content"].as_array_mut().unwrap() {
            block.as_object_mut().unwrap().remove("cache_control");
        }
    }
    messages
}

#[tokio::test]
async fn after_a_restart_the_next_request_begins_with_the_same_bytes() {
    let turns = [
        Turn::text("Let me see.")
            .and_thinking("Größe — “x”\u{2028}", "c2ln+/=")
            .and_block(json!({ "type": "future", "z": 1, "a": [1.50, 1e3, "é"] }))
            .and_tool(
                "Bash",
                json!({ "z": 1.0, "command": "mkdir sub && cd sub && printf 'ä\\tb'", "a": [] }),
            )
            .and_tool("Read", json!({ "file_path": "missing" })),
        Turn::text("cut").stop_reason("max_tokens"),
        Turn::text("first done"),
        Turn::tool("Bash", json!({ "command": "pwd" })),
        Turn::text("second done"),
    ];
    let mut stage = Stage::with(Script::turns(turns), LocalHands::default(), |config| {
        config.memory = agent::memory::Sources::of(["AGENTS.md"]).read(|_| Some("Be brief.".into())).0.into();
    })
    .await;
    assert_eq!(stage.turn("first").await, TurnEnd::completed());
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("second").await, TurnEnd::completed());
    // The checks of the scripted model compare the bytes of each request with the one before, the
    // restart in between included.
    stage.model.assert_clean();
    assert_eq!(stage.model.requests().len(), 5);
    assert!(
        stage.port.results().last().unwrap().content.ends_with("/workspace/sub"),
        "the shell's folder too"
    );
}

/// Whatever append was the last one before a crash: the agent that is restored from there sends a sound
/// conversation that begins as the one before did.
#[tokio::test]
async fn a_crash_after_any_append_leaves_a_sound_conversation() {
    let turns = || {
        [
            Turn::text("a").and_tool("Bash", json!({ "command": "echo 1" })).and_tool("Glob", json!({})),
            Turn::tool("TodoWrite", json!({ "todos": [{ "content": "x", "status": "pending" }] })),
            Turn::text("done"),
        ]
    };
    let mut whole = Stage::new(turns()).await;
    whole.turn("first").await;
    let events = whole.port.events();
    let last = messages(&whole, 2);
    // What was appended together is durable together.
    let ends = whole
        .port
        .appends
        .lock()
        .unwrap()
        .iter()
        .scan(0, |end, count| {
            *end += count;
            Some(*end)
        })
        .skip(1)
        .collect::<Vec<usize>>();
    for cut in ends {
        let mut stage = Stage::new([Turn::text("ok")]).await;
        stage.config.workspace.clone_from(&whole.config.workspace);
        let known: Vec<Event> = events[..cut].to_vec();
        stage.restart(&known).await;
        assert_eq!(stage.turn("second").await, TurnEnd::completed(), "cut at {cut}");
        stage.model.assert_clean();
        let sent = messages(&stage, 0);
        // Only the newest message, the user's, may differ.
        let stable = (sent.len() - 1).min(last.len());
        assert_eq!(sent[..stable], last[..stable], "cut at {cut}");
        let open = known.iter().filter(|event| matches!(event.body, EventBody::ToolCall(_))).count()
            - known.iter().filter(|event| matches!(event.body, EventBody::ToolResult(_))).count();
        assert_eq!(stage.port.results().len(), open, "open calls are closed in the log, cut at {cut}");
        // And again from the log of both processes.
        let both = known.into_iter().chain(stage.port.events());
        let log: Vec<Event> = (1..).zip(both).map(|(seq, event)| Event { seq, ..event }).collect();
        let mut third = Stage::new([Turn::text("ok")]).await;
        third.restart(&log).await;
        third.turn("third").await;
        third.model.assert_clean();
        assert_eq!(messages(&third, 0)[..sent.len()], sent, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_turn_that_the_restored_log_already_has_is_not_asked_twice() {
    let mut stage = Stage::new([Turn::text("ok")]).await;
    let input = stage.accept("only once");
    stage.restart(&stage.port.events()).await;
    let end =
        protocol::agent_port::Agent::turn(&mut stage.agent, input, &*stage.port, stage.stop.clone()).await;
    assert_eq!(end, TurnEnd::completed());
    assert_eq!(messages(&stage, 0)[0]["content"].as_array().unwrap().len(), 1);
}
