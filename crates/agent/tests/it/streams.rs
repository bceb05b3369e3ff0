use std::sync::Arc;
use std::time::Duration;

use protocol::agent_port::{Agent, TurnEnd};
use protocol::event::{EventBody, LiveDelta};
use protocol::status::{StopReason, TurnStatus};
use serde_json::json;
use testkit::model::{Gate, Script, ScriptedModel, Turn};

use crate::hands::LocalHands;
use crate::stage::{Stage, client};

fn append_line() -> Turn {
    Turn::text("Now.").and_tool("Bash", json!({ "command": "echo x >> ran" })).chunk(200)
}

/// A cut at any byte runs the tool exactly once: the bytes from `first` on, every third. Three tests
/// share the work, so that they run at the same time.
async fn cut_at_every_third_byte(first: usize) {
    let whole = || {
        let input = json!({ "file_path": "count", "old_string": "end", "new_string": "x end" });
        Turn::text("Now.").and_tool("Edit", input).chunk(200)
    };
    let turns =
        (first..3_000).step_by(3).flat_map(|cut| [whole().cut_after(cut), whole(), Turn::text("done")]);
    let mut stage =
        Stage::with(Script::turns(turns).many_conversations(), LocalHands::default(), |_| {}).await;
    for cut in (first..3_000).step_by(3) {
        // Each agent is a conversation of its own, which the server tells by the branch.
        stage.config.environment.branch = format!("cut-{cut}");
        stage.port = Arc::default();
        stage.restart(&[]).await;
        stage.write("count", "end\n");
        assert_eq!(stage.turn("go").await, TurnEnd::completed(), "cut at {cut}");
        if stage.port.errors().is_empty() {
            assert!(cut > 1_000, "the stream is longer than {cut} bytes");
            stage.model.assert_clean();
            return;
        }
        assert_eq!(stage.read("count"), "x end\n", "cut at {cut}");
        assert_eq!(stage.port.calls().len(), 1, "cut at {cut}");
        let live = stage.port.live_deltas();
        let discarded = live.iter().any(|delta| matches!(delta, LiveDelta::Discard { .. }));
        let shown = live
            .iter()
            .any(|delta| matches!(delta, LiveDelta::Text { message, .. } if message.ends_with(".1")));
        assert_eq!(discarded, shown, "what was shown of a void message is taken back");
    }
    panic!("the stream never ended");
}

#[tokio::test]
async fn a_cut_at_any_byte_runs_the_tool_exactly_once_0() {
    cut_at_every_third_byte(0).await;
}

#[tokio::test]
async fn a_cut_at_any_byte_runs_the_tool_exactly_once_1() {
    cut_at_every_third_byte(1).await;
}

#[tokio::test]
async fn a_cut_at_any_byte_runs_the_tool_exactly_once_2() {
    cut_at_every_third_byte(2).await;
}

#[tokio::test]
async fn failures_that_pass_are_announced_and_survived() {
    let never = Gate::closed();
    let turns = [
        Turn::error(429, "slow down").header("retry-after", "0.02"),
        Turn::error(529, "Overloaded"),
        Turn::error(529, "Overloaded"),
        Turn::error(529, "Overloaded"),
        Turn::error(500, "oops"),
        append_line().stream_error(6, "overloaded_error", "Overloaded"),
        append_line().hold(5, &never),
        append_line(),
        Turn::text("done"),
    ];
    let mut stage = Stage::with(Script::turns(turns), LocalHands::default(), |config| {
        config.model = client(&config.model.config().base_url, |model| {
            model.idle_timeout = Duration::from_millis(200);
        });
    })
    .await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    assert_eq!(stage.read("ran"), "x\n");
    let waits: Vec<(String, Option<u64>)> = stage
        .port
        .bodies()
        .into_iter()
        .filter_map(|body| match body {
            EventBody::Error(error) => Some((error.code, error.retry_in_ms)),
            _ => None,
        })
        .collect();
    let expected = [
        ("model_rate_limited", 20),
        ("model_overloaded", 0),
        ("model_overloaded", 0),
        ("model_overloaded", 0),
        ("model_error", 0),
        ("model_overloaded", 0),
        ("model_stream_idle", 0),
    ];
    assert_eq!(waits, expected.map(|(code, wait)| (code.to_owned(), Some(wait))));
}

