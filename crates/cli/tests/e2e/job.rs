//! The main job: a task in, a change out, by each door.

use std::process::Stdio;

use protocol::event::Event;
use protocol::view::SessionView;
use serde_json::{Value, json};
use testkit::harness::{Finished, Repo, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::world::{check_log, serve, skip, small_repo, workspace_root};

const FIELDS: &[&str] = &[
    "session_id",
    "status",
    "branch",
    "base",
    "additions",
    "deletions",
    "files_changed",
    "turns",
    "usage",
    "url",
];

fn calculator() -> Repo {
    let test = "import unittest\nfrom calc import add\n\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(add(2, 2), 4)\n";
    Repo::with("calculator", &[("calc.py", "def add(a, b):\n    return a - b\n"), ("test_calc.py", test)])
}

/// Write, Read, Edit, Bash, a list of steps, and words.
fn calculator_turns() -> Vec<Turn> {
    let path = |name: &str| format!("/workspace/calculator/{name}");
    let todo =
        json!({ "todos": [{ "content": "Fix add", "status": "in_progress", "activeForm": "Fixing add" }] });
    vec![
        Turn::text("I look at it first.").and_tool("TodoWrite", todo),
        Turn::tool("Read", json!({ "file_path": path("calc.py") })),
        Turn::tool(
            "Edit",
            json!({ "file_path": path("calc.py"), "old_string": "a - b", "new_string": "a + b" }),
        ),
        Turn::tool("Write", json!({ "file_path": path("docs/NOTES.md"), "content": "add adds now\n" })),
        Turn::tool("Bash", json!({ "command": "python3 -B -m unittest" })),
        Turn::text("Done: `add` adds."),
    ]
}

/// The patch applies where it should, and patch, fetched branch, pulled branch and checkpoint are one tree.
async fn check_hand_back(server: &TestServer, repo: &Repo, outcome: &Value) {
    let id = outcome["session_id"].as_str().unwrap();
    let view: SessionView = server.get(&format!("/sessions/{id}")).await.is(200).json();
    let tree = view.checkpoint.unwrap().tree;
    let (base, branch) = (outcome["base"].as_str().unwrap(), outcome["branch"].as_str().unwrap());

    let copy = Repo::clone_of(repo.path(), "copy");
    copy.git(&["checkout", "--quiet", "--detach", base]);
    let patch = server.cli(&["sessions", "diff", id]).await.exits(0).stdout;
    let file = copy.path().join("../change.patch").display().to_string();
    std::fs::write(&file, patch).unwrap();
    copy.git(&["apply", "--check", "--index", &file]);
    copy.git(&["apply", "--index", &file]);
    assert_eq!(copy.git(&["write-tree"]), tree, "base and patch make the checkpoint");

    // Plain git, which is asked for a password and gives the token.
    let address = server.address.replace("http://", &format!("http://me:{}@", server.token));
    copy.git(&["fetch", "--quiet", &format!("{address}/git/{id}.git"), branch]);
    assert_eq!(copy.git(&["rev-parse", "FETCH_HEAD^{tree}"]), tree, "the fetched branch");

    let before = repo.git(&["rev-parse", "HEAD"]);
    let mut pull = server.cli_command();
    pull.args(["sessions", "pull", id, "--branch", "result"]).current_dir(repo.path());
    testkit::harness::run(pull).await.exits(0);
    assert_eq!(repo.git(&["rev-parse", "result^{tree}"]), tree, "the pulled branch");
    assert_eq!(repo.git(&["rev-parse", "HEAD"]), before, "the checked-out branch stays");
    let message = repo.git(&["log", "-1", "--format=%B", "result"]);
    assert!(message.contains(&format!("Patchyard-Session: {id}")), "{message}");
}

async fn remote(server: &TestServer, repo: &Repo, format: &str) -> Finished {
    let args = ["--remote", "Fix add", "--repo", &repo.arg(), "--wait", "--output-format", format];
    server.cli(&args).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_comes_back_as_one_json_object_a_patch_and_a_branch() {
    let model = ScriptedModel::start(Script::turns(calculator_turns())).await;
    let server = serve().model(&model).start().await;
    let repo = calculator();
    let finished = remote(&server, &repo, "json").await.exits(0);

    let outcome = finished.json();
    for field in FIELDS {
        assert!(outcome.get(field).is_some_and(|value| !value.is_null()), "{field} in {outcome}");
    }
    assert_eq!(finished.text().lines().count(), 1);
    assert_eq!(outcome["status"], "completed");
    assert_eq!(outcome["base"], repo.git(&["rev-parse", "HEAD"]));
    assert_eq!((outcome["additions"].as_u64(), outcome["deletions"].as_u64()), (Some(2), Some(1)));
    assert_eq!((outcome["files_changed"].as_u64(), outcome["turns"].as_u64()), (Some(2), Some(1)));
    assert!(outcome["branch"].as_str().unwrap().starts_with("patchyard/fix-add-"), "{outcome}");
    assert_eq!(outcome["usage"]["requests"], 6);
    assert!(outcome["usage"]["output_tokens"].as_u64().unwrap() > 0);
    let id = outcome["session_id"].as_str().unwrap();
    assert_eq!(outcome["url"], format!("{}/s/{id}", server.address));
    assert!(finished.stderr.contains("sending calculator"), "{}", finished.stderr);

    check_hand_back(&server, &repo, &outcome).await;
    let (_, view) = check_log(&server, id.parse().unwrap()).await;
    assert_eq!(view.plan[0].content, "Fix add");
    model.assert_clean();
    let key = model.requests()[0].header("x-api-key").map(str::to_owned);
    assert_eq!(key.as_deref(), Some("sk-test-key"));
    assert!(!server.log().contains("sk-test-key"), "the key is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_json_prints_every_event_and_the_object_last() {
    let model = ScriptedModel::start(Script::turns(calculator_turns())).await;
    let server = serve().model(&model).start().await;
    let text = remote(&server, &calculator(), "stream-json").await.exits(0).text();
    let mut lines: Vec<&str> = text.lines().collect();
    let outcome: Value = serde_json::from_str(lines.pop().unwrap()).unwrap();
    assert_eq!(outcome["status"], "completed");
    let printed: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let logged = server.events(outcome["session_id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(printed, logged);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_tells_a_person_what_happened_and_where_it_is() {
    let model = ScriptedModel::start(Script::turns(calculator_turns())).await;
    let server = serve().model(&model).start().await;
    let finished = remote(&server, &calculator(), "text").await.exits(0);
    let text = finished.text();
    for words in ["status  completed", "change  +2 −1 in 2 files", "branch  patchyard/fix-add-", "/s/ses_"]
    {
        assert!(text.contains(words), "`{words}` in {text}");
    }
    for words in ["✓ sandbox ready", "● Edit calc.py", "● Bash python3", "Done: `add` adds."] {
        assert!(finished.stderr.contains(words), "`{words}` in {}", finished.stderr);
    }
    assert!(!finished.stderr.contains('\x1b'), "a pipe gets plain lines: {}", finished.stderr);
    let listed = server.cli(&["tasks", "list", "--json"]).await.exits(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let shown = server.cli(&["sessions", "show", listed[0]["session_id"].as_str().unwrap()]).await.exits(0);
    assert!(shown.text().contains("status   completed"), "{}", shown.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_wait_the_task_goes_on_alone() {
    let model = ScriptedModel::start(Script::turns([Turn::text("Nothing to do.")])).await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("alone");
    let args = ["--cloud", "Look around", "--repo", &repo.arg(), "--output-format", "json"];
    let outcome = server.cli(&args).await.exits(0).json();
    let id = outcome["session_id"].as_str().unwrap().parse().unwrap();
    server.until_rest(id, 1).await;
    let (_, view) = check_log(&server, id).await;
    assert_eq!((view.diff.files_changed, view.turns), (0, 1));
    let patch = server.cli(&["sessions", "diff", &id.to_string()]).await.exits(0);
    assert!(patch.stdout.is_empty(), "no change, no patch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_server_of_another_make_drives_a_task_on_this_projects_own_history() {
    let tool = workspace_root().join("../shared/tools/scripted_messages_api.py");
    if !tool.is_file() || !workspace_root().join(".git").exists() {
        return skip("there is no independent model server, or no history, beside this workspace");
    }
    let name = "history";
    let file = |path: &str| format!("/workspace/{name}/{path}");
    let script = json!({ "rules": [{ "name": "task", "select": "depth", "exhausted": "error", "turns": [
        { "text": "First the history.", "tool": ["Bash", { "command": "git log --oneline | wc -l; ls" }] },
        { "tools": [
            ["Write", { "file_path": file("notes/new.txt"), "content": "one\ntwo\nthree\n" }],
            ["Read", { "file_path": file("Cargo.toml") }],
        ] },
        { "tool": ["Edit", { "file_path": file("Cargo.toml"), "old_string": "resolver = \"3\"", "new_string": "resolver = \"2\"" }] },
        { "tool": ["Bash", { "command": "git rm -q LICENSE; git commit -qam 'Of the agent itself'; echo late >> notes/new.txt" }] },
        { "text": "That was all." },
    ] }] });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script.json");
    std::fs::write(&path, script.to_string()).unwrap();
    let mut api = Command::new("python3")
        .arg(tool)
        .arg("--script")
        .arg(path)
        .args(["--port", "0", "--quiet"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(api.stdout.take().unwrap()).lines();
    let base_url = lines.next_line().await.unwrap().unwrap();

    let server = serve().model_at(&base_url).start().await;
    let repo = Repo::clone_of(&workspace_root(), name);
    let finished = remote(&server, &repo, "json").await.exits(0);
    let outcome = finished.json();
    assert_eq!(outcome["status"], "completed");
    assert_eq!(outcome["files_changed"], 3, "{outcome}");
    assert_eq!(outcome["base"], repo.git(&["rev-parse", "HEAD"]));
    check_hand_back(&server, &repo, &outcome).await;
    let commits =
        repo.git(&["log", "--format=%s", &format!("{}..result", outcome["base"].as_str().unwrap())]);
    assert_eq!(commits.lines().count(), 2, "the agent's own commit, and what it left: {commits}");
    check_log(&server, outcome["session_id"].as_str().unwrap().parse().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_pulled_into_a_repository_that_went_on_meanwhile() {
    let model = ScriptedModel::start(Script::turns(calculator_turns())).await;
    let server = serve().model(&model).start().await;
    let repo = calculator();
    let outcome = remote(&server, &repo, "json").await.exits(0).json();
    // So many commits that the server does not know that git packs what it asks.
    for number in 0..80 {
        repo.commit(&format!("Meanwhile {number}"));
    }
    check_hand_back(&server, &repo, &outcome).await;
}
