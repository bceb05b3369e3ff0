//! What the tests share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::event::{Event, EventBody, ToolResult, TurnEnded};
use protocol::ids::SessionId;
use protocol::status::TurnStatus;
use protocol::view::SessionView;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Repo, Serve, TestServer};
use testkit::model::Turn;

/// A server to be, of the binary under test.
pub(crate) fn serve() -> Serve {
    Serve::of(env!("CARGO_BIN_EXE_patchyard"))
}

/// The root of this workspace.
pub(crate) fn workspace_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Says why a test does not run here.
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// A small repository with one commit.
pub(crate) fn small_repo(name: &str) -> Repo {
    Repo::with(name, &[("README.md", "# A small thing\n"), ("src/main.py", "print('hello')\n")])
}

/// An answer with one Bash call.
pub(crate) fn bash(command: &str) -> Turn {
    Turn::tool("Bash", json!({ "command": command }))
}

/// The results of tool calls, in order.
pub(crate) fn results(events: &[Event]) -> Vec<&ToolResult> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolResult(result) => Some(result),
            _ => None,
        })
        .collect()
}

/// The newest result's text.
pub(crate) fn last_result(events: &[Event]) -> &str {
    results(events).last().map(|result| result.content.as_str()).unwrap()
}

/// How the turns ended, in order.
pub(crate) fn ends(events: &[Event]) -> Vec<&TurnEnded> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::TurnEnded(ended) => Some(ended),
            _ => None,
        })
        .collect()
}

/// Fails the test unless the newest turn completed.
#[track_caller]
pub(crate) fn completed(events: &[Event]) {
    let end = ends(events).last().copied().unwrap();
    assert_eq!(end.status, TurnStatus::Completed, "{end:?}");
}

/// The default environment.
pub(crate) async fn default_environment(server: &TestServer) -> Value {
    let all: Value = server.get("/environments").await.is(200).json();
    all["environments"][0].clone()
}

/// Changes those settings of the default environment that `changes`, an object, names.
pub(crate) async fn edit_default_environment(server: &TestServer, changes: Value) -> Answer {
    let usual = default_environment(server).await;
    let mut settings = usual["settings"].clone();
    for (name, value) in changes.as_object().unwrap() {
        settings[name] = value.clone();
    }
    let edit = json!({ "revision": usual["revision"], "settings": settings });
    let path = format!("/environments/{}", usual["id"].as_str().unwrap());
    Answer::to(server.request(Method::PUT, &path).json(&edit)).await
}

/// Everything that holds for every log at rest: dense from 1, every call has its one result, every turn
/// its end, and what the API shows is the fold of the log. Gives both.
pub(crate) async fn check_log(server: &TestServer, session: SessionId) -> (Vec<Event>, SessionView) {
    let events = server.events(session).await;
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>(), "dense from 1");
    assert_eq!(events[0].body.kind(), "session.created");

    let mut results_by_call: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut started, mut ended) = (0, 0);
    for event in &events {
        match &event.body {
            EventBody::ToolCall(call) => {
                let before = results_by_call.insert(&call.call, 0);
                assert_eq!(before, None, "call id {} is used twice", call.call);
            }
            EventBody::ToolResult(result) => *results_by_call.get_mut(result.call.as_str()).unwrap() += 1,
            EventBody::TurnStarted { .. } => {
                assert_eq!(started, ended, "a turn began before the last one was over");
                started += 1;
            }
            EventBody::TurnEnded(_) => ended += 1,
            _ => {}
        }
    }
    assert!(results_by_call.values().all(|count| *count == 1), "{results_by_call:?}");
    assert_eq!(started, ended, "every turn has its end");

    let folded = SessionView::fold(&events).unwrap();
    let served: Value = server.get(&format!("/sessions/{session}")).await.is(200).json();
    assert_eq!(json!(folded), served, "the served view is the fold of the log");
    (events, folded)
}