#[tokio::test]
async fn failures_that_stay_end_the_turn_with_their_reason() {
    for (failure, reason, word) in [
        (Turn::error(401, "invalid x-api-key"), StopReason::ModelAuth, "check that the key"),
        (Turn::error(403, "no"), StopReason::ModelAuth, "refused the key (403)"),
        (Turn::error(400, "bad thing"), StopReason::ModelError, "bad thing"),
        (Turn::error(400, "prompt is too long"), StopReason::ModelError, "start a new session"),
        (Turn::error(404, "model: x"), StopReason::ModelError, "scripted-model"),
        (Turn::text("no").stop_reason("refusal"), StopReason::Refusal, "declined"),
    ] {
        let mut stage = Stage::new([failure, Turn::text("second")]).await;
        let end = stage.turn("first").await;
        assert_eq!((end.status, end.stop_reason), (TurnStatus::Failed, reason));
        assert!(end.message.as_deref().unwrap().contains(word), "{end:?}");
        // The prompt is not lost: the next one stands beside it.
        assert_eq!(stage.turn("again").await, TurnEnd::completed());
        stage.model.assert_clean();
        let content = &stage.model.requests()[1].body["messages"][0]["content"];
        assert_eq!((&content[0]["text"], &content[1]["text"]), (&json!("first"), &json!("again")));
    }
}

#[tokio::test]
async fn an_endpoint_that_stays_away_ends_the_turn_as_unreachable() {
    let mut stage = Stage::new(vec![Turn::error(503, "down"); 10]).await;
    let end = stage.turn("go").await;
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Failed, StopReason::ModelUnreachable));
    assert_eq!(stage.port.errors().len(), 9);
}

#[tokio::test]
async fn thoughts_and_unknown_blocks_go_back_as_they_came() {
    let thinking = json!({ "type": "thinking", "thinking": "Größe?", "signature": "EqQB/+9=\u{2028}\"x\"" });
    let hidden = json!({ "type": "redacted_thinking", "data": "AAAA" });
    let odd = json!({ "type": "future_block", "n": 1.5, "deep": { "z": [null, true], "a": "ü" } });
    let turns = [
        Turn::empty()
            .and_block(thinking.clone())
            .and_block(hidden.clone())
            .and_block(odd.clone())
            .and_tool("Bash", json!({ "command": "true" })),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    let content = &stage.model.requests()[1].body["messages"][1]["content"];
    assert_eq!(content.as_array().unwrap()[..3], [thinking.clone(), hidden, odd]);
    let sent = String::from_utf8(stage.model.requests()[1].bytes.clone()).unwrap();
    assert!(sent.contains(&thinking["signature"].to_string()));
    assert!(matches!(&stage.port.bodies()[2], EventBody::AgentThought(block) if block.text == "Größe?"));
}

#[tokio::test]
async fn an_answer_at_its_token_limit_is_continued_and_then_ended() {
    let cut = || Turn::text("part").stop_reason("max_tokens");
    // A call that broke off is no call; the thought before it cannot stand alone.
    let half = Turn::empty()
        .and_thinking("hm", "sig")
        .and_tool("Bash", json!("{\"command\": \"touch x"))
        .stop_reason("max_tokens");
    let mut stage = Stage::new([cut(), half, Turn::text("end"), cut(), cut(), cut(), cut()]).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let messages = stage.model.requests()[2].body["messages"].clone();
    assert_eq!(messages.as_array().unwrap().len(), 3, "{messages}");
    assert_eq!(messages[2]["content"].as_array().unwrap().len(), 2);
    let end = stage.turn("more").await;
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Limit, StopReason::MaxTokens));
    stage.model.assert_clean();
    assert!(stage.port.calls().is_empty());
}

#[tokio::test]
async fn a_turn_has_a_limit_of_requests() {
    let turns: Vec<Turn> =
        (0..3).map(|n| Turn::tool("Bash", json!({ "command": format!("echo {n}") }))).collect();
    let mut stage =
        Stage::with(Script::turns(turns), LocalHands::default(), |config| config.caps.requests = 3).await;
    let end = stage.turn("go").await;
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Limit, StopReason::MaxRequests));
    stage.model.assert_clean();
}

#[tokio::test]
async fn several_agents_can_share_one_scripted_model() {
    let script = Script::by_depth([Turn::tool("Bash", json!({ "command": "pwd" })), Turn::text("ok")]);
    let model = ScriptedModel::start(script).await;
    let run = async |name: &str| {
        let mut stage = Stage::with(Script::turns([]), LocalHands::default(), |config| {
            config.model = client(model.base_url(), |_| {});
            config.environment.branch = name.into();
        })
        .await;
        let input = stage.accept("go");
        stage.agent.turn(input, &*stage.port, stage.stop.clone()).await
    };
    let ends = futures::future::join_all(["a", "b", "c", "d"].map(run)).await;
    assert!(ends.iter().all(|end| *end == TurnEnd::completed()), "{ends:?}");
    model.assert_clean();
}
