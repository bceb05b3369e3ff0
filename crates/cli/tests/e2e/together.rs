//! Many sessions at once.

use futures::future::join_all;
use protocol::api::SessionList;
use protocol::status::SessionStatus;
use serde_json::json;
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, results, serve, small_repo};

/// A server on port 8000 that says who it is.
fn serve_inside(name: &str) -> Turn {
    let command = format!(
        "mkdir -p /tmp/site && echo {name} > /tmp/site/index.html && cd /tmp/site && exec python3 -m http.server 8000"
    );
    Turn::tool("Bash", json!({ "command": command, "run_in_background": true }))
        .and_tool("Bash", json!({ "command": format!("echo {name} > own.txt; echo {name} > /tmp/own.txt") }))
}

/// What one session sees of the world: the port, the files, the processes.
const LOOK: &str = r#"python3 - <<'END'
import time, urllib.request
for attempt in range(300):
    try:
        print("port:", urllib.request.urlopen("http://127.0.0.1:8000/").read().decode().strip())
        break
    except OSError:
        time.sleep(0.1)
END
echo "own: $(cat own.txt) $(cat /tmp/own.txt)"
echo "servers: $(grep -lzx 'http[.]server' /proc/[0-9]*/cmdline 2>/dev/null | wc -l)"
[ $(ls -d /proc/[0-9]* | wc -l) -lt 12 ] && echo few
"#;

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_see_neither_files_nor_processes_nor_ports_of_each_other() {
    let gate = Gate::closed();
    let turns = |name: &str| [serve_inside(name), bash(LOOK).hold(0, &gate), Turn::text("seen")];
    let script = Script::default()
        .many_conversations()
        .when(When::last_user("^one"), turns("one"))
        .when(When::last_user("^two"), turns("two"));
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("shared");
    let sessions = [server.create(&repo, "one").await, server.create(&repo, "two").await];
    // Both have their servers before either looks.
    model.wait_for_requests(4).await;
    gate.open();
    for (session, name) in sessions.into_iter().zip(["one", "two"]) {
        let events = server.until_rest(session, 1).await;
        completed(&events);
        let seen = &results(&events)[2].content;
        assert_eq!(*seen, format!("port: {name}\nown: {name} {name}\nservers: 1\nfew"));
        check_log(&server, session).await;
    }
    let uids = server.sandboxes().iter().map(|sandbox| owner(sandbox.init)).collect::<Vec<_>>();
    assert!(uids[0] != uids[1] && !uids.contains(&0), "ids of their own, never root's: {uids:?}");
    model.assert_clean();
}

/// The user, as the host sees it, that a process runs as.
fn owner(pid: i32) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_sessions_at_once_all_finish() {
    let model = ScriptedModel::start(Script::by_depth([
        bash("echo $PATCHYARD_SESSION_ID > id.txt"),
        Turn::text("done"),
    ]))
    .await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("many");
    let prompts: Vec<String> = (0..16).map(|number| format!("task {number}")).collect();
    let bodies = join_all(prompts.iter().map(|prompt| server.new_session(&repo, prompt))).await;
    let created = join_all(bodies.iter().map(|body| server.post("/sessions", body))).await;
    let sessions: Vec<protocol::ids::SessionId> =
        created.into_iter().map(|answer| answer.is(201).json::<protocol::view::SessionView>().id).collect();
    join_all(sessions.iter().map(|session| server.until_rest(*session, 1))).await;
    let listed: SessionList = server.get("/sessions?limit=200").await.is(200).json();
    assert_eq!(listed.sessions.len(), 16);
    let mut pages: Vec<_> = Vec::new();
    let mut before = String::new();
    loop {
        let page: SessionList = server.get(&format!("/sessions?limit=5{before}")).await.is(200).json();
        pages.extend(page.sessions.iter().map(|view| view.id));
        let Some(next) = page.next else { break };
        before = format!("&before={next}");
    }
    assert_eq!(
        pages,
        listed.sessions.iter().map(|view| view.id).collect::<Vec<_>>(),
        "the same, page by page"
    );
    for session in sessions {
        let (events, view) = check_log(&server, session).await;
        completed(&events);
        assert_eq!((view.status, view.diff.additions), (SessionStatus::Idle, 1));
        let patch = server.get(&format!("/sessions/{session}/diff?format=patch")).await.is(200).text();
        assert!(patch.contains(&format!("+{session}")), "each has its own change: {patch}");
    }
    model.assert_clean();
}
