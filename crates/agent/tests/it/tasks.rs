use std::time::Duration;

use protocol::agent_port::TurnEnd;
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

fn background(command: &str) -> Turn {
    Turn::tool("Bash", json!({ "command": command, "run_in_background": true }))
}

/// The id of the first task, as the model reads it in the conversation.
fn task_id(body: &Value) -> String {
    let text = body["messages"].to_string();
    let from = text.find("task_").unwrap();
    text[from..from + "task_".len() + 8].to_owned()
}

fn on_task(tool: &'static str, more: Value) -> Turn {
    Turn::computed(move |body| {
        let mut input = more.clone();
        input["task_id"] = task_id(body).into();
        Turn::tool(tool, input)
    })
}

#[tokio::test]
async fn the_end_of_a_task_is_told_with_a_later_result() {
    // The model makes calls until it reads the notice.
    let look = Turn::computed(|body| {
        if body["messages"].to_string().contains("<task-notification>") {
            return Turn::text("ok");
        }
        let count = body["messages"].as_array().unwrap().len();
        Turn::tool("Bash", json!({ "command": format!("sleep 0.02; echo {count}") }))
    });
    let turns = [
        background("read line <door; echo \"got $line\"; exit 4"),
        Turn::tool("Bash", json!({ "command": "echo hello >door" })),
    ];
    let mut stage = Stage::new(turns.into_iter().chain(vec![look; 100])).await;
    nix::unistd::mkfifo(&stage.path("door"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    let results = stage.port.results();
    let id = results[0].detail["background_task_id"].as_str().unwrap();
    let notice = &results.last().unwrap().content;
    assert!(notice.contains(&format!("<task-id>{id}</task-id>\n<status>failed</status>")), "{notice}");
    assert!(notice.contains("ended with exit code 4"), "{notice}");
    let all: String = results.iter().map(|result| result.content.as_str()).collect();
    assert_eq!(all.matches("<task-notification>").count(), 1);
}

#[tokio::test]
async fn output_and_stop_work_on_a_task_and_unknown_ones_are_told() {
    let turns = [
        background("trap 'echo ended; exit 0' TERM; echo begun; while :; do sleep 0.05; done"),
        on_task("TaskOutput", json!({ "timeout": 300 })),
        on_task("TaskStop", json!({})),
        on_task("TaskOutput", json!({})),
        Turn::tool("TaskStop", json!({ "task_id": "task_nope" })),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    assert_eq!(stage.turn("start").await, TurnEnd::completed());
    stage.model.assert_clean();
    let results = stage.port.results();
    assert!(results[1].content.ends_with("still runs. Its output:\n\nbegun"), "{}", results[1].content);
    assert!(results[2].content.contains("ended with exit code 0"), "{}", results[2].content);
    assert!(results[3].content.contains("\n\nbegun\n"), "{}", results[3].content);
    assert!(results[3].content.ends_with("\nended"), "{}", results[3].content);
    assert!(results[4].is_error && results[4].content.contains("known tasks: task_"));
    assert!(results.iter().all(|result| !result.content.contains("<task-notification>")), "told already");
}

#[tokio::test]
async fn tasks_end_with_their_agent() {
    let turns = [
        background("echo $$ >pid; exec sleep 600"),
        Turn::tool("Bash", json!({ "command": "while [ ! -s pid ]; do sleep 0.02; done" })),
        Turn::text("ok"),
    ];
    let mut stage = Stage::with(Script::turns(turns), LocalHands::default(), |_| {}).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let pid: i32 = stage.read("pid").trim().parse().unwrap();
    let pid = nix::unistd::Pid::from_raw(pid);
    assert!(nix::sys::signal::kill(pid, None).is_ok());
    drop(stage.agent);
    let gone = async {
        while nix::sys::signal::kill(pid, None).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
}
