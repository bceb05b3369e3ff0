//! No phase lasts without an end: what it waits for stands still, and after its deadline the session is where a
//! person can go on, with a reason that the list, the API and the command line show.
//!
//! ```text
//!  sandbox-host stopped ─▶ creating · putting away · archiving · deleting · the server's start
//!  guest stopped        ─▶ stopping · recording · going back
//!  far end silent       ─▶ git host: fetching · model: running · person: waiting (pushes, forges: `pull_requests`)
//!  program silent       ─▶ hooks, an agent's start (the setup script: `setup`)
//! ```
//!
//! The table of all of them is in `docs/ARCHITECTURE.md`.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::status::{SandboxPhase, SessionStatus, StopReason, TurnStatus};
use protocol::view::SessionView;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Part, Repo, Resume, TestServer};
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::insist::settle;
use crate::world::{bash, check_log, completed, ends, results, serve, small_repo};

/// As long as nothing here takes, but for machines that are very busy.
const SOON: Duration = Duration::from_secs(45);

/// A process that stands still until this goes.
struct Still(Pid);

impl Still {
    fn keep(pid: i32) -> Self {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        Self(Pid::from_raw(pid))
    }

    fn host(server: &TestServer) -> Self {
        Self::keep(server.pid(Part::SandboxHost))
    }

