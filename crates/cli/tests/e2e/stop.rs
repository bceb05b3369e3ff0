//! Stopping, and what waits meanwhile.

use std::time::Duration;

use protocol::event::{Event, EventBody};
use protocol::status::{SessionStatus, StopReason, TurnStatus};
use serde_json::json;
use testkit::harness::Resume;
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, ends, last_result, results, serve, small_repo};

/// Two seconds where nothing else runs, as here other tests do.
const SOON: Duration = Duration::from_secs(6);

/// From the request to stop to the end of the turn.
fn stopping_took(events: &[Event]) -> Duration {
    let at = |kind: &str| events.iter().find(|event| event.body.kind() == kind).unwrap().at;
    at("turn.ended").duration_since(at("turn.interrupted")).unsigned_abs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_command_takes_its_daemons_along_at_once() {
    let daemons =
        "(setsid sh -c \"trap '' INT TERM HUP; sleep 600; :\" >/dev/null 2>&1 &); echo started; sleep 600";
    let count = "grep -lx sleep /proc/[0-9]*/comm 2>/dev/null | wc -l";
    let script = Script::default()
        .when(When::last_user("^begin"), [bash(daemons)])
        .when(When::last_user("^look"), [bash(count), Turn::text("seen")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("daemons"), "begin").await;
    server.follow(session, Resume::After(0)).await.until_output("started").await;
    server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
    let events = server.until_rest(session, 1).await;
    assert!(stopping_took(&events) < SOON, "{:?}", stopping_took(&events));
    server.prompt(session, "look").await;
    assert_eq!(last_result(&server.until_rest(session, 2).await), "0");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ignores_every_polite_signal_is_stopped_all_the_same() {
    let stubborn = "trap '' TERM INT HUP; echo kept > kept.txt; (setsid sleep 600 >/dev/null 2>&1 &); \
                    echo started; while :; do sleep 600; done";
    let script = Script::default().when(When::last_user("^begin"), [bash(stubborn)]).when(
        When::last_user("^look"),
        [bash("cat kept.txt; grep -lx sleep /proc/[0-9]*/comm 2>/dev/null | wc -l"), Turn::text("seen")],
    );
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("stubborn"), "begin").await;
    server.follow(session, Resume::After(0)).await.until_output("started").await;
    let stopped = server.cli(&["sessions", "stop", &session.to_string()]).await.exits(0);
    assert!(stopped.text().contains("stopping"), "{}", stopped.text());

    let events = server.until_rest(session, 1).await;
    let end = ends(&events)[0];
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Interrupted, StopReason::UserStop));
    eprintln!("idle {:?} after the request to stop", stopping_took(&events));
    assert!(stopping_took(&events) < Duration::from_secs(15), "{:?}", stopping_took(&events));
    assert!(last_result(&events).contains("interrupted"), "{}", last_result(&events));
    let asked = events.iter().position(|event| event.body.kind() == "turn.interrupted").unwrap();
    let after: Vec<&str> = events[asked + 1..].iter().map(|event| event.body.kind()).collect();
    assert_eq!(after, ["tool.result", "checkpoint", "diffstat", "turn.ended", "session.status"]);
    let (_, view) = check_log(&server, session).await;
    assert_eq!((view.status, view.diff.files_changed), (SessionStatus::Idle, 1));
    let again = server.post(&format!("/sessions/{session}/stop"), &json!({})).await;
    again.is_problem(409, "nothing_runs");

    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "kept\n0");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_model_speaks_keeps_what_it_said() {
    let gate = Gate::closed();
    let script = Script::default()
        .when(
            When::last_user("^begin"),
            [Turn::text("Half of this sentence is all that you get.").chunk(4).hold(8, &gate)],
        )
        .when(When::last_user("^next"), [Turn::text("Here.")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("midway"), "begin").await;
    let mut viewer = server.follow(session, Resume::After(0)).await;
    while !matches!(viewer.next().await.unwrap().live(), Some(protocol::event::LiveDelta::Text { .. })) {}
    server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
    let events = server.until_rest(session, 1).await;
    assert_eq!(ends(&events)[0].stop_reason, StopReason::UserStop);
    assert!(stopping_took(&events) < SOON, "{:?}", stopping_took(&events));
    let half = events.iter().find_map(|event| match &event.body {
        EventBody::AgentMessage(block) => Some(block.text.as_str()),
        _ => None,
    });
    assert!(half.is_some_and(|text| text.starts_with("Half") && text.len() < 40), "{half:?}");
    server.prompt(session, "next").await;
    completed(&server.until_rest(session, 2).await);
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_that_come_during_a_turn_run_after_it_in_their_order() {
    let gate = Gate::closed();
    let mut script = Script::default().when(When::last_user("^begin"), [Turn::text("one").hold(0, &gate)]);
    for number in 1..=10 {
        let text = format!("answer {number}");
        script = script.when(When::last_user(&format!("^prompt {number}$")), [Turn::text(&text)]);
    }
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("waiting"), "begin").await;
    model.wait_for_requests(1).await;
    for number in 1..=10 {
        server.prompt(session, &format!("prompt {number}")).await;
    }
    let path = format!("/sessions/{session}/prompts");
    server.post(&path, &json!({ "text": "one too many" })).await.is_problem(429, "queue_full");
    assert_eq!(server.session(session).await.queued_prompts, 10);
    gate.open();
    let events = server.until_rest(session, 11).await;
    let said: Vec<&str> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::AgentMessage(block) => Some(block.text.as_str()),
            _ => None,
        })
        .collect();
    let wanted: Vec<String> =
        std::iter::once("one".to_owned()).chain((1..=10).map(|number| format!("answer {number}"))).collect();
    assert_eq!(said, wanted);
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_sandbox_is_made_ends_the_prompt_and_the_next_one_works() {
    let script = Script::default()
        .when(When::last_user("^begin"), [Turn::text("never said").hold(0, &Gate::closed())])
        .when(When::last_user("^next"), [bash("cat README.md"), Turn::text("Here.")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("early"), "begin").await;
    server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
    let events = server.until_rest(session, 1).await;
    assert_eq!(
        (ends(&events)[0].status, ends(&events)[0].stop_reason),
        (TurnStatus::Interrupted, StopReason::UserStop)
    );
    check_log(&server, session).await;
    server.prompt(session, "next").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(results(&events)[0].content, "# A small thing");
    assert_eq!(server.sandboxes().len(), 1, "nothing is left of the first attempt");
    check_log(&server, session).await;
    model.assert_clean();
}
