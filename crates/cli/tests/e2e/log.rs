//! The log as viewers see it: over pages, over a stream, and over a stream that breaks.

use futures::future::join_all;
use protocol::event::Event;
use protocol::ids::SessionId;
use serde_json::Value;
use testkit::harness::{Answer, Resume, TestServer};
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, serve, small_repo};

/// A turn of several answers that waits in its middle.
fn turns(gate: &Gate) -> Vec<Turn> {
    vec![
        Turn::text("I begin.").and_tool("Bash", serde_json::json!({ "command": "seq 1 20" })),
        bash("echo two >> two.txt"),
        bash("echo three; echo out >&2; false").hold(0, gate),
        Turn::text("thinking over").and_tool("Read", serde_json::json!({ "file_path": "/nonexistent" })),
        Turn::text("All done."),
    ]
}

/// Reads a session's log over a stream that is cut after every `every` events, until `last` was seen.
async fn read_with_cuts(server: &TestServer, session: SessionId, every: usize, header: bool) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let seen = events.len() as u64;
        let resume = if header { Resume::LastEventId(seen) } else { Resume::After(seen) };
        let mut follower = server.follow(session, resume).await;
        for _ in 0..every {
            let event = follower.next_event().await.unwrap();
            let over = event.body.kind() == "turn.ended";
            events.push(event);
            if over {
                return events;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_drops_and_resumes_misses_nothing_and_sees_nothing_twice() {
    let gate = Gate::closed();
    let model = ScriptedModel::start(Script::turns(turns(&gate))).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("cuts"), "go").await;
    let viewers = async {
        let cuts = (1..=6).map(|every| read_with_cuts(&server, session, every, every % 2 == 0));
        let steady = read_with_cuts(&server, session, usize::MAX, true);
        let (mut all, steady) = tokio::join!(join_all(cuts), steady);
        all.push(steady);
        all
    };
    let opens = async {
        model.wait_for_requests(3).await;
        gate.open();
    };
    let (seen, ()) = tokio::join!(viewers, opens);
    server.until_rest(session, 1).await;
    let (logged, _) = check_log(&server, session).await;
    for events in seen {
        assert_eq!(events, logged[..events.len()]);
    }
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_without_viewers_and_shows_the_same_to_those_who_come_late() {
    let gate = Gate::closed();
    let model = ScriptedModel::start(Script::turns(turns(&gate))).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("unwatched"), "go").await;
    let mut viewers = Vec::new();
    for _ in 0..3 {
        let mut viewer = server.follow(session, Resume::After(0)).await;
        assert!(viewer.next_event().await.is_some());
        viewers.push(viewer);
    }
    model.wait_for_requests(3).await;
    drop(viewers);
    gate.open();
    model.wait_for_requests(5).await;
    let one = read_with_cuts(&server, session, usize::MAX, true).await;
    let two = read_with_cuts(&server, session, usize::MAX, false).await;
    assert_eq!(one, two);
    server.until_rest(session, 1).await;
    let (logged, _) = check_log(&server, session).await;
    assert_eq!(one, logged[..one.len()]);
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_cursors_beyond_the_ends_are_empty_or_cut() {
    let gate = Gate::closed();
    gate.open();
    let model = ScriptedModel::start(Script::turns(turns(&gate))).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("pages"), "go").await;
    let last = server.until_rest(session, 1).await.len() as u64;
    let page = async |query: &str| -> (Vec<u64>, u64) {
        let page: Value = server.get(&format!("/sessions/{session}/events{query}")).await.is(200).json();
        let events = page["events"].as_array().unwrap();
        (
            events.iter().map(|event| event["seq"].as_u64().unwrap()).collect(),
            page["last_seq"].as_u64().unwrap(),
        )
    };
    assert_eq!(page("?after=1000000").await, (vec![], last));
    assert_eq!(page("?after=1&limit=3").await, (vec![2, 3, 4], last));
    assert_eq!(page("?tail=2").await, (vec![last - 1, last], last));
    assert_eq!(page("?before=4&limit=2").await, (vec![2, 3], last));
    assert_eq!(page("?before=3&limit=50").await, (vec![1, 2], last));
    server.get(&format!("/sessions/{session}/events?after=-1")).await.is_problem(400, "bad_query");

    // A stream from beyond the end greets, and says nothing twice.
    let mut beyond = server.follow(session, Resume::After(last)).await;
    assert_eq!(beyond.next().await.unwrap().name, "hello");
    server.prompt(session, "again").await;
    assert_eq!(beyond.next_event().await.unwrap().seq, last + 1);
    let nonsense = server.request(reqwest::Method::GET, &format!("/sessions/{session}/events"));
    let nonsense = nonsense.header("accept", "text/event-stream").header("last-event-id", "x");
    let response = nonsense.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_stream_shows_every_session_and_the_events_of_the_open_one() {
    let script =
        Script::default().many_conversations().when(When::Always, [Turn::text("one"), Turn::text("two")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("tab");
    let open = server.create(&repo, "open").await;
    server.until_rest(open, 1).await;
    let request = server.request(reqwest::Method::GET, &format!("/stream?session={open}&after=0"));
    let mut tab = testkit::harness::Follower::open(request).await.unwrap();
    let other = server.create(&repo, "other").await;
    server.until_rest(other, 1).await;
    server.request(reqwest::Method::DELETE, &format!("/sessions/{other}")).send().await.unwrap();

    let (mut events, mut others) = (Vec::new(), Vec::new());
    let gone = loop {
        let frame = tab.next().await.unwrap();
        match frame.name.as_str() {
            "event" => events.extend(frame.event()),
            "session" => others.push(frame.data["id"].as_str().unwrap().to_owned()),
            "gone" => break frame.data,
            _ => {}
        }
    };
    assert_eq!(gone["session"], other.to_string());
    assert!(others.contains(&other.to_string()));
    let (logged, _) = check_log(&server, open).await;
    assert_eq!(events, logged);
    Answer::to(server.request(reqwest::Method::GET, &format!("/sessions/{other}")))
        .await
        .is_problem(404, "session_not_found");
    Answer::to(server.request(reqwest::Method::GET, &format!("/stream?session={other}")))
        .await
        .is_problem(404, "session_not_found");
}
