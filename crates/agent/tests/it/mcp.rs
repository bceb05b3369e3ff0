//! MCP servers: `agent-compat` section 8. Sandboxes and hostile servers are the matter of the tests from end to end.

use agent::mcp::{Declared, Servers, ServersPlace};
use protocol::agent_port::Agent as _;
use protocol::event::{EventBody, LiveDelta};
use protocol::status::TurnStatus;
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/tests/e2e/mcp_server.py");

/// A stage with the server `notes`.
async fn stage(script: Script) -> Stage {
    Stage::with(script, LocalHands::default(), |config| {
        let waited = format!("{}/waited", config.workspace);
        let entry = json!({ "command": "python3", "args": [SERVER, "good"], "env": { "WAITED": waited } });
        let text = json!({ "mcpServers": { "notes": entry } }).to_string();
        let (declared, remarks) = Declared::read(Some(text.as_bytes()), None, false).unwrap();
        assert_eq!(remarks, Vec::<String>::new());
        let place = ServersPlace {
            hands: config.hands.clone(),
            workspace: config.workspace.clone(),
            home: config.home.clone(),
            environment: Vec::new(),
            guest_program: config.guest_program.clone(),
            driver: None,
            authorities: Vec::new(),
        };
        config.servers = Servers::start(&declared, &config.settings, place).into();
    })
    .await
}

fn call(tool: &str) -> Turn {
    Turn::tool(&format!("mcp__notes__{tool}"), json!({}))
}

/// The blocks of the last request that are images of results.
fn images(stage: &Stage) -> usize {
    let requests = stage.model.requests();
    let messages = requests.last().unwrap().body["messages"].as_array().unwrap().clone();
    let blocks = messages.iter().filter_map(|message| message["content"].as_array()).flatten();
    let parts = blocks.filter_map(|block| block["content"].as_array()).flatten();
    parts.filter(|part| part["type"] == "image").count()
}

/// A server that says that it has an image, and an API that cannot read it: it would be refused for ever.
#[tokio::test]
async fn an_image_that_the_api_refuses_is_left_out() {
    let turns = [
        call("picture"),
        Turn::error(400, "Could not process image"),
        Turn::text("done"),
        Turn::text("again"),
    ];
    let mut stage = stage(Script::turns(turns).shortens(1)).await;
    let end = stage.turn("look").await;
    assert_eq!(end.status, TurnStatus::Completed, "{end:?}");
    assert_eq!(images(&stage), 0);
    assert_eq!(stage.model.requests().len(), 3);
    let left_out = stage.port.bodies().into_iter().find_map(|body| match body {
        EventBody::ContextCompacted(compaction) => Some(compaction.left_out),
        _ => None,
    });
    assert_eq!(left_out, Some(vec![stage.port.calls()[0].call.clone()]));
    stage.restart(&stage.port.events()).await;
    stage.turn("again").await;
    assert_eq!(images(&stage), 0, "in a new process, too");
    stage.model.assert_clean();
}

/// What a server tells meanwhile is shown, and a stop reaches it.
#[tokio::test]
async fn progress_is_shown_and_a_stop_reaches_the_server() {
    let mut stage = stage(Script::turns([call("waits")])).await;
    let stop = stage.stop.clone();
    *stage.port.on_live.lock().unwrap() = Some(Box::new(move |delta| {
        if matches!(delta, LiveDelta::ToolOutput { text, .. } if text == "1 of 3: one third\n") {
            stop.cancel();
        }
    }));
    let end = stage.turn("wait").await;
    assert_eq!(end.status, TurnStatus::Interrupted);
    assert_eq!(stage.port.results()[0].content, "interrupted by the user");
    let waited = stage.path("waited");
    let told = async {
        loop {
            // It is there before it is written.
            match std::fs::read_to_string(&waited) {
                Ok(text) if !text.is_empty() => return text,
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(30), told).await.unwrap();
    assert_eq!(told, "cancelled");
}

/// A call that another process began may have been made: it is not made twice.
#[tokio::test]
async fn a_call_of_a_dead_process_is_not_made_again() {
    let mut stage = stage(Script::turns([call("where"), Turn::text("done")])).await;
    let input = stage.accept("go");
    stage.agent.turn(input.clone(), &*stage.port, stage.stop.clone()).await;
    let is_call = |body: &EventBody| matches!(body, EventBody::ToolCall(_));
    let events = stage.port.events();
    let until = events.iter().position(|event| is_call(&event.body)).unwrap();
    let mut again = self::stage(Script::turns([Turn::text("done")])).await;
    again.restart(&events[..=until]).await;
    let resumed = protocol::agent_port::TurnInput { resumed: true, ..input };
    let end = again.agent.turn(resumed, &*again.port, again.stop.clone()).await;
    assert_eq!(end.status, TurnStatus::Completed, "{end:?}");
    let result = &again.port.results()[0];
    assert!(result.is_error && result.content.starts_with("unknown: "), "{}", result.content);
}

/// Requests begin with the bytes of the one before, whatever servers do; what they have is offered by name.
#[tokio::test]
async fn what_servers_have_is_offered_in_one_order() {
    let mut stage =
        stage(Script::turns([call("dies"), Turn::text("1"), call("echo"), Turn::text("2")])).await;
    stage.turn("one").await;
    stage.turn("two").await;
    let requests = stage.model.requests();
    let names = |body: &Value| -> Vec<String> {
        let tools = body["tools"].as_array().unwrap().iter();
        tools.filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
    };
    let first = names(&requests[0].body);
    assert_eq!(first.iter().filter(|name| name.starts_with("mcp__notes__")).count(), 14);
    assert!(requests.iter().all(|request| names(&request.body) == first), "also of a server that died");
    assert!(stage.port.results()[1].content.contains("was started again"));
    stage.model.assert_clean();
}
