//! The agent against a scripted Messages API that others wrote, so that our server and our client do
//! not merely agree with each other.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use protocol::agent_port::TurnEnd;
use protocol::status::TurnStatus;
use serde_json::json;
use testkit::model::Script;

use crate::hands::LocalHands;
use crate::stage::{Stage, client};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_task_against_an_independent_server() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tools/scripted_messages_api.py");
    if !tool.exists() {
        println!("skipped: {} is not there", tool.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script.json");
    let turns = json!([
        { "error": { "status": 529, "type": "overloaded_error", "headers": { "retry-after": "0" } } },
        { "content": [
            { "type": "thinking", "thinking": "A file.", "signature": "c2ln" },
            { "type": "text", "text": "I will write it." },
            { "type": "tool_use", "name": "Write", "input": { "file_path": "hello.txt", "content": "ä 1\n" } },
            { "type": "tool_use", "name": "Bash", "input": { "command": "cat hello.txt", "description": "d" } }
        ], "ping": true, "chunk": 3 },
        { "text": "never seen", "drop_after": 4 },
        { "text": "never seen", "stream_error": { "after": 3 } },
        { "text": "The file says: {{last_tool_result}}" },
        { "error": { "status": 401, "message": "invalid x-api-key" } },
    ]);
    std::fs::write(&script, turns.to_string()).unwrap();
    let mut child = Command::new("python3")
        .arg(&tool)
        .arg("--script")
        .arg(&script)
        .arg("--quiet")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut base_url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut base_url).unwrap();
    let _server = Server(child);
    let mut stage = Stage::with(Script::default(), LocalHands::default(), |config| {
        config.model = client(base_url.trim(), |_| {});
    })
    .await;
    assert_eq!(stage.turn("write hello").await, TurnEnd::completed());
    assert_eq!(stage.port.last_text(), "The file says: ä 1");
    assert_eq!(stage.read("hello.txt"), "ä 1\n");
    assert_eq!(stage.port.errors(), ["model_overloaded", "model_stream_cut", "model_overloaded"]);
    assert_eq!(stage.turn("again").await.status, TurnStatus::Failed);
}