    /// Process 1 of the session's sandbox.
    fn guest(server: &TestServer, session: SessionId) -> Self {
        Self::keep(server.sandbox_of(session).init)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // It may be gone by now.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Fails unless the session shows this status and this reason wherever people look.
async fn shows(server: &TestServer, session: SessionId, status: SessionStatus, words: &str) {
    let view = server.session(session).await;
    let ended = view.last_turn.as_ref().and_then(|turn| turn.message.clone());
    let reason = format!("{:?} {ended:?}", view.reason);
    assert_eq!(view.status, status, "{reason}");
    assert!(reason.contains(words), "`{words}` in: {reason}");
    let listed: Value = server.get("/sessions").await.is(200).json();
    let listed = listed["sessions"].as_array().unwrap().iter().find(|one| one["id"] == json!(session));
    assert_eq!(listed, Some(&json!(view)), "the list shows the same");
    let id = session.to_string();
    let shown = server.cli(&["sessions", "show", &id]).await.exits(0).text();
    assert!(shown.contains(words), "`{words}` in: {shown}");
    let listed = server.cli(&["sessions", "list"]).await.exits(0).text();
    let line = listed.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains(status.as_str()), "{line}");
}

/// Waits until a session is in this state.
async fn until(server: &TestServer, session: SessionId, wanted: impl Fn(&SessionView) -> bool) {
    let there = |events: &[Event]| SessionView::fold(events).is_some_and(|view| wanted(&view));
    server.until(session, there).await;
}

fn one_answer(prompt: &str) -> Script {
    Script::default().when(When::last_user(prompt), [Turn::text("done")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_is_not_made_in_time_fails_the_session_which_can_be_tried_again() {
    let script = one_answer("^first").when(When::last_user("^second"), [Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let config = "[deadlines]\nsandbox = 4\nteardown = 1\n[sandbox]\nidle_seconds = 1\n";
    let server = serve().model(&model).config(config).start().await;
    let session = server.create(&small_repo("creating"), "first").await;
    // On a very busy machine the first one is too late already.
    settle(&server, session, 1).await;
    until(&server, session, |view| view.status == SessionStatus::Suspended).await;
    let still = Still::host(&server);
    server.prompt(session, "second").await;
    until(&server, session, |view| view.sandbox == SandboxPhase::Creating).await;
    assert_eq!(server.session(session).await.status, SessionStatus::Preparing);
    let begun = Instant::now();
    until(&server, session, |view| view.status == SessionStatus::Failed).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    shows(&server, session, SessionStatus::Failed, "it took too long and was given up").await;
    drop(still);
    server.post(&format!("/sessions/{session}/retry"), &json!({})).await.is(202);
    until(&server, session, |view| view.status != SessionStatus::Failed).await;
    settle(&server, session, 2).await;
    completed(&server.events(session).await);
    check_log(&server, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_and_agents_that_do_not_get_ready_are_given_up() {
    let settings = json!({ "hooks": { "SessionStart": [{ "hooks": [
        { "type": "command", "command": "sleep 1000", "timeout": 1 }
    ] }] } });
    let repo = Repo::with("hooked", &[("a.txt", "a\n"), (".claude/settings.json", &settings.to_string())]);
    let model = ScriptedModel::start(one_answer("^go")).await;
    let config = "[deadlines]\nagent = 1\n[agents.silent]\ncommand = [\"/bin/sleep\", \"1000\"]\n";
    let server = serve().model(&model).config(config).start().await;
    let session = server.create(&repo, "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let told = events.iter().find_map(|event| match &event.body {
        EventBody::StepFinished { detail: Some(detail), .. } if detail.contains("hooks failed") => {
            Some(detail.clone())
        }
        _ => None,
    });
    assert!(told.as_deref().is_some_and(|told| told.contains("1 of 1 hooks failed")), "{told:?}");

    let mut body = server.new_session(&small_repo("silent"), "go").await;
    body["agent"] = "silent".into();
    let silent: SessionView = server.post("/sessions", &body).await.is(201).json();
    let events = server.until(silent.id, |events| {
        SessionView::fold(events)
            .is_some_and(|view| view.status == SessionStatus::Failed || view.last_turn.is_some())
    });
    events.await;
    server.until_rest(silent.id, 0).await;
    let view = server.session(silent.id).await;
    shows(&server, silent.id, view.status, "within 1 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_model_says_nothing_ends_at_its_limit() {
    let gate = Gate::closed();
    let script =
        Script::default().when(When::last_user("^go"), vec![Turn::text("never said").hold(0, &gate); 10]);
    let model = ScriptedModel::start(script).await;
    let config = "[turn]\nminutes = 0.1\nfinish_check = false\n[deadlines]\nmodel = 1\nstop = 1\n";
    let server = serve().model(&model).config(config).start().await;
    let session = server.create(&small_repo("running"), "go").await;
    let events = server.until_rest(session, 1).await;
    let end = ends(&events)[0];
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Limit, StopReason::Deadline), "{end:?}");
    let silent = |body: &EventBody| matches!(body, EventBody::Error(error) if error.message.contains("1 s"));
    assert!(events.iter().any(|event| silent(&event.body)), "each try that failed is told");
    let id = session.to_string();
    let shown = server.cli(&["sessions", "show", &id, "--json"]).await.exits(0).json();
    assert_eq!((&shown["status"], &shown["stop_reason"]), (&json!("limit"), &json!("deadline")));
    check_log(&server, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_answers_has_its_safe_answer() {
    let settings = json!({ "permissions": { "ask": ["Bash(touch *)"] } });
    let repo = Repo::with("waiting", &[("a.txt", "a\n"), (".claude/settings.json", &settings.to_string())]);
    let model = ScriptedModel::start(Script::turns([bash("touch one"), Turn::text("done")])).await;
    let server = serve().model(&model).config("[deadlines]\nquestion = 2\n").start().await;
    let session = server.create(&repo, "go").await;
    until(&server, session, |view| view.status == SessionStatus::Waiting).await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let answered =
        |body: &EventBody| matches!(body, EventBody::QuestionAnswered { answer, .. } if answer.by_deadline);
    assert!(events.iter().any(|event| answered(&event.body)));
    let said = &results(&events)[0];
    assert!(said.is_error && said.content.contains("nobody answered"), "{said:?}");
    check_log(&server, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_stopped_also_where_the_sandbox_does_nothing_any_more() {
    let script = Script::default()
        .when(When::last_user("^begin"), [bash("echo started; sleep 600")])
        .when(When::last_user("^again"), [Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).config("[deadlines]\nstop = 1\ncheckpoint = 1\n").start().await;
    let session = server.create(&small_repo("stopping"), "begin").await;
    server.follow(session, Resume::After(0)).await.until_output("started").await;
    let still = Still::guest(&server, session);
    let begun = Instant::now();
    server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
    let events = server.until_rest(session, 1).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let end = ends(&events)[0];
    assert_eq!(end.status, TurnStatus::Interrupted, "{end:?}");
    until(&server, session, |view| view.status == SessionStatus::Suspended).await;
    shows(&server, session, SessionStatus::Suspended, "it did not end what runs in it").await;
    drop(still);
    server.prompt(session, "again").await;
    completed(&server.until_rest(session, 2).await);
    check_log(&server, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_recorded_in_time_end_the_turn_and_keep_the_sandbox() {
    let gate = Gate::closed();
    let script = Script::default()
        .when(When::last_user("^begin"), [bash("echo x > x.txt"), Turn::text("done").hold(0, &gate)])
        .when(When::last_user("^again"), [Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).config("[deadlines]\ncheckpoint = 1\n").start().await;
    let session = server.create(&small_repo("recording"), "begin").await;
    let events = server
        .until(session, |events| events.iter().any(|event| matches!(event.body, EventBody::DiffStat(_))));
    events.await;
    let still = Still::guest(&server, session);
    gate.open();
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let told = |body: &EventBody| matches!(body, EventBody::Error(error) if error.code == "checkpoint_failed" && error.message.contains("it took too long"));
    assert!(events.iter().any(|event| told(&event.body)), "{events:?}");
    assert_eq!(server.session(session).await.status, SessionStatus::Idle);
    // Going back would lose what is not recorded.
    let to = events.iter().find(|event| matches!(event.body, EventBody::Checkpoint(_))).unwrap().seq;
    let back = json!({ "to": to, "files": true, "conversation": false });
    let refused = server.post(&format!("/sessions/{session}/rewind"), &back).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    drop(still);
    server.prompt(session, "again").await;
    completed(&server.until_rest(session, 2).await);
    let (_, view) = check_log(&server, session).await;
    assert_eq!(view.diff.files_changed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_put_away_archived_and_deleted_also_while_nothing_takes_sandboxes_down() {
    let script = Script::by_depth([Turn::text("done"), Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let config = "[deadlines]\nsave = 1\nteardown = 1\n[sandbox]\nidle_seconds = 2\n";
    let server = serve().model(&model).config(config).start().await;
    let mut sessions = Vec::new();
    for name in ["resting", "archived", "deleted"] {
        sessions.push(server.create(&small_repo(name), name).await);
    }
    for session in &sessions {
        server.until_rest(*session, 1).await;
    }
    let [resting, archived, deleted] = sessions[..] else { panic!() };
    let still = Still::host(&server);
    let begun = Instant::now();
    server.post(&format!("/sessions/{archived}/archive"), &json!({ "archived": true })).await.is(200);
    Answer::to(server.request(Method::DELETE, &format!("/sessions/{deleted}"))).await.is(204);
    until(&server, resting, |view| view.status == SessionStatus::Suspended).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    shows(&server, resting, SessionStatus::Suspended, "keeping it took longer than 1 s").await;
    let view = server.session(archived).await;
    assert_eq!((view.archived, view.status), (true, SessionStatus::Suspended));
    server.get(&format!("/sessions/{deleted}")).await.is(404);
    drop(still);
    // What it was asked for meanwhile is done, and nothing is left.
    let until = Instant::now() + SOON;
    while !server.sandboxes().is_empty() {
        assert!(Instant::now() < until, "{:?}", server.sandboxes());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.prompt(resting, "resting again").await;
    completed(&server.until_rest(resting, 2).await);
    check_log(&server, resting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_also_where_sandbox_host_says_nothing() {
    let model = ScriptedModel::start(one_answer("^go")).await;
    let mut server = serve().model(&model).start().await;
    let session = server.create(&small_repo("starting"), "go").await;
    server.until_rest(session, 1).await;
    let still = Still::host(&server);
    let begun = Instant::now();
    server.kill(Part::Server).await;
    let view: SessionView = server.get(&format!("/sessions/{session}")).await.is(200).json();
    assert_eq!(view.id, session);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    drop(still);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_repositories_that_says_nothing_refuses_a_session_in_words() {
    // Connections are made by the kernel; nobody ever reads from them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let model = ScriptedModel::start(Script::default()).await;
    let config = "[repositories]\nallow = [{ host = \"127.0.0.1\", cidr = \"127.0.0.0/8\" }]\n[deadlines]\nfetch = 1\n";
    let server = serve().model(&model).config(config).start().await;
    let url = format!("http://{address}/team/thing.git");
    let body = json!({ "prompt": "go", "repository": { "type": "url", "url": url } });
    let words = server.post("/sessions", &body).await.is_problem(504, "repository_timeout");
    assert!(words.contains("git fetch took longer than 1 s"), "{words}");
    let told = server.cli(&["--remote", "go", "--repo", &url]).await.exits(1).stderr;
    assert!(told.contains("git fetch took longer than 1 s"), "{told}");
    let listed: Value = server.get("/sessions").await.is(200).json();
    assert_eq!(listed["sessions"], json!([]));
    assert_eq!(crate::leaks::names(&server.data().join("repos")), Vec::<String>::new());
}
