use std::process::Command;

use model_gateway::ModelClient;
use model_gateway::scripted::{ScriptedServer, demo};
use protocol::agent_port::TurnEnd;
use protocol::event::EventBody;
use testkit::model::Script;

use crate::hands::LocalHands;
use crate::stage::Stage;

async fn stage(hands: LocalHands) -> (Stage, ScriptedServer) {
    let server = demo::start().await.unwrap();
    let stage = Stage::with(Script::default(), hands, |config| {
        config.model = ModelClient::new(demo::config(&server)).unwrap();
    })
    .await;
    for (name, content) in demo::FILES {
        stage.write(name, content);
    }
    (stage, server)
}

fn tests_pass(stage: &Stage) -> bool {
    let arguments: Vec<&str> = demo::TEST_COMMAND.split(' ').collect();
    let mut command = Command::new(arguments[0]);
    command.args(&arguments[1..]).current_dir(&stage.config.workspace);
    command.output().unwrap().status.success()
}

#[tokio::test]
async fn the_demo_fixes_its_repository() {
    let (mut stage, _server) = stage(LocalHands::default()).await;
    assert!(!tests_pass(&stage), "the bundled bug is real");
    assert_eq!(stage.turn(demo::PROMPT).await, TurnEnd::completed());
    assert!(demo::outcome_ok(&stage.port.last_text()), "{}", stage.port.last_text());
    assert!(tests_pass(&stage));
    let names: Vec<String> = stage.port.calls().into_iter().map(|call| call.name).collect();
    assert_eq!(names, ["TodoWrite", "Bash", "Read", "Edit", "Bash", "TodoWrite"]);
    let plans = stage.port.kinds().iter().filter(|kind| *kind == "plan").count();
    assert_eq!(plans, 2);
    // A second prompt begins a new piece of work: the tests pass already, and the model says so.
    assert_eq!(stage.turn("again").await, TurnEnd::completed());
    assert!(stage.port.last_text().contains("all tests pass. I changed nothing"));
}

#[tokio::test]
async fn a_broken_edit_fails_the_demo() {
    // The edit claims success but the file stays as it was.
    let hands = LocalHands {
        spoil: Some(|bytes| String::from_utf8_lossy(bytes).replace(".rstrip(separator)", "").into_bytes()),
        ..LocalHands::default()
    };
    let (mut stage, _server) = stage(hands).await;
    assert_eq!(stage.turn(demo::PROMPT).await, TurnEnd::completed());
    let text = stage.port.last_text();
    assert!(!demo::outcome_ok(&text) && text.starts_with("The tests still fail after the change"), "{text}");
}

#[tokio::test]
async fn a_refused_edit_fails_the_demo() {
    let (mut stage, _server) = stage(LocalHands::default()).await;
    let file = stage.path("slugify.py");
    *stage.port.on_event.lock().unwrap() = Some(Box::new(move |body| {
        if matches!(body, EventBody::ToolCall(call) if call.name == "Edit") {
            std::fs::write(&file, "changed behind its back\n").unwrap();
        }
    }));
    assert_eq!(stage.turn(demo::PROMPT).await, TurnEnd::completed());
    let text = stage.port.last_text();
    assert!(!demo::outcome_ok(&text) && text.starts_with("The edit failed"), "{text}");
}

#[tokio::test]
async fn a_sandbox_that_is_gone_fails_the_demo() {
    let (mut stage, _server) = stage(LocalHands::default()).await;
    *stage.hands.gone.lock().unwrap() = true;
    assert_eq!(stage.turn(demo::PROMPT).await, TurnEnd::completed());
    let text = stage.port.last_text();
    assert!(!demo::outcome_ok(&text) && text.contains("the sandbox is gone"), "{text}");
}
