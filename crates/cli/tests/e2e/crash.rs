//! Processes that die, at the worst time.
//!
//! ```text
//!  supervisor ─┬─ server         killed in a turn: its command runs on, the turn goes on with the next one
//!              └─ sandbox-host   killed: nobody notices
//!  supervisor itself killed: the others go with it; the next one finds the sandbox
//!  supervisor told to end: turns end, files are recorded, nothing is left
//! ```

use std::time::Duration;

use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::status::{SandboxPhase, SessionStatus, StopReason, TurnStatus};
use serde_json::json;
use testkit::harness::{Part, Repo, Resume, TestServer};
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, last_result, results, serve, small_repo};

/// Leaves a mark outside of the workspace and a change inside, says so, and goes on for long.
const LONG: &str = "echo mark > /tmp/marker; echo change > change.txt; echo started; sleep 600";

/// Looks for both, and for what the long one left running.
const LOOK: &str = "echo \"marker: $(cat /tmp/marker 2>&1)\"; echo \"change: $(cat change.txt 2>&1)\"; \
                    echo \"sleeps: $(grep -lx sleep /proc/[0-9]*/comm 2>/dev/null | wc -l)\"";

/// Counts its runs, and speaks all the time for three seconds.
const TICKS: &str = "echo run >> /tmp/runs; echo started; for i in $(seq 60); do echo tick $i; sleep 0.05; \
                     done; echo change > change.txt";

async fn two_prompts() -> ScriptedModel {
    let script = Script::default()
        .when(When::last_user("^begin"), [bash(LONG)])
        .when(When::last_user("^look"), [bash(LOOK), Turn::text("seen")]);
    ScriptedModel::start(script).await
}

/// A session whose Bash call runs right now.
async fn in_a_turn(server: &TestServer, repo: &Repo) -> SessionId {
    let session = server.create(repo, "begin").await;
    server.follow(session, Resume::After(0)).await.until_output("started").await;
    session
}

/// Fails unless the whole output of [`TICKS`] is there, once.
#[track_caller]
fn all_ticks(text: &str) {
    let wanted: Vec<String> =
        std::iter::once("started".into()).chain((1..=60).map(|number| format!("tick {number}"))).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
}

fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|event| event.body.kind() == kind).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_outlives_the_server_and_the_turn_goes_on_by_itself() {
    let turns = [bash(TICKS), bash("cat /tmp/runs; cat change.txt"), Turn::text("done")];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let mut server = serve().model(&model).start().await;
    let session = in_a_turn(&server, &small_repo("outlived")).await;
    let (sandbox, supervisor) = (server.sandbox_of(session), server.pid(Part::Supervisor));
    server.kill(Part::Server).await;

    let events = server.until_rest(session, 1).await;
    completed(&events);
    let results = results(&events);
    assert!(!results[0].is_error, "{:?}", results[0]);
    all_ticks(&results[0].content);
    assert_eq!(results[1].content, "run\nchange", "it ran once, to its end");
    assert_eq!((results.len(), count(&events, "turn.resumed"), count(&events, "turn.started")), (2, 1, 1));
    assert_eq!(model.requests().len(), 3, "no request was made twice");
    assert_eq!((server.sandbox_of(session), server.pid(Part::Supervisor)), (sandbox, supervisor));
    let (_, view) = check_log(&server, session).await;
    assert_eq!((view.status, view.sandbox), (SessionStatus::Idle, SandboxPhase::Ready));
    assert_eq!(view.diff.files_changed, 1, "the files are recorded at the turn's end");
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ended_while_no_server_was_there_is_not_run_again() {
    let turns = [bash(TICKS), bash("cat /tmp/runs"), Turn::text("done")];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let mut server = serve().model(&model).start().await;
    let session = in_a_turn(&server, &small_repo("missed")).await;
    let sandbox = server.sandbox_of(session);
    server.kill(Part::Supervisor).await;
    // Process 1 alone is left once the command is over.
    while sandbox.processes().len() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.start_again().await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    all_ticks(&results(&events)[0].content);
    assert_eq!(results(&events)[1].content, "run");
    assert_eq!(server.sandbox_of(session), sandbox);
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_were_not_begun_run_after_the_one_that_outlived_the_server() {
    let calls = Turn::tool("Bash", json!({ "command": TICKS }))
        .and_tool("Bash", json!({ "command": "cat /tmp/runs; echo second" }))
        .and_tool("Read", json!({ "file_path": "README.md" }));
    let model = ScriptedModel::start(Script::turns([calls, Turn::text("done")])).await;
    let mut server = serve().model(&model).start().await;
    let session = in_a_turn(&server, &small_repo("several")).await;
    server.kill(Part::Server).await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let results = results(&events);
    all_ticks(&results[0].content);
    assert_eq!(results[1].content, "run\nsecond");
    assert!(results[2].content.contains("# A small thing"), "{:?}", results[2]);
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_task_outlives_the_server_with_all_that_it_said() {
    let gate = Gate::closed();
    let background = json!({ "command": format!("{TICKS}; echo over"), "run_in_background": true });
    let look = Turn::computed(|body| {
        let text = body["messages"].to_string();
        let from = text.find("task_").unwrap();
        Turn::tool("TaskOutput", json!({ "task_id": text[from..from + 13], "timeout": 20_000 }))
    });
    let held = Turn::text("never said").hold(0, &gate);
    let turns = [Turn::tool("Bash", background), held, look, bash("cat /tmp/runs"), Turn::text("done")];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let mut server = serve().model(&model).start().await;
    let session = server.create(&small_repo("aside"), "begin").await;
    model.wait_for_requests(2).await;
    server.kill(Part::Server).await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let results = results(&events);
    let said = &results[1].content;
    assert!(said.contains("ended with exit code 0"), "{said}");
    let (_, output) = said.split_once("Its output:\n\n").unwrap();
    all_ticks(output.strip_suffix("\nover").unwrap());
    assert_eq!(results[2].content, "run");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_was_told_to_stop_does_not_go_on_after_a_crash() {
    let stubborn = format!("trap '' INT TERM; {LONG}");
    let script = Script::default()
        .when(When::last_user("^begin"), [bash(&stubborn)])
        .when(When::last_user("^look"), [bash(LOOK), Turn::text("seen")]);
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).start().await;
    let session = in_a_turn(&server, &small_repo("killed")).await;
    let before = server.sandbox_of(session);
    server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
    server.kill(Part::Server).await;

    server.until_rest(session, 1).await;
    let (events, view) = check_log(&server, session).await;
    assert_eq!((view.status, view.sandbox), (SessionStatus::Idle, SandboxPhase::Ready));
    let last = view.last_turn.unwrap();
    assert_eq!((last.status, last.stop_reason), (TurnStatus::Interrupted, StopReason::ServerRestart));
    assert!(last.message.unwrap().contains("Send a prompt"), "what to do next");
    let result = results(&events)[0];
    assert!(result.is_error && result.content.contains("interrupted"), "{result:?}");
    let shown = server.cli(&["sessions", "show", &session.to_string()]).await.exits(0).text();
    assert!(shown.contains("status   interrupted"), "{shown}");

    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "marker: mark\nchange: change\nsleeps: 0");
    assert_eq!(server.sandbox_of(session), before, "the sandbox is the same one");
    let (_, view) = check_log(&server, session).await;
    assert_eq!(view.diff.files_changed, 1, "what the interrupted turn wrote is recorded with the next");
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_the_death_of_sandbox_host() {
    let gate = Gate::closed();
    let turns = [bash("echo one"), bash("cat README.md").hold(0, &gate), Turn::text("done")];
    let model = ScriptedModel::start(Script::by_depth(turns)).await;
    let mut server = serve().model(&model).start().await;
    let repo = small_repo("hostless");
    let session = server.create(&repo, "go").await;
    model.wait_for_requests(2).await;
    server.kill(Part::SandboxHost).await;
    gate.open();
    let events = server.until_rest(session, 1).await;
    completed(&events);
    assert_eq!(last_result(&events), "# A small thing");

    let other = server.create(&repo, "go as well").await;
    completed(&server.until_rest(other, 1).await);
    assert_eq!(server.sandboxes().len(), 2, "the first sandbox was kept over the death");
    check_log(&server, session).await;
    check_log(&server, other).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_end_records_the_files_and_leaves_nothing() {
    let model = two_prompts().await;
    let mut server = serve().model(&model).start().await;
    let session = in_a_turn(&server, &small_repo("suspended")).await;
    let sandbox = server.sandbox_of(session);
    let processes = sandbox.processes();
    assert!(processes.len() >= 3, "the guest, the shell and sleep: {processes:?}");

    assert_eq!(server.stop().await, Some(0));
    assert_eq!(sandbox.traces(&server.data()), Vec::<String>::new());
    assert_eq!(server.sandboxes(), []);

    server.start_again().await;
    let (_, view) = check_log(&server, session).await;
    assert_eq!((view.status, view.sandbox), (SessionStatus::Suspended, SandboxPhase::Suspended));
    let last = view.last_turn.unwrap();
    assert_eq!((last.status, last.stop_reason), (TurnStatus::Interrupted, StopReason::ServerRestart));
    assert_eq!(view.diff.files_changed, 1);
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    let seen = last_result(&events);
    assert!(seen.contains("change: change") && seen.contains("marker: cat:"), "{seen}");
    assert_ne!(server.sandbox_of(session).id, sandbox.id, "a new sandbox, from the checkpoint");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_was_accepted_survives_the_death_of_the_server() {
    let gate = Gate::closed();
    let script = Script::default()
        .when(When::last_user("^begin"), [Turn::text("never said").hold(0, &gate), Turn::text("one")])
        .when(When::last_user("^second"), [Turn::text("two")])
        .when(When::last_user("^third"), [Turn::text("three")]);
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).start().await;
    let session = server.create(&small_repo("queue"), "begin").await;
    model.wait_for_requests(1).await;
    let queued =
        [server.prompt(session, "second").await.prompt, server.prompt(session, "third").await.prompt];
    server.kill(Part::Server).await;
    let events = server.until_rest(session, 3).await;
    let taken: Vec<_> = events
        .iter()
        .filter_map(|event| match event.body {
            EventBody::TurnStarted { prompt } => Some(prompt),
            _ => None,
        })
        .collect();
    assert_eq!(taken[1..], queued);
    completed(&events);
    check_log(&server, session).await;
    model.assert_clean();
}
