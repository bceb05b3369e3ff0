//! Archive, delete, the demo, and what is on the disk.

use std::path::{Path, PathBuf};

use protocol::status::{SandboxPhase, SessionStatus};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Part, run};
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::leaks::{contains, holding};
use crate::world::{bash, check_log, completed, last_result, serve, small_repo};

/// Words that must not stand on the disk in clear.
const CANARY: &str = "the-canary-sings-at-midnight";

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_session_has_no_sandbox_and_comes_back_with_a_prompt() {
    let script = Script::default()
        .when(When::last_user("^first"), [bash("echo kept > kept.txt"), Turn::text("done")])
        .when(When::last_user("^second"), [bash("cat kept.txt"), Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("shelved"), "first").await;
    server.until_rest(session, 1).await;
    let sandbox = server.sandbox_of(session);
    let archived = server.cli(&["sessions", "archive", &session.to_string()]).await.exits(0);
    assert!(archived.text().contains("archived"), "{}", archived.text());
    let view = server.session(session).await;
    assert!(view.archived);
    assert_eq!((view.status, view.sandbox), (SessionStatus::Suspended, SandboxPhase::Suspended));
    assert_eq!(sandbox.traces(&server.data()), Vec::<String>::new());
    let ids = async |query: &str| -> usize {
        let list: Value = server.get(&format!("/sessions{query}")).await.is(200).json();
        list["sessions"].as_array().unwrap().len()
    };
    assert_eq!((ids("").await, ids("?archived=true").await), (0, 1));

    server.prompt(session, "second").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "kept");
    server.cli(&["sessions", "archive", "--undo", &session.to_string()]).await.exits(0);
    assert_eq!((ids("").await, ids("?archived=true").await), (1, 0));
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_is_gone_from_the_disk_and_nothing_was_ever_written_in_clear() {
    let prompt = format!("say {CANARY}");
    let turns = [
        bash(&format!("echo {CANARY} | tee left && sync; seq 1 30000 | sed 's/$/ {CANARY}/'")),
        Turn::text(&format!("It was {CANARY}.")),
    ];
    let model = ScriptedModel::start(Script::by_depth(turns)).await;
    let server = serve().model(&model).env("PATCHYARD_LOG", "debug,hyper=warn").start().await;
    let (repo, data) = (small_repo("doomed"), server.data());
    let session = server.create(&repo, &prompt).await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    // Code lies in the repository and the sandbox; everything else is sealed.
    assert_eq!(holding(&data, CANARY, &["repos", "workspaces"]), Vec::<PathBuf>::new());
    assert!(!holding(&data.join("workspaces"), CANARY, &[]).is_empty(), "the search finds what is there");
    assert!(!server.log().contains(CANARY), "the server's log");
    assert!(!contains(&std::fs::read(data.join("patchyard.db")).unwrap(), server.token.as_bytes()));

    let sandbox = server.sandbox_of(session);
    let asked = server.cli(&["sessions", "delete", &session.to_string()]).await.exits(2);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    server.cli(&["sessions", "delete", &session.to_string(), "--yes"]).await.exits(0);
    server.get(&format!("/sessions/{session}")).await.is_problem(404, "session_not_found");
    server.get(&format!("/sessions/{session}/events")).await.is_problem(404, "session_not_found");
    let path = format!("/sessions/{session}/prompts");
    server.post(&path, &json!({ "text": "again" })).await.is_problem(404, "session_not_found");
    Answer::to(server.request(Method::DELETE, &format!("/sessions/{session}")))
        .await
        .is_problem(404, "session_not_found");
    assert_eq!(sandbox.traces(&data), Vec::<String>::new());
    assert!(!data.join("repos").join(format!("{session}.git")).exists());
    let blobs = files(&data.join("blobs"));
    assert_eq!(blobs, Vec::<PathBuf>::new());
    assert_eq!(
        holding(&data, &session.to_string(), &["patchyard.db", "patchyard.db-wal"]),
        Vec::<PathBuf>::new()
    );
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_deleted_in_the_middle_of_a_turn() {
    let turns = [Turn::text("never said").hold(0, &Gate::closed())];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("cut-short"), "go").await;
    model.wait_for_requests(1).await;
    let sandbox = server.sandbox_of(session);
    let mut viewer = server.follow(session, testkit::harness::Resume::After(0)).await;
    Answer::to(server.request(Method::DELETE, &format!("/sessions/{session}"))).await.is(204);
    let gone = loop {
        let frame = viewer.next().await.unwrap();
        if frame.name == "gone" {
            break frame.data;
        }
    };
    assert_eq!(gone["session"], session.to_string());
    assert_eq!(sandbox.traces(&server.data()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_a_crash_cuts_short_still_leaves_nothing() {
    let leave = format!(
        "mkdir {CANARY}.d; echo {CANARY} > {CANARY}.d/{CANARY}.txt; git checkout -qb {CANARY}; sync; \
         seq 1 30000 | sed 's/$/ {CANARY}/'; echo started; sleep 600"
    );
    let model = ScriptedModel::start(Script::turns([bash(&leave)])).await;
    let config = "[sandbox]\ncheckpoint_seconds = 1\n";
    let mut server = serve().model(&model).config(config).start().await;
    let data = server.data();
    let session = server.create(&small_repo("torn"), &format!("say {CANARY}")).await;
    server.until(session, |events| events.iter().any(|event| event.body.kind() == "checkpoint")).await;
    let sandbox = server.sandbox_of(session);
    assert!(!holding(&data, CANARY, &[]).is_empty(), "the search finds what is there");
    // Viewers are told as soon as the deletion is committed: that is when the server dies.
    let mut viewer = server.follow(session, testkit::harness::Resume::After(0)).await;
    let deleting = tokio::spawn(server.request(Method::DELETE, &format!("/sessions/{session}")).send());
    while viewer.next().await.unwrap().name != "gone" {}
    server.kill(Part::Supervisor).await;
    let _ = deleting.await;
    server.start_again().await;

    server.get(&format!("/sessions/{session}")).await.is_problem(404, "session_not_found");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let left = || {
        let id = session.to_string();
        let named = files(&data).into_iter().filter(|path| {
            let path = path.to_string_lossy();
            path.contains(CANARY) || (path.contains(&id) && !path.contains("/audit/"))
        });
        let held = holding(&data, CANARY, &[]).into_iter().chain(holding(&data, &id, &["audit"]));
        let found: Vec<String> = named.chain(held).map(|path| path.display().to_string()).collect();
        found.into_iter().chain(sandbox.traces(&data)).collect::<Vec<_>>()
    };
    while !left().is_empty() && std::time::Instant::now() < until {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_a_whole_task() {
    let mut demo = tokio::process::Command::new(env!("CARGO_BIN_EXE_patchyard"));
    demo.arg("demo").env_remove("ANTHROPIC_API_KEY").env_remove("ANTHROPIC_AUTH_TOKEN");
    let finished = run(demo).await.exits(0);
    let text = finished.text();
    for words in
        ["a SCRIPTED model plays", "before: FAIL", "after:  pass", "\n+", "status  completed", "/s/ses_"]
    {
        assert!(text.contains(words), "`{words}` in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_version_tell_of_this_machine() {
    let server = serve().start().await;
    let doctor = server.cli(&["doctor", "--json"]).await.exits(0).json();
    assert_eq!(doctor["ok"], true, "{doctor}");
    let names: Vec<&str> =
        doctor["checks"].as_array().unwrap().iter().filter_map(|check| check["name"].as_str()).collect();
    assert!(names.contains(&"git") && names.contains(&"guest"), "{names:?}");
    let version = server.cli(&["version"]).await.exits(0).text();
    assert!(version.starts_with("patchyard 0."), "{version}");
    let images = server.cli(&["image", "list", "--json"]).await.exits(0);
    assert!(images.json().is_array());
    let mut broken = server.cli_command();
    broken.args(["doctor"]).env("PATCHYARD_RUNTIME", "nonexistent");
    let broken = run(broken).await.exits(1);
    assert!(broken.text().contains("mend what is marked"), "{}", broken.text());
}
