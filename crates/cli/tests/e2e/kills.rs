//! The server is killed at random instants, again and again, while sessions work: nobody can tell afterwards.
//!
//! ```text
//!  8 clients, each: create ─▶ prompt ─▶ prompt ─▶ looked at, deleted ─▶ the next one        asking again until it is done
//!  killer: kill -9 after a random while ─▶ the server is back ─▶ …                           PATCHYARD_KILLS times
//! ```
//!
//! `make test-faults` kills 200 times. `PATCHYARD_SEED` repeats the whiles of a run, which are printed by their seed;
//! what they hit is the machine's business.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::status::{StopReason, TurnStatus};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Part, Repo, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};
use ulid::Ulid;

use crate::insist::{create, delete, insist, settle};
use crate::leaks::{Watch, nothing_left};
use crate::world::{bash, faults_of_log, serve, small_repo};

/// How many sessions work at a time.
const CLIENTS: usize = 8;

/// The longest that a server is left alone.
const LONGEST: u64 = 4000;

/// Counts its runs and takes a while.
fn count(word: &str) -> Turn {
    bash(&format!("echo {word} >> count.txt; for i in $(seq 10); do echo $i; sleep 0.1; done; cat count.txt"))
}

/// What all clients did together.
#[derive(Default)]
struct Tally {
    sessions: AtomicUsize,
    resumed: AtomicUsize,
    given_up: AtomicUsize,
    over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
#[ignore = "half an hour; make test-faults runs it"]
async fn l05_a_server_that_is_killed_again_and_again_at_random_loses_nothing() {
    let kills = std::env::var("PATCHYARD_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200);
    let seed = std::env::var("PATCHYARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::try_from(Ulid::generate().random() >> 16).unwrap_or(1));
    println!("PATCHYARD_SEED={seed}");
    let script = Script::by_depth([
        count("one"),
        Turn::text("Counted."),
        count("two"),
        Turn::text("Counted again."),
        Turn::text("Counted enough."),
    ]);
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).start().await;
    let (watch, tally, begun) = (Watch::over(server.data()), Tally::default(), Instant::now());
    let repo = small_repo("kills");
    let killer = async {
        let mut random = Random(seed);
        for number in 1..=kills {
            tokio::time::sleep(Duration::from_millis(random.below(LONGEST))).await;
            server.kill_child(Part::Server);
            if number % 20 == 0 {
                let sessions = tally.sessions.load(Ordering::Relaxed);
                println!("{number} kills, {sessions} sessions, {:.0} s", begun.elapsed().as_secs_f64());
            }
            // Killed while it starts, too, now and then.
            if random.below(4) > 0 {
                insist(|| server.request(Method::GET, "/sessions")).await;
            }
        }
        tally.over.store(true, Ordering::Relaxed);
    };
    let clients = (0..CLIENTS).map(|_| async {
        while !tally.over.load(Ordering::Relaxed) {
            lead(&server, &repo, &tally).await;
        }
    });
    tokio::join!(killer, futures::future::join_all(clients));
    let done = [&tally.sessions, &tally.resumed, &tally.given_up].map(|count| count.load(Ordering::Relaxed));
    println!("{kills} kills; {} sessions, {} turns went on, {} ended interrupted", done[0], done[1], done[2]);
    assert!(done[0] >= CLIENTS && done[1] > 0, "{done:?}");
    let listed: Value = server.get("/sessions").await.is(200).json();
    assert_eq!(listed["sessions"], json!([]));
    nothing_left(&server, &watch, None).await;
    let host = server.pid(Part::SandboxHost);
    assert_eq!(server.stop().await, Some(0));
    nothing_left(&server, &watch, Some(host)).await;
    model.assert_clean();
}

/// The life of one session, looked at before its end.
async fn lead(server: &TestServer, repo: &Repo, tally: &Tally) {
    let session = create(server, repo, "first").await;
    settle(server, session, 1).await;
    for (turns, text) in [(2, "second"), (3, "third")] {
        let path = format!("/sessions/{session}/prompts");
        let body = json!({ "text": text });
        let request = || server.request(Method::POST, &path).json(&body).header("idempotency-key", text);
        let (status, answer) = insist(request).await;
        assert!(matches!(status, 200 | 202), "{status}: {answer}");
        settle(server, session, turns).await;
    }
    let (events, served) = at_rest(server, session).await;
    let faults = faults_of_log(&events, &served);
    assert_eq!(faults, Vec::<String>::new(), "{session}");
    let prompts = events.iter().filter_map(|event| match &event.body {
        EventBody::PromptQueued { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(prompts.collect::<Vec<_>>(), ["first", "second", "third"], "{session}");
    let mut ends = Vec::new();
    for event in &events {
        match &event.body {
            EventBody::TurnEnded(end) => ends.push((end.status, end.stop_reason)),
            EventBody::TurnResumed {} => drop(tally.resumed.fetch_add(1, Ordering::Relaxed)),
            // A command that ran twice would have counted twice.
            EventBody::ToolResult(result) if !result.is_error => {
                let counted =
                    result.content.lines().filter(|line| line.starts_with(['o', 't'])).collect::<Vec<_>>();
                assert!(["one", "one,two", "two"].contains(&&*counted.join(",")), "{session}: {counted:?}");
            }
            _ => {}
        }
    }
    assert_eq!(ends.len(), 3, "each prompt has its turn: {ends:?}");
    for end in ends {
        match end {
            (TurnStatus::Completed, _) => {}
            // It got no further three times in a row.
            (TurnStatus::Interrupted, StopReason::ServerRestart) => {
                tally.given_up.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("{session}: a turn ended as {other:?}"),
        }
    }
    delete(server, session).await;
    tally.sessions.fetch_add(1, Ordering::Relaxed);
}

/// The log and what is shown of the session, both of one moment.
async fn at_rest(server: &TestServer, session: SessionId) -> (Vec<Event>, Value) {
    let path = format!("/sessions/{session}");
    loop {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let page = format!("{path}/events?after={}", events.len());
            let (status, text) = insist(|| server.request(Method::GET, &page)).await;
            assert_eq!(status, 200, "{text}");
            let page: protocol::api::EventPage = serde_json::from_str(&text).unwrap();
            if page.events.is_empty() {
                break;
            }
            events.extend(page.events);
        }
        let (status, text) = insist(|| server.request(Method::GET, &path)).await;
        assert_eq!(status, 200, "{text}");
        let served: Value = serde_json::from_str(&text).unwrap();
        // A server that is started again may write something in between.
        if served["last_seq"] == json!(events.len()) {
            return (events, served);
        }
    }
}

/// Numbers that a seed decides: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
