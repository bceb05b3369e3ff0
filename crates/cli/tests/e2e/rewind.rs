//! Going back to a checkpoint, and on from one in a session of its own.

use protocol::event::{Event, EventBody};
use protocol::ids::{Seq, SessionId};
use protocol::rewind::CheckpointList;
use protocol::status::{SandboxPhase, SessionStatus, TurnStatus};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Part, TestServer};
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, last_result, serve, small_repo};

const LOOK: &str = "cat one.txt two.txt 2>&1; ls src 2>&1; git status --short; git log --format=%s -1";

/// Two turns, a file each; whatever comes then looks at the files.
async fn model(more: &[(&str, &str)]) -> ScriptedModel {
    let mut script = Script::default()
        .when(When::last_user("^first"), [bash("echo one > one.txt"), Turn::text("the first is done")])
        .when(
            When::last_user("^second"),
            [
                bash("echo two > two.txt; echo more >> one.txt; rm src/main.py"),
                Turn::text("the second is done"),
            ],
        );
    for (prompt, command) in more {
        script = script.when(When::last_user(prompt), [bash(command), Turn::text("seen")]);
    }
    ScriptedModel::start(script.going_back()).await
}

async fn two_turns(server: &TestServer, name: &str) -> SessionId {
    let session = server.create(&small_repo(name), "first").await;
    completed(&server.until_rest(session, 1).await);
    server.prompt(session, "second").await;
    completed(&server.until_rest(session, 2).await);
    session
}

/// The checkpoints at the ends of turns.
async fn ends(server: &TestServer, session: SessionId) -> Vec<Seq> {
    let list: CheckpointList = server.get(&format!("/sessions/{session}/checkpoints")).await.is(200).json();
    list.checkpoints.iter().filter(|point| point.ends_turn).map(|point| point.checkpoint).collect()
}

async fn rewind(server: &TestServer, session: SessionId, body: Value) -> Answer {
    server.post(&format!("/sessions/{session}/rewind"), &body).await
}

/// What the model was told in the newest request, as text.
fn told(model: &ScriptedModel) -> String {
    model.requests().last().unwrap().body["messages"].to_string()
}

