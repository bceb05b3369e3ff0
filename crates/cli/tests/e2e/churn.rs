//! Sessions come and go while the server and `sandbox-host` are killed in the middle of it: nothing is
//! left, and nothing that was asked for is lost.
//!
//! ```text
//!   POST ─▶ a turn whose command leaves a daemon ─▶ DELETE       again and again; every so often, at a
//!    ▲                                                │          random moment, kill -9 of one of the two;
//!    └────────────────────────────────────────────────┘          whoever asks goes on asking
//! ```
//!
//! `PATCHYARD_CHURN` says how many; `make test-churn` runs a thousand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::api::Upload;
use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::status::SessionStatus;
use protocol::view::SessionView;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::harness::{Part, Repo, TestServer};
use testkit::model::{Script, ScriptedModel, Turn, When};
use ulid::Ulid;

use crate::world::{bash, check_log, serve, small_repo};

/// Cycles where nobody says how many.
const FEW: u64 = 10;

/// How long a killed process may take to be back and answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that would like to outlive its session.
const STAY: &str = "echo x > x; (setsid sleep 1000 >/dev/null 2>&1 &)";

#[tokio::test(flavor = "multi_thread")]
async fn l03_a_churn_of_sessions_with_killed_servers_leaves_nothing() {
    let cycles = std::env::var("PATCHYARD_CHURN").ok().and_then(|count| count.parse().ok()).unwrap_or(FEW);
    // One in twenty where there are many.
    let every = (cycles / 5).clamp(2, 20);
    let script =
        Script::default().many_conversations().when(When::last_user("^go"), [bash(STAY), Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).start().await;
    let (repo, watch) = (small_repo("churn"), Watch::over(server.data()));
    let (mut kills, mut deleted_at_once) = ([0, 0], 0);
    for number in 1..=cycles {
        if number % every != every / 2 {
            let session = create(&server, &repo).await;
            server.until_rest(session, 1).await;
            check_log(&server, session).await;
            delete(&server, session).await;
            continue;
        }
        let which = usize::try_from(random(2)).unwrap();
        kills[which] += 1;
        let kill = async {
            tokio::time::sleep(Duration::from_millis(random(700))).await;
            server.kill_child([Part::Server, Part::SandboxHost][which]);
        };
        // Half of them are not waited for: a deletion in the middle of everything.
        let is_awaited = random(2) == 0;
        deleted_at_once += u64::from(!is_awaited);
        let work = async {
            let session = create(&server, &repo).await;
            if is_awaited {
                settle(&server, session).await;
            }
            delete(&server, session).await;
        };
        tokio::join!(kill, work);
    }
    println!("{cycles} cycles, {} kills of the server, {} of sandbox-host", kills[0], kills[1]);
    assert!(kills[0] + kills[1] > 0);
    let sessions: Value = server.get("/sessions").await.is(200).json();
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(0), "{sessions}");
    nothing_left(&server, &watch, None).await;
    let host = server.pid(Part::SandboxHost);
    assert_eq!(server.stop().await, Some(0));
    nothing_left(&server, &watch, Some(host)).await;
    // Who is deleted at once may never have had one.
    let seen = watch.ids().len() as u64 + deleted_at_once;
    assert!(seen + 5 >= cycles, "the watch saw {} sandboxes only", watch.ids().len());
}

/// Makes a session. Who gets no answer asks again with the same key, and gets the same session. An upload
/// that a dying server had taken already, without a session to show for it, is made again.
async fn create(server: &TestServer, repo: &Repo) -> SessionId {
    loop {
        let upload = || server.request(Method::POST, "/uploads").body(repo.bundle());
        let (status, text) = insist(upload).await;
        assert_eq!(status, 201, "{text}");
        let Upload { upload, .. } = serde_json::from_str(&text).unwrap();
        let key = Ulid::generate().to_string();
        let source = json!({ "type": "bundle", "upload": upload, "name": repo.name(), "branch": "main" });
        let body = json!({ "prompt": format!("go {key}"), "repository": source });
        let request =
            || server.request(Method::POST, "/sessions").json(&body).header("idempotency-key", &key);
        match insist(request).await {
            (200 | 201, text) => return serde_json::from_str::<SessionView>(&text).unwrap().id,
            (400, text) if text.contains("upload_not_found") => {}
            (status, text) => panic!("{status}: {text}"),
        }
    }
}

