//! Processes that die, at the worst time.
//!
//! ```text
//!  supervisor ─┬─ server         killed in a turn: the turn is told as interrupted, the sandbox goes on
//!              └─ sandbox-host   killed: nobody notices
//!  supervisor itself killed: the others go with it; the next one finds the sandbox
//!  supervisor told to end: turns end, files are recorded, nothing is left
//! ```

use protocol::event::EventBody;
use protocol::ids::SessionId;
use protocol::status::{SandboxPhase, SessionStatus, StopReason, TurnStatus};
use testkit::harness::{Part, Repo, Resume, TestServer};
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, last_result, results, serve, small_repo};

/// Leaves a mark outside of the workspace and a change inside, says so, and goes on for long.
const LONG: &str = "echo mark > /tmp/marker; echo change > change.txt; echo started; sleep 600";

/// Looks for both, and for what the long one left running.
const LOOK: &str = "echo \"marker: $(cat /tmp/marker 2>&1)\"; echo \"change: $(cat change.txt 2>&1)\"; \
                    echo \"sleeps: $(grep -lx sleep /proc/[0-9]*/comm 2>/dev/null | wc -l)\"";

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

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_a_turn_comes_back_and_adopts_the_sandbox() {
    let model = two_prompts().await;
    let mut server = serve().model(&model).start().await;
    let repo = small_repo("killed");
    let session = in_a_turn(&server, &repo).await;
    let before = server.sandbox_of(session);
    let supervisor = server.pid(Part::Supervisor);
    server.kill(Part::Server).await;

    server.until_rest(session, 1).await;
    let (events, view) = check_log(&server, session).await;
    assert_eq!(server.pid(Part::Supervisor), supervisor);
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
async fn a_killed_supervisor_takes_its_children_along_and_the_next_one_goes_on() {
    let model = two_prompts().await;
    let mut server = serve().model(&model).start().await;
    let session = in_a_turn(&server, &small_repo("orphans")).await;
    let before = server.sandbox_of(session);
    server.kill(Part::Supervisor).await;
    server.start_again().await;
    let events = server.until_rest(session, 1).await;
    let restarted = |body: &EventBody| matches!(body, EventBody::TurnEnded(end) if end.stop_reason == StopReason::ServerRestart);
    assert!(events.iter().any(|event| restarted(&event.body)));
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "marker: mark\nchange: change\nsleeps: 0");
    assert_eq!(server.sandbox_of(session), before);
    check_log(&server, session).await;
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
        .when(When::last_user("^begin"), [Turn::text("never said").hold(0, &gate)])
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
