//! Sessions that rest keep no sandbox, and lose nothing.

use std::path::Path;

use protocol::event::EventBody;
use protocol::ids::SessionId;
use protocol::status::{SandboxPhase, SessionStatus};
use reqwest::Method;
use testkit::harness::{Answer, Part, TestServer};
use testkit::model::{Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, last_result, serve, small_repo};

/// Leaves files that no checkpoint holds: outside of the workspace, and ignored in it.
const LEAVE: &str =
    "echo outside > /root/kept; printf 'out/\\n' > .gitignore; mkdir out; echo ignored > out/kept";
const LOOK: &str = "cat /root/kept out/kept .gitignore";

fn layers(data: &Path) -> usize {
    std::fs::read_dir(data.join("layers")).into_iter().flatten().flatten().count()
}

pub(crate) async fn until_put_away(server: &TestServer, session: SessionId, times: usize) {
    server
        .until(session, |events| {
            let away = |body: &EventBody| matches!(body, EventBody::WorkspaceSaved(saved) if saved.layers.len() == times);
            events.iter().any(|event| away(&event.body))
                && events.last().is_some_and(|event| event.body.kind() == "session.status")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_rests_has_no_process_and_goes_on_with_all_its_files() {
    let script = Script::default()
        .when(When::last_user("^leave"), [bash(LEAVE), Turn::text("left")])
        .when(When::last_user("^look"), [bash(LOOK), Turn::text("seen")])
        .when(When::last_user("^again"), [bash(LOOK), Turn::text("seen")]);
    let model = ScriptedModel::start(script).await;
    let config = "[sandbox]\nidle_seconds = 1\n";
    let mut server = serve().model(&model).config(config).start().await;
    let session = server.create(&small_repo("resting"), "leave").await;
    completed(&server.until_rest(session, 1).await);
    until_put_away(&server, session, 1).await;
    let view = server.session(session).await;
    assert_eq!((view.status, view.sandbox), (SessionStatus::Suspended, SandboxPhase::Suspended));
    assert!(view.reason.unwrap().contains("everything as it was"));
    assert!(server.sandboxes().iter().all(|sandbox| sandbox.session != session.to_string()));

    let before = server.events(session).await.len();
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "outside\nignored\nout/");
    let again = events[before..].iter().filter(|event| event.body.kind() == "step.finished").count();
    assert_eq!(again, 2, "the sandbox and the workspace alone");

    // Also when the server was started again meanwhile, and on what the second sandbox left.
    until_put_away(&server, session, 2).await;
    server.kill(Part::Supervisor).await;
    server.start_again().await;
    server.prompt(session, "again").await;
    let events = server.until_rest(session, 3).await;
    completed(&events);
    assert_eq!(last_result(&events), "outside\nignored\nout/");
    until_put_away(&server, session, 3).await;
    check_log(&server, session).await;
    assert_eq!(layers(&server.data()), 3);
    Answer::to(server.request(Method::DELETE, &format!("/sessions/{session}"))).await.is(204);
    assert_eq!(layers(&server.data()), 0, "what was kept goes with the session");
    model.assert_clean();
}
