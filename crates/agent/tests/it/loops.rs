use protocol::agent_port::TurnEnd;
use protocol::status::{StopReason, TurnStatus};
use serde_json::json;
use testkit::model::Turn;

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
