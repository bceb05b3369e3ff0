use protocol::agent_port::TurnEnd;
use protocol::status::{StopReason, TurnStatus};
use serde_json::json;
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

fn same() -> Turn {
    Turn::tool("Bash", json!({ "command": "make test" }))
}

#[tokio::test]
async fn a_repeated_call_is_noted_and_then_asked_about() {
    let mut stage = Stage::new(vec![same(); 5]).await;
    let end = stage.turn("go").await;
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Limit, StopReason::Loop));
    let noted: Vec<bool> =
        stage.port.results().iter().map(|result| result.content.contains("very call")).collect();
    assert_eq!(noted, [false, false, true, true, true]);
    assert_eq!(stage.port.asked.lock().unwrap().len(), 1);
    stage.model.assert_clean();
}

#[tokio::test]
async fn the_person_may_let_it_go_on() {
    let turns = vec![same(); 9].into_iter().chain([Turn::text("ok")]);
    let mut stage = Stage::new(turns).await;
    stage.port.answers.lock().unwrap().push_back("continue");
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(stage.port.asked.lock().unwrap().len(), 1);
    stage.model.assert_clean();
}

/// A turn that changed code does not end before something was run, or the model says why not; once.
#[tokio::test]
async fn the_end_is_held_once_while_nothing_was_run() {
    let write = |path: &str| Turn::tool("Write", json!({ "file_path": path, "content": "x" }));
    let turns = [
        write("a.rs"),
        Turn::text("done"),
        Turn::text("there is nothing to run"),
        write("b.rs").and_tool("Bash", json!({ "command": "true" })),
        Turn::text("done"),
        write("notes.md"),
        Turn::text("done"),
        Turn::text("no change"),
    ];
    let mut stage =
        Stage::with(Script::turns(turns), LocalHands::default(), |config| config.caps.finish_check = true)
            .await;
    for _ in 0..4 {
        assert_eq!(stage.turn("go").await, TurnEnd::completed());
    }
    let held = stage.model.requests()[2].body["messages"].to_string();
    assert!(held.contains("ran no command since"), "{held}");
    assert_eq!(stage.port.kinds().iter().filter(|kind| *kind == "context.added").count(), 1);
    assert_eq!(stage.model.requests().len(), 8);
    stage.model.assert_clean();
}
