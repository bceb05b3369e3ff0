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
    let served: Value = server.get(&format!("/sessions/{session}")).await.is(200).json();
    assert_eq!(faults_of_log(&events, &served), Vec::<String>::new());
    let folded = SessionView::fold(&events).unwrap();
    (events, folded)
}

/// What does not hold for a log at rest and what the API shows of it, a sentence each.
pub(crate) fn faults_of_log(events: &[Event], served: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if !events.iter().map(|event| event.seq).eq(1..=events.len() as u64) {
        faults.push(format!("not dense from 1: {:?}", events.iter().map(|event| event.seq)));
    }
    let first = events.first().map_or("nothing", |event| event.body.kind());
    if first != "session.created" {
        faults.push(format!("it begins with {first}"));
    }
    let mut results_by_call: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut started, mut ended) = (0, 0);
    for event in events {
        match &event.body {
            EventBody::ToolCall(call) => {
                let before = results_by_call.insert(&call.call, 0);
                faults.extend(before.map(|_| format!("call id {} is used twice", call.call)));
            }
            EventBody::ToolResult(result) => match results_by_call.get_mut(result.call.as_str()) {
                Some(count) => *count += 1,
                None => faults.push(format!("a result of {}, which was not called", result.call)),
            },
            EventBody::TurnStarted { .. } => {
                if started != ended {
                    faults.push(format!("{}: a turn began before the last one was over", event.seq));
                }
                started += 1;
            }
            EventBody::TurnEnded(_) => ended += 1,
            _ => {}
        }
    }
    if results_by_call.values().any(|count| *count != 1) {
        faults.push(format!("calls without their one result: {results_by_call:?}"));
    }
    if started != ended {
        faults.push(format!("{started} turns began, and {ended} ended"));
    }
    let folded = SessionView::fold(events).map(|view| json!(view)).unwrap_or_default();
    if &folded != served {
        faults.push(format!("the served view is not the fold of the log: {served}, not {folded}"));
    }
    faults
}