/// Waits for the end of the turn. A sandbox whose making was cut off fails its session, in words, and
/// keeps the prompt: whoever asked tries again.
async fn settle(server: &TestServer, session: SessionId) {
    let has_ended =
        |events: &[Event]| events.iter().any(|event| matches!(event.body, EventBody::TurnEnded(_)));
    let fails = |events: &[Event]| {
        let failed = |event: &&Event| matches!(&event.body, EventBody::SessionStatus(change) if change.status == SessionStatus::Failed);
        events.iter().filter(failed).count()
    };
    for tries in 0..5 {
        let events = server.until(session, |events| has_ended(events) || fails(events) > tries).await;
        if has_ended(&events) {
            server.until_rest(session, 1).await;
            return;
        }
        let path = format!("/sessions/{session}/retry");
        let (status, text) = insist(|| server.request(Method::POST, &path)).await;
        assert!(status < 300 || status == 409, "{status}: {text}");
    }
    panic!("{session} cannot be made");
}

/// Takes a session away; it may be gone already when the answer was lost.
async fn delete(server: &TestServer, session: SessionId) {
    let path = format!("/sessions/{session}");
    let (status, text) = insist(|| server.request(Method::DELETE, &path)).await;
    assert!(matches!(status, 204 | 404), "{status}: {text}");
}

/// Asks until there is an answer that is not the server's own trouble.
async fn insist(request: impl Fn() -> RequestBuilder) -> (u16, String) {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = match request().send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                response.text().await.map(|text| (status, text)).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok((status, text)) if status < 500 => return (status, text),
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A number that nobody can foresee.
fn random(below: u128) -> u64 {
    u64::try_from(Ulid::generate().random() % below).unwrap()
}

/// Notes the name of every sandbox that a data directory ever has.
struct Watch {
    ids: Arc<Mutex<BTreeSet<String>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn over(data: PathBuf) -> Self {
        let watch = Self { ids: Arc::default(), over: Arc::default() };
        let (ids, over) = (Arc::clone(&watch.ids), Arc::clone(&watch.over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let names = names(&data.join("workspaces")).into_iter();
                ids.lock().unwrap().extend(names.filter(|name| name.starts_with("sbx_")));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        watch
    }

    fn ids(&self) -> BTreeSet<String> {
        self.ids.lock().unwrap().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Waits until nothing is there any more: what a killed process left is taken away by the next one, in
/// its own time.
async fn nothing_left(server: &TestServer, watch: &Watch, ended: Option<i32>) {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = left(&server.data(), &watch.ids(), ended);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left: {left:#?}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything anywhere on the host that is of these sandboxes, or of sessions that are gone; once the
/// server has ended, of its data directory at all, but for the empty disks that its last `sandbox-host`
/// had ready: files, which the next one takes away.
fn left(data: &Path, ids: &BTreeSet<String>, ended: Option<i32>) -> BTreeSet<String> {
    let own = data.display().to_string();
    let of_ours =
        |text: &str| ended.is_some() && text.contains(&own) || ids.iter().any(|id| text.contains(id));
    let mut left = BTreeSet::new();
    for folder in ["repos", "uploads", "tmp", "run/sandboxes"] {
        left.extend(names(&data.join(folder)).into_iter().map(|name| format!("{folder}/{name}")));
    }
    let mut workspaces = names(&data.join("workspaces"));
    match ended {
        None => workspaces.retain(|name| ids.contains(name)),
        Some(host) => {
            workspaces.retain(|name| name != ".lock" && !name.starts_with(&format!("spare-{host}-")))
        }
    }
    left.extend(workspaces);
    let mut open = vec![PathBuf::from("/run/patchyard")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_holder = path.starts_with("/run/patchyard/ids");
            let text = if is_holder { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
            if of_ours(&path.display().to_string()) || of_ours(&text) {
                left.insert(format!("{} {text}", path.display()));
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            }
        }
    }
    let trees = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|tree| tree.path());
    for group in trees.chain([PathBuf::from("/sys/fs/cgroup")]).map(|tree| tree.join("patchyard")) {
        let paths = names(&group).into_iter().map(|name| group.join(name).display().to_string());
        left.extend(paths.filter(|path| of_ours(path)));
    }
    // Processes and the mounts of every namespace that one is in.
    let mut namespaces = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let text = |file: &str| {
            String::from_utf8_lossy(&fs::read(process.join(file)).unwrap_or_default()).into_owned()
        };
        for file in ["cmdline", "cgroup"] {
            left.extend(of_ours(&text(file)).then(|| format!("{}: {}", process.display(), text(file))));
        }
        if fs::read_link(process.join("ns/mnt")).is_ok_and(|namespace| namespaces.insert(namespace)) {
            left.extend(text("mountinfo").lines().filter(|line| of_ours(line)).map(str::to_owned));
        }
    }
    let loops = Command::new("losetup").args(["--all", "--noheadings"]).output().unwrap();
    let loops = String::from_utf8_lossy(&loops.stdout).into_owned();
    left.extend(loops.lines().filter(|line| of_ours(line)).map(str::to_owned));
    left
}