fn kinds_after(events: &[Event], seq: Seq) -> Vec<&str> {
    events.iter().filter(|event| event.seq > seq).map(|event| event.body.kind()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_conversation_go_back_and_forward_again_also_over_a_crash() {
    let model = model(&[("^look", LOOK), ("^again", LOOK)]).await;
    let mut server = serve().model(&model).start().await;
    let session = two_turns(&server, "back").await;
    let points = ends(&server, session).await;
    let last = server.session(session).await.last_seq;
    let said =
        server.cli(&["sessions", "rewind", &session.to_string(), "--to", &points[0].to_string()]).await;
    assert!(said.exits(0).text().contains("files and conversation"));
    let events = server.events(session).await;
    assert_eq!(kinds_after(&events, last), ["checkpoint", "diffstat", "session.rewound"]);
    assert_eq!(server.session(session).await.diff.files_changed, 1);

    // The server dies: what the agent knows is folded out of the log alone.
    server.kill(Part::Server).await;
    server.until_rest(session, 2).await;
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 3).await;
    completed(&events);
    assert_eq!(
        last_result(&events),
        "one\ncat: two.txt: No such file or directory\nmain.py\nGo back to checkpoint ".to_owned()
            + &points[0].to_string()
    );
    let text = told(&model);
    assert!(text.contains("the first is done") && !text.contains("second"), "{text}");

    // What was void stands again.
    rewind(&server, session, json!({ "to": points[1] })).await.is(200);
    server.prompt(session, "again").await;
    let events = server.until_rest(session, 4).await;
    completed(&events);
    assert!(last_result(&events).starts_with("one\nmore\ntwo\n"), "{}", last_result(&events));
    let text = told(&model);
    assert!(text.contains("the second is done") && !text.contains("\"look\""), "{text}");

    // The branch never went back: whoever has the commits of before can fetch these.
    let list: CheckpointList = server.get(&format!("/sessions/{session}/checkpoints")).await.is(200).json();
    let stands: Vec<bool> =
        list.checkpoints.iter().filter(|point| point.ends_turn).map(|point| point.stands).collect();
    assert_eq!(stands, [true, true, false, true]);
    let repository = server.data().join("repos").join(format!("{session}.git"));
    let ancestor = std::process::Command::new("git")
        .arg("--git-dir")
        .arg(&repository)
        .args([
            "merge-base",
            "--is-ancestor",
            &list.checkpoints[2].commit,
            &list.checkpoints.last().unwrap().commit,
        ])
        .status()
        .unwrap();
    assert!(ancestor.success());
    let shown = server.cli(&["sessions", "checkpoints", &session.to_string()]).await.exits(0).text();
    assert!(shown.contains("end of turn") && shown.contains("(gone back from)"), "{shown}");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_them_goes_back_alone_and_nothing_that_was_written_meanwhile_is_lost() {
    let model = model(&[("^files", LOOK), ("^words", LOOK), ("^background", "true")]).await;
    let server = serve().model(&model).start().await;
    let session = two_turns(&server, "alone").await;
    let points = ends(&server, session).await;
    rewind(&server, session, json!({ "to": points[0], "conversation": false })).await.is(200);
    server.prompt(session, "files").await;
    let events = server.until_rest(session, 3).await;
    assert!(last_result(&events).starts_with("one\ncat: two.txt: No such file"), "{}", last_result(&events));
    assert!(told(&model).contains("the second is done"));

    // A person writes something that no checkpoint has; going back keeps it.
    let shell = ["sessions", "shell", &session.to_string(), "--", "sh", "-c", "echo mine > mine.txt"];
    server.cli(&shell).await.exits(0);
    rewind(&server, session, json!({ "to": points[1], "files": true, "conversation": false })).await.is(200);
    let list: CheckpointList = server.get(&format!("/sessions/{session}/checkpoints")).await.is(200).json();
    let kept = &list.checkpoints[list.checkpoints.len() - 2];
    let repository = server.data().join("repos").join(format!("{session}.git"));
    let shown = std::process::Command::new("git")
        .arg("--git-dir")
        .arg(&repository)
        .args(["show", &format!("{}:mine.txt", kept.commit)])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "mine\n");

    rewind(&server, session, json!({ "to": points[0], "files": false })).await.is(200);
    server.prompt(session, "words").await;
    let events = server.until_rest(session, 4).await;
    assert!(last_result(&events).starts_with("one\nmore\ntwo\n"), "{}", last_result(&events));
    let text = told(&model);
    assert!(text.contains("the first is done") && !text.contains("the second is done"), "{text}");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_sandbox_goes_back_and_what_cannot_is_refused() {
    let gate = Gate::closed();
    let script = Script::default()
        .when(When::last_user("^first"), [bash("echo one > one.txt"), Turn::text("the first is done")])
        .when(When::last_user("^second"), [bash("echo two > two.txt"), Turn::text("the second is done")])
        .when(When::last_user("^look"), [bash("cat one.txt two.txt 2>&1; true"), Turn::text("seen")])
        .when(When::last_user("^hold"), [Turn::text("held").hold(0, &gate)]);
    let model = ScriptedModel::start(script.going_back()).await;
    let mut server = serve().model(&model).start().await;
    let session = two_turns(&server, "without").await;
    let points = ends(&server, session).await;
    assert_eq!(server.stop().await, Some(0));
    server.start_again().await;
    assert_eq!(server.session(session).await.sandbox, SandboxPhase::Suspended);
    rewind(&server, session, json!({ "to": points[0] })).await.is(200);
    assert_eq!(server.session(session).await.sandbox, SandboxPhase::Suspended, "none is made for it");
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 3).await;
    completed(&events);
    assert_eq!(last_result(&events), "one\ncat: two.txt: No such file or directory");

    rewind(&server, session, json!({ "to": 1 })).await.is_problem(404, "no_checkpoint");
    rewind(&server, session, json!({ "to": 4_000_000 })).await.is_problem(404, "no_checkpoint");
    let neither = json!({ "to": points[0], "files": false, "conversation": false });
    rewind(&server, session, neither).await.is_problem(400, "nothing_to_rewind");
    server.prompt(session, "hold").await;
    model.wait_for_requests(7).await;
    rewind(&server, session, json!({ "to": points[0] })).await.is_problem(409, "busy");
    gate.open();
    completed(&server.until_rest(session, 4).await);
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_left_running_ends_when_it_is_forgotten() {
    let background = json!({ "command": "sleep 600", "run_in_background": true });
    let script = Script::default()
        .when(When::last_user("^first"), [bash("echo one > one.txt"), Turn::text("one")])
        .when(When::last_user("^second"), [Turn::tool("Bash", background), Turn::text("runs")])
        .when(
            When::last_user("^look"),
            [bash("grep -lx sleep /proc/[0-9]*/comm 2>/dev/null | wc -l"), Turn::text("seen")],
        );
    let model = ScriptedModel::start(script.going_back()).await;
    let server = serve().model(&model).start().await;
    let session = two_turns(&server, "left").await;
    let points = ends(&server, session).await;
    rewind(&server, session, json!({ "to": points[0] })).await.is(200);
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 3).await;
    assert_eq!(last_result(&events), "0");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_goes_on_from_a_checkpoint_and_outlives_the_session_that_it_came_from() {
    let long = "seq 20000; echo one > one.txt";
    let look = "cat one.txt two.txt 2>&1; git log --format=%s -1";
    let script = Script::default()
        .when(When::last_user("^first"), [bash(long), Turn::text("the first is done")])
        .when(When::last_user("^second"), [bash("echo two > two.txt"), Turn::text("the second is done")])
        .when(
            When::last_user("^fork"),
            // Once for each of the two.
            [bash(look), Turn::text("seen"), bash(look), Turn::text("seen")],
        );
    let model = ScriptedModel::start(script.going_back()).await;
    let server = serve().model(&model).start().await;
    let session = two_turns(&server, "forked").await;
    let list: CheckpointList = server.get(&format!("/sessions/{session}/checkpoints")).await.is(200).json();
    // The one in the middle of the first turn: the agent has not said its last word.
    let (middle, end) = (list.checkpoints[0].checkpoint, ends(&server, session).await[0]);
    let made =
        server.cli(&["sessions", "fork", &session.to_string(), "--at", &end.to_string(), "--json"]).await;
    let made: Value = serde_json::from_str(&made.exits(0).text()).unwrap();
    let fork: SessionId = made["session_id"].as_str().unwrap().parse().unwrap();
    let key = [("idempotency-key", "once")];
    let body = json!({ "at": middle, "prompt": "fork in the middle" });
    let path = format!("/sessions/{session}/fork");
    let with_key = || server.request(Method::POST, &path).header(key[0].0, key[0].1).json(&body);
    let other: Value = Answer::to(with_key()).await.is(201).json();
    let again: Value = Answer::to(with_key()).await.is(201).json();
    assert_eq!(other["id"], again["id"], "the same key makes one");
    let other: SessionId = other["id"].as_str().unwrap().parse().unwrap();
    server.post(&path, &json!({ "at": 2 })).await.is_problem(404, "no_checkpoint");
    completed(&server.until_rest(other, 2).await);
    Answer::to(server.request(Method::DELETE, &format!("/sessions/{session}"))).await.is(204);

    let view = server.session(fork).await;
    assert_eq!((view.status, view.diff.files_changed), (SessionStatus::Suspended, 1));
    assert_eq!(view.last_turn.unwrap().status, TurnStatus::Completed);
    assert_eq!(view.fork.unwrap().session, session);
    assert_eq!(view.usage.requests, 0, "what was spent is counted where it was");
    server.prompt(fork, "fork and look").await;
    let events = server.until_rest(fork, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "one\ncat: two.txt: No such file or directory\nfirst");
    let text = told(&model);
    assert!(text.contains("the first is done") && !text.contains("the second is done"), "{text}");
    let full = events.iter().find_map(|event| match &event.body {
        EventBody::ToolResult(result) => result.full_output.clone(),
        _ => None,
    });
    let blob = server.get(&format!("/sessions/{fork}/blobs/{}", full.unwrap().blob)).await.is(200);
    assert!(blob.text().contains("\n20000\n"));
    for session in [fork, other] {
        check_log(&server, session).await;
    }
    let (events, _) = check_log(&server, other).await;
    let cut = crate::world::ends(&events)[0];
    assert_eq!(
        (cut.status, cut.message.as_deref()),
        (TurnStatus::Interrupted, Some("Forked in the middle of this turn."))
    );
    assert_eq!(last_result(&events), "one\ncat: two.txt: No such file or directory\nfirst");
    model.assert_clean();
}
