use std::time::{Duration, Instant};

use protocol::agent_port::TurnEnd;
use protocol::event::{EventBody, LiveDelta};
use serde_json::json;
use testkit::model::{Gate, Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

/// Stops the turn when something is shown.
fn stop_when(stage: &Stage, seen: impl Fn(&LiveDelta) -> bool + Send + Sync + 'static) {
    let stop = stage.stop.clone();
    *stage.port.on_live.lock().unwrap() = Some(Box::new(move |delta| {
        if seen(delta) {
            stop.cancel();
        }
    }));
}

fn go_on(stage: &mut Stage) {
    stage.stop = tokio_util::sync::CancellationToken::new();
    *stage.port.on_live.lock().unwrap() = None;
}

#[tokio::test]
async fn a_stop_in_the_stream_keeps_the_text_so_far() {
    let gate = Gate::closed();
    let turns = [
        Turn::empty().and_thinking("plan", "sig").and_text("The first half. The second half.").hold(9, &gate),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    stop_when(&stage, |delta| matches!(delta, LiveDelta::Text { .. }));
    assert_eq!(stage.turn("go").await, TurnEnd::interrupted());
    let text = stage.port.last_text();
    assert!("The first half. The second half.".starts_with(&text) && text.len() > 5, "{text}");
    assert!(!stage.port.live_deltas().iter().any(|delta| matches!(delta, LiveDelta::Discard { .. })));
    go_on(&mut stage);
    assert_eq!(stage.turn("and now").await, TurnEnd::completed());
    stage.model.assert_clean();
    let messages = stage.model.requests()[1].body["messages"].clone();
    assert_eq!(messages[1]["content"][0]["signature"], "sig");
    assert_eq!(messages[1]["content"][1]["text"], text);
}

#[tokio::test]
async fn a_stop_inside_a_call_drops_the_message() {
    let gate = Gate::closed();
    let turns = [
        Turn::text("I will run it.").and_tool("Bash", json!({ "command": "touch ran" })).hold(8, &gate),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    let stop = stage.stop.clone();
    let port = stage.port.clone();
    // The held stream has begun the call; the stop comes from outside while it is silent.
    let (end, ()) = tokio::join!(stage.turn("go"), async {
        while port.live_deltas().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    });
    assert_eq!(end, TurnEnd::interrupted());
    go_on(&mut stage);
    assert_eq!(stage.turn("and now").await, TurnEnd::completed());
    stage.model.assert_clean();
    assert!(!stage.path("ran").exists());
}

#[tokio::test]
async fn a_stop_ends_a_command_and_gives_every_call_a_result() {
    let turns = [
        Turn::tool("Bash", json!({ "command": "echo begun; exec sleep 600" }))
            .and_tool("Bash", json!({ "command": "touch never" }))
            .and_tool("Write", json!({ "file_path": "never.txt", "content": "x" })),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    stop_when(&stage, |delta| matches!(delta, LiveDelta::ToolOutput { .. }));
    let began = Instant::now();
    assert_eq!(stage.turn("go").await, TurnEnd::interrupted());
    assert!(began.elapsed() < Duration::from_secs(2), "a command that heeds SIGINT ends at once");
    let results = stage.port.results();
    assert_eq!(results.len(), 3);
    assert_eq!(results[0].content, "Exit code 130\nbegun\n[interrupted by the user]");
    assert_eq!(results[0].detail["interrupted"], true);
    assert!(results[1].content.contains("stopped the turn") && results[2].is_error);
    assert!(!stage.path("never").exists() && !stage.path("never.txt").exists());
    go_on(&mut stage);
    assert_eq!(stage.turn("and now").await, TurnEnd::completed());
    stage.model.assert_clean();
}

#[tokio::test]
async fn a_command_that_heeds_no_signal_is_killed() {
    let stubborn = "trap 'echo no' INT TERM; echo begun; while :; do sleep 1; done";
    let turns = [Turn::tool("Bash", json!({ "command": stubborn })), Turn::text("ok")];
    let mut stage = Stage::with(Script::turns(turns), LocalHands::default(), |_| {}).await;
    stop_when(&stage, |delta| matches!(delta, LiveDelta::ToolOutput { .. }));
    let began = Instant::now();
    assert_eq!(stage.turn("go").await, TurnEnd::interrupted());
    let took = began.elapsed();
    println!("stopped after {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    let result = &stage.port.results()[0];
    assert!(result.content.starts_with("Exit code 137\nbegun\nno\n"), "{}", result.content);
}

#[tokio::test]
async fn a_stop_between_tries_ends_the_wait() {
    let mut stage = Stage::new([Turn::error(429, "slow").header("retry-after", "250")]).await;
    let stop = stage.stop.clone();
    *stage.port.on_event.lock().unwrap() = Some(Box::new(move |body| {
        if matches!(body, EventBody::Error(_)) {
            stop.cancel();
        }
    }));
    assert_eq!(stage.turn("go").await, TurnEnd::interrupted());
}
