//! What is recorded of a workspace while a turn works, and what a crash in the middle of it loses.

use std::process::Command;

use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::status::{SandboxPhase, TurnStatus};
use testkit::harness::{Part, Repo, TestServer};
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, last_result, results, serve, small_repo};

/// What git in the workspace is about: its status, its stash, its refs, the bytes of its index.
const STATE: &str = "export GIT_OPTIONAL_LOCKS=0; git status --porcelain; git stash list; git for-each-ref; \
                     git symbolic-ref HEAD; sha256sum .git/index";

fn checkpoints(events: &[Event]) -> usize {
    events.iter().filter(|event| event.body.kind() == "checkpoint").count()
}

async fn until_checkpoint(server: &TestServer, session: SessionId, number: usize) {
    server.until(session, |events| checkpoints(events) == number).await;
}

/// Kills the server, then all that is in the session's sandbox, and starts the server again.
async fn lose_everything(server: &mut TestServer, session: SessionId) {
    let sandbox = server.sandbox_of(session);
    server.kill(Part::Supervisor).await;
    let killed = Command::new("kill").args(["-KILL", &sandbox.init.to_string()]).status().unwrap();
    assert!(killed.success());
    server.start_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_turn_loses_no_file_of_the_last_batch_of_tools() {
    let gate = Gate::closed();
    let first = "echo ignored > x.log; echo '*.log' > .gitignore; echo one > one.txt; rm src/main.py";
    let second = "echo two > two.txt; mkdir deep; echo three > deep/three.txt";
    let script = Script::default()
        .when(
            When::last_user("^begin"),
            [bash(first), bash(second), Turn::text("never said").hold(0, &gate)],
        )
        .when(
            When::last_user("^look"),
            [
                bash("cat one.txt two.txt deep/three.txt .gitignore; ls src x.log 2>&1; git status --short; git log --format=%s"),
                Turn::text("seen"),
            ],
        );
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).start().await;
    let session = server.create(&small_repo("midturn"), "begin").await;
    model.wait_for_requests(3).await;
    until_checkpoint(&server, session, 2).await;
    assert_eq!(server.session(session).await.diff.files_changed, 5, "the page sees it in the turn");
    lose_everything(&mut server, session).await;

    let events = server.until_rest(session, 1).await;
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event.body.kind())
        .filter(|kind| matches!(*kind, "tool.call" | "tool.result" | "checkpoint" | "turn.ended"))
        .collect();
    let batch = ["tool.call", "tool.result", "checkpoint"];
    assert_eq!(kinds, [&batch[..], &batch[..], &["turn.ended"]].concat());
    let (_, view) = check_log(&server, session).await;
    assert_eq!(view.last_turn.unwrap().status, TurnStatus::Interrupted);
    assert_eq!((view.sandbox, view.diff.files_changed), (SandboxPhase::Suspended, 5));

    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    let wanted = "one\ntwo\nthree\n*.log\nls: cannot access 'src': No such file or directory\n\
                  ls: cannot access 'x.log': No such file or directory\nbegin\nBegin";
    assert_eq!(last_result(&events), wanted);
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_runs_for_long_is_recorded_meanwhile() {
    let long = "echo early > early.txt; echo started; sleep 600";
    let script = Script::default()
        .when(When::last_user("^begin"), [bash(long)])
        .when(When::last_user("^look"), [bash("cat early.txt"), Turn::text("seen")]);
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).config("[sandbox]\ncheckpoint_seconds = 1\n").start().await;
    let session = server.create(&small_repo("long"), "begin").await;
    until_checkpoint(&server, session, 1).await;
    assert!(results(&server.events(session).await).is_empty(), "the command runs still");
    lose_everything(&mut server, session).await;
    server.until_rest(session, 1).await;
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "early");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_in_a_turn_touches_nothing_of_the_agents_git() {
    let setup = format!(
        "echo stashed >> README.md; git stash -q; git checkout -qb own; echo staged > staged.txt; git add staged.txt; \
         echo later >> staged.txt; echo loose > loose.txt; git status >/dev/null; {{ {STATE}; }} > /tmp/before; echo more >> loose.txt"
    );
    let compare = format!("{{ {STATE}; }} | diff /tmp/before - && echo same");
    let turns =
        [bash(&setup), bash("true"), bash(&compare), bash("git stash list | wc -l"), Turn::text("done")];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let repo = Repo::with("untouched", &[("README.md", "# One\n"), ("a.txt", "one\n")]);
    let session = server.create(&repo, "begin").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let results = results(&events);
    assert_eq!((results[2].content.as_str(), results[3].content.as_str()), ("same", "1"));
    let (events, view) = check_log(&server, session).await;
    // One for the first batch, none where nothing changed, and the one of the turn's end.
    assert_eq!(checkpoints(&events), 2);
    assert_eq!(view.diff.files_changed, 2);
    let commits: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Checkpoint(checkpoint) => Some(&checkpoint.commit),
            _ => None,
        })
        .collect();
    assert_eq!(commits[0], commits[1], "the same files on the same commit are one commit");
    model.assert_clean();
}
