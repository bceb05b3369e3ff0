//! The whole product as an ordinary user: a task in, a change out.

use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use serde_json::json;
use testkit::harness::{Part, Repo, Serve};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::inside::{import, program};
use crate::outside::{Given, USUAL, as_ordinary_user};

#[test]
fn a_task_is_done_without_root() {
    as_ordinary_user("task::inner_task", Given::ids(2 * USUAL));
}

#[tokio::test]
#[ignore = "run by its outer half as an ordinary user"]
async fn inner_task() {
    let repo = Repo::with("thing", &[("calc.py", "def add(a, b):\n    return a - b\n")]);
    let path = "/workspace/thing/calc.py";
    let turns = vec![
        Turn::tool("Read", json!({ "file_path": path })),
        Turn::tool("Edit", json!({ "file_path": path, "old_string": "a - b", "new_string": "a + b" })),
        Turn::tool("Bash", json!({ "command": "python3 -B -c 'import calc; print(calc.add(2, 2))'; id -u" })),
        Turn::text("Done."),
        Turn::tool("Bash", json!({ "command": "cat calc.py" })),
        Turn::text("Still here."),
        Turn::tool("Bash", json!({ "command": "cat README.md" })),
        Turn::text("Another one."),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let serve = Serve::of(program()).model(&model);
    std::fs::create_dir(serve.data()).unwrap();
    import(&serve.data());
    let mut server = serve.start().await;
    let done = server
        .cli(&["--remote", "Fix add", "--repo", &repo.arg(), "--wait", "--output-format", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(done["status"], "completed", "{done}");
    let id = done["session_id"].as_str().unwrap();
    let patch = server.cli(&["sessions", "diff", id]).await.exits(0).text();
    assert!(patch.contains("+    return a + b"), "{patch}");
    // All of it dies; what is started anew finds its way into the namespace of the sandbox that lives.
    let session: SessionId = id.parse().unwrap();
    let before = server.sandbox_of(session);
    server.kill(Part::Supervisor).await;
    server.start_again().await;
    server.prompt(session, "Look").await;
    let events = server.until_rest(session, 2).await;
    assert!(last_result(&events).contains("return a + b"));
    assert_eq!(server.sandbox_of(session), before);
    let readme = Repo::with("other", &[("README.md", "# Another thing\n")]);
    let other = server.create(&readme, "Look").await;
    assert_eq!(last_result(&server.until_rest(other, 1).await), "# Another thing");
    for id in [id, &other.to_string()] {
        server.cli(&["sessions", "delete", id, "--yes"]).await.exits(0);
    }
    assert!(server.sandboxes().is_empty());
}

fn last_result(events: &[Event]) -> String {
    let result = |event: &Event| match &event.body {
        EventBody::ToolResult(result) => Some(result.content.clone()),
        _ => None,
    };
    events.iter().rev().find_map(result).unwrap()
}
