//! The official reference server, `@modelcontextprotocol/server-everything`, over both transports.
//!
//! Run by `make test-packages`: it is installed from the real registry.

use std::time::{Duration, Instant};

use protocol::event::{Event, EventBody, Step};
use serde_json::{Value, json};
use testkit::harness::Repo;
use testkit::model::{Script, ScriptedModel, Turn};

use crate::packages;
use crate::setup::printed;
use crate::world::{check_log, completed, edit_default_environment, results, serve};

/// Installs the server where every session of the environment finds it.
const SETUP: &str = "cp authorities.pem /etc/ssl/certs/ca-certificates.crt\n\
    export DEBIAN_FRONTEND=noninteractive\n\
    apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null\n\
    npm install --silent --no-progress --global @modelcontextprotocol/server-everything";

/// Starts it as an HTTP server, and waits until it listens. Its SDK wants the global `crypto`, which Node 18 has by a
/// flag only.
const START: &str = "NODE_OPTIONS=--experimental-global-webcrypto PORT=3001 \
    nohup setsid mcp-server-everything streamableHttp >/tmp/everything.log 2>&1 & \
    for i in $(seq 300); do grep -q listening /tmp/everything.log && exit 0; sleep 0.1; done; exit 1";

/// How long installing and all of the calls may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Its tools, called the same way over both transports.
fn calls(server: &str) -> Vec<Turn> {
    let call = |tool: &str, input: Value| Turn::tool(&format!("mcp__{server}__{tool}"), input);
    vec![
        call("echo", json!({ "message": "hello" })),
        call("get-sum", json!({ "a": 2, "b": 40 })),
        call("get-tiny-image", json!({})),
        call("get-structured-content", json!({ "location": "Chicago" })),
        call("trigger-long-running-operation", json!({ "duration": 1, "steps": 3 })),
        call("get-sum", json!({ "a": "two" })),
        Turn::tool("ListMcpResourcesTool", json!({ "server": server })),
        Turn::tool(
            "ReadMcpResourceTool",
            json!({ "server": server, "uri": "demo://resource/dynamic/text/1" }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches some 150 MB; run by `make test-packages`"]
async fn packages_reference_server_works_over_both_transports() {
    let near = calls("stdio").len();
    let turns = calls("stdio").into_iter().chain(calls("http"));
    let turns = turns.chain([Turn::text("done"), Turn::text("Bonn"), Turn::text("Bonn")]);
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).config(&packages::private()).start().await;
    packages::trusted(&server).await;
    edit_default_environment(&server, json!({ "setup_script": SETUP })).await.is(200);
    let pem = std::fs::read_to_string(packages::AUTHORITIES).unwrap();
    let servers = json!({ "mcpServers": {
        "stdio": { "command": "mcp-server-everything", "args": ["stdio"] },
        "http": { "type": "http", "url": "http://localhost:3001/mcp" },
    } });
    let settings =
        json!({ "hooks": { "SessionStart": [{ "hooks": [{ "type": "command", "command": START }] }] } });
    let (servers, settings) = (servers.to_string(), settings.to_string());
    let files = [
        ("authorities.pem", pem.as_str()),
        (".mcp.json", servers.as_str()),
        (".claude/settings.json", settings.as_str()),
    ];
    let session = server.create(&Repo::with("everything", &files), "call everything").await;
    let until = Instant::now() + PATIENCE;
    let events = loop {
        let events = server.events(session).await;
        let over = |event: &Event| matches!(event.body, EventBody::TurnEnded(_));
        if events.iter().any(over) {
            break events;
        }
        assert!(Instant::now() < until, "it takes too long");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!("{}", printed(&events, Step::Mcp));
    completed(&events);
    for (name, results) in ["stdio", "http"].iter().zip(results(&events).chunks(near)) {
        let text: Vec<&str> = results.iter().map(|result| result.content.as_str()).collect();
        assert!(text[0].contains("hello"), "{name}: {}", text[0]);
        assert!(text[1].contains("42"), "{name}: {}", text[1]);
        assert_eq!(results[2].detail["images"][0]["media_type"], "image/png", "{name}: {}", text[2]);
        assert!(text[3].contains("temperature"), "{name}: {}", text[3]);
        assert!(text[4].contains("completed"), "{name}: {}", text[4]);
        assert!(results[5].is_error, "{name}: {}", text[5]);
        assert!(text[6].contains("demo://resource/static"), "{name}: {}", text[6]);
        assert!(text[7].contains("demo://resource/dynamic/text/1"), "{name}: {}", text[7]);
    }
    server.prompt(session, "/mcp__stdio__args-prompt Bonn").await;
    server.prompt(session, "/mcp__http__args-prompt Bonn").await;
    completed(&server.until_rest(session, 3).await);
    let asked = model.requests().last().unwrap().body["messages"].to_string();
    assert_eq!(asked.matches("What's weather in Bonn").count(), 2, "{asked}");
    check_log(&server, session).await;
    model.assert_clean();
}
