//! Everything that can be given wrongly: a reason in one line, what to do next, the right exit code.

use std::io::Read as _;

use protocol::event::EventBody;
use protocol::status::{SessionStatus, StopReason, TurnStatus};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Finished, Repo, TestServer, run};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{bash, check_log, ends, serve, small_repo};

/// The command failed with this code, and its one line of why has these words.
#[track_caller]
fn says(finished: Finished, code: i32, words: &[&str]) {
    let finished = finished.exits(code);
    let mut lines = finished.stderr.lines().filter(|line| line.starts_with("patchyard: "));
    let (line, more) = (lines.next().unwrap_or_default(), lines.next());
    assert_eq!(more, None, "{}", finished.stderr);
    for wanted in words {
        assert!(line.contains(wanted), "`{wanted}` in: {line}");
    }
    assert!(finished.stdout.is_empty(), "nothing on standard output: {}", finished.text());
}

async fn quiet_server() -> (ScriptedModel, TestServer) {
    let model = ScriptedModel::start(Script::default()).await;
    let server = serve().model(&model).start().await;
    (model, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_repositories_and_prompts() {
    let (_model, server) = quiet_server().await;
    let plain = tempfile::tempdir().unwrap();
    let (empty, good) = (Repo::empty("empty"), small_repo("good"));
    let task = async |repo: &str, more: &[&str]| {
        let mut args = vec!["--remote", "task", "--repo", repo];
        args.extend(more);
        server.cli(&args).await
    };
    let path = plain.path().display().to_string();
    says(task(&path, &[]).await, 1, &["is not in a git repository", "name one with --repo"]);
    says(task("/nonexistent/folder", &[]).await, 1, &["/nonexistent/folder is not in a git repository"]);
    says(task(&empty.arg(), &[]).await, 1, &["has no commit yet; commit something first"]);
    says(task(&good.arg(), &["--branch", "nowhere"]).await, 1, &["no branch `nowhere`", "it has main"]);
    says(task(&good.arg(), &["--branch=--all"]).await, 1, &["no branch `--all`"]);
    says(task(&good.arg(), &["--agent", "nobody"]).await, 1, &["no agent `nobody`", "patchyard"]);
    says(task(&good.arg(), &["--image", "nothing"]).await, 1, &["no image `nothing`", "slim"]);
    let prompt = async |prompt: &str| server.cli(&["--remote", prompt, "--repo", &good.arg()]).await;
    says(prompt("").await, 2, &["the prompt is empty; say what should be done"]);
    says(prompt(" \n\t ").await, 2, &["the prompt is empty"]);
    says(prompt(&"x".repeat(100_000)).await, 2, &["100000 characters, 64000 are allowed", "into a file"]);
    let mut without_git = server.cli_command();
    without_git.args(["--remote", "task", "--repo", &good.arg()]).env("PATH", "/nonexistent");
    says(run(without_git).await, 1, &["install git 2.37"]);
    let left: Value = server.get("/sessions").await.json();
    assert_eq!(left["sessions"], json!([]), "nothing was made of any of these");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_servers_tokens_and_sessions() {
    let (_model, server) = quiet_server().await;
    let repo = small_repo("good");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    for args in [&["sessions", "list"][..], &["--remote", "task", "--repo", &repo.arg()]] {
        let mut all = vec!["--server", nobody.as_str()];
        all.extend(args);
        says(server.cli(&all).await, 3, &["cannot reach patchyard at", &nobody, "patchyard serve"]);
        let mut wrong = server.cli_command();
        wrong.args(args).env("PATCHYARD_TOKEN", "pyt_wrong");
        says(run(wrong).await, 3, &["you are not signed in", "patchyard login"]);
    }
    says(server.cli(&["--server", "nonsense", "sessions", "list"]).await, 2, &["is not a server's address"]);
    let unknown = "ses_01JD3Q4F7Z8XK2M5N6P7R8S9TV";
    for command in ["show", "events", "diff", "stop", "archive", "pull"] {
        says(server.cli(&["sessions", command, unknown]).await, 1, &["session", unknown, "sessions list"]);
    }
    says(server.cli(&["sessions", "prompt", unknown, "hello"]).await, 1, &[unknown]);
    says(server.cli(&["sessions", "delete", unknown]).await, 1, &[unknown]);
    for args in [
        &["sessions", "show", "nonsense"][..],
        &["sessions", "show", "../../etc/passwd"],
        &["--no-such-option"],
        &["no-such-command"],
        &["--remote", "task", "--output-format", "yaml"],
        &["--wait"],
        &["--remote", "task", "sessions", "list"],
        &[],
    ] {
        let finished = server.cli(args).await.exits(2);
        assert!(finished.stdout.is_empty() && !finished.stderr.is_empty(), "{args:?}: {finished:?}");
    }
    let nonsense = server.cli(&["sessions", "show", "nonsense"]).await.stderr;
    assert!(nonsense.contains("`nonsense` is not a session id"), "{nonsense}");

    let code = server.login_url.split_once('#').unwrap().1;
    let first = server.cli(&["login", &server.login_url]).await.exits(0);
    assert!(first.text().contains("signed in to"), "{}", first.text());
    says(server.cli(&["login", code]).await, 3, &["used before"]);
    says(server.cli(&["login", "pyc_nonsense"]).await, 3, &["this code is unknown"]);
    let kept = server.serve().dir().join("home/.config/patchyard/config.toml");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(kept).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "the token is the owner's only");
    server.cli(&["sessions", "list"]).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests() {
    let (_model, server) = quiet_server().await;
    let repo = small_repo("good");
    let good = server.new_session(&repo, "task").await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        body
    };
    let raw = async |body: &'static str| {
        let request = server.request(Method::POST, "/sessions").header("content-type", "application/json");
        Answer::to(request.body(body)).await
    };
    let words = raw("{\"prompt\": ").await.is_problem(400, "bad_json");
    assert!(words.contains("line 1 column"), "{words}");
    raw("[]").await.is_problem(400, "bad_json");
    raw("\u{0}").await.is_problem(400, "bad_json");
    let words =
        server.post("/sessions", &with(&|body| body["pormpt"] = 1.into())).await.is_problem(400, "bad_json");
    assert!(words.contains("pormpt"), "{words}");
    Answer::to(server.request(Method::POST, "/sessions").body("prompt=task"))
        .await
        .is_problem(415, "not_json");
    let prompt = |text: String| with(&move |body: &mut Value| body["prompt"] = text.clone().into());
    server.post("/sessions", &prompt(String::new())).await.is_problem(400, "empty_prompt");
    server.post("/sessions", &prompt("\u{3000}\n".into())).await.is_problem(400, "empty_prompt");
    server.post("/sessions", &prompt("x".repeat(2_000_000))).await.is_problem(413, "prompt_too_long");
    // Just over, and of no told length: what is not read at all makes the connection break.
    let long = prompt("x".repeat(4 * 1024 * 1024)).to_string();
    let long = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(long)]));
    let request = server.request(Method::POST, "/sessions").header("content-type", "application/json");
    Answer::to(request.body(long)).await.is_problem(413, "body_too_large");
    server
        .post("/sessions", &with(&|body| body["agent"] = "nobody".into()))
        .await
        .is_problem(400, "agent_not_found");
    server
        .post("/sessions", &with(&|body| body["image"] = "../slim".into()))
        .await
        .is_problem(400, "image_not_found");
    for upload in [
        "upl_01JD3Q4F7Z8XK2M5N6P7R8S9TV",
        "upl_../../master.key",
        "../token",
        "",
        "upl_01JD3Q4F7Z8XK2M5N6P7R8S9TV/x",
    ] {
        let body = with(&|body| body["repository"]["upload"] = upload.into());
        server.post("/sessions", &body).await.is_problem(400, "upload_not_found");
    }
    for session in
        ["nonsense", "ses_01JD3Q4F7Z8XK2M5N6P7R8S9TV", "ses_01jd3q4f7z8xk2m5n6p7r8s9tv", "%2e%2e%2fetc"]
    {
        server.get(&format!("/sessions/{session}")).await.is_problem(404, "session_not_found");
    }
    server.get("/nothing").await.is_problem(404, "not_found");
    let nonsense =
        Answer::to(server.request(Method::POST, "/uploads").body("no bundle at all")).await.is(201);
    let upload = nonsense.json::<Value>()["upload"].clone();
    let body = with(&|body| body["repository"]["upload"] = upload.clone());
    server.post("/sessions", &body).await.is_problem(400, "bad_bundle");
    assert_eq!(
        std::fs::read_dir(server.data().join("repos")).unwrap().count(),
        0,
        "no repository is left of these"
    );
    let key =
        server.request(Method::POST, "/sessions").header("idempotency-key", "x".repeat(201)).json(&good);
    Answer::to(key).await.is_problem(400, "bad_idempotency_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_runtime_says_so_in_the_failed_session() {
    let model = ScriptedModel::start(Script::turns([Turn::text("unused")])).await;
    let server = serve().model(&model).env("PATCHYARD_RUNTIME", "nonexistent").start().await;
    let repo = small_repo("stranded");
    let args = ["--remote", "task", "--repo", &repo.arg(), "--wait", "--output-format", "json"];
    let finished = server.cli(&args).await.exits(1);
    let outcome = finished.json();
    assert_eq!(outcome["status"], "failed");
    let message = outcome["message"].as_str().unwrap();
    assert!(
        message.contains("no sandbox runtime works here") && message.contains("nonexistent"),
        "{message}"
    );
    let id = outcome["session_id"].as_str().unwrap().parse().unwrap();
    let (events, view) = check_log(&server, id).await;
    assert_eq!((view.status, view.queued_prompts), (SessionStatus::Failed, 1));
    assert!(events.iter().any(|event| matches!(&event.body, EventBody::StepFinished { error: Some(_), .. })));
    let info: Value = server.get("/server").await.is(200).json();
    assert!(info["missing"].to_string().contains("runtime"), "{info}");
    assert_eq!(model.requests().len(), 0);
    // What failed can be stopped and deleted.
    server.post(&format!("/sessions/{id}/stop"), &json!({})).await.is(202);
    assert_eq!(server.session(id).await.queued_prompts, 0);
    server.cli(&["sessions", "delete", &id.to_string(), "--yes"]).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_model_starts_and_says_what_is_missing() {
    let server = serve().start().await;
    assert!(server.log().contains("! No model is configured: set ANTHROPIC_API_KEY"), "{}", server.log());
    let repo = small_repo("modelless");
    let body = server.new_session(&repo, "task").await;
    server.post("/sessions", &body).await.is_problem(409, "no_model");
    let finished = server.cli(&["--remote", "task", "--repo", &repo.arg()]).await;
    says(finished, 1, &["no model is configured", "set ANTHROPIC_API_KEY"]);
}

async fn fails_with(server: &TestServer, reason: StopReason, words: &str) {
    let repo = small_repo("unanswered");
    let args = ["--remote", "task", "--repo", &repo.arg(), "--wait", "--output-format", "json"];
    let outcome = server.cli(&args).await.exits(1).json();
    let (events, view) = check_log(server, outcome["session_id"].as_str().unwrap().parse().unwrap()).await;
    let end = ends(&events)[0];
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Failed, reason), "{end:?}");
    let message = outcome["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
    assert!(!message.contains("sk-test-key"), "{message}");
    assert_eq!(view.status, SessionStatus::Idle, "the next prompt can work");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_and_an_address_that_is_no_model_fail_at_once() {
    for status in [401, 403] {
        let model = ScriptedModel::start(Script::turns([Turn::error(status, "invalid x-api-key")])).await;
        let server = serve().model(&model).start().await;
        fails_with(&server, StopReason::ModelAuth, "key").await;
        assert_eq!(model.requests().len(), 1, "no retry");
    }
    let model = ScriptedModel::start(Script::turns([Turn::raw(404, "text/html", "<h1>Not here</h1>")])).await;
    let server = serve().model(&model).start().await;
    fails_with(&server, StopReason::ModelUnreachable, "check the base URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_away_is_told_while_it_is_tried_again() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = serve().model_at(&format!("http://{free}")).start().await;
    let session = server.create(&small_repo("away"), "task").await;
    let retry = |body: &EventBody| matches!(body, EventBody::Error(error) if error.retry_in_ms.is_some());
    let events =
        server.until(session, |events| events.iter().filter(|event| retry(&event.body)).count() >= 2).await;
    let told = events.iter().find_map(|event| match &event.body {
        EventBody::Error(error) => Some(error.message.clone()),
        _ => None,
    });
    assert!(told.as_ref().is_some_and(|message| message.contains("check the base URL")), "{told:?}");
    assert_eq!(server.session(session).await.status, SessionStatus::Running);
    server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
    let events = server.until_rest(session, 1).await;
    assert_eq!(ends(&events)[0].status, TurnStatus::Interrupted);
    check_log(&server, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_or_broken_model_is_tried_again_until_it_answers() {
    let turns = [
        Turn::error(529, "Overloaded"),
        Turn::error(429, "slow down").header("retry-after", "0"),
        bash("echo tool").cut_after(300),
        bash("echo tool").stream_error(3, "overloaded_error", "Overloaded"),
        bash("echo tool"),
        Turn::error(500, "oops"),
        Turn::text("there"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("patient");
    let args = ["--remote", "task", "--repo", &repo.arg(), "--wait", "--output-format", "json"];
    let outcome = server.cli(&args).await.exits(0).json();
    let (events, _) = check_log(&server, outcome["session_id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(crate::world::results(&events).len(), 1, "a broken answer runs no tool");
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_start_says_why_and_exits() {
    let (_model, mut server) = quiet_server().await;
    let address = server.address.trim_start_matches("http://").to_owned();
    says(
        serve().listen(&address).outcome().await,
        1,
        &["cannot listen on", &address, "the port is in use", "--listen"],
    );
    let busy = server.serve().clone().listen("127.0.0.1:0").outcome().await;
    assert_eq!(busy.code, Some(1), "{busy:?}");
    assert!(busy.stderr.contains("stop it first") || busy.stderr.contains("in use"), "{}", busy.stderr);
    server.get("/sessions").await.is(200);

    assert_eq!(server.stop().await, Some(0));
    let database = rusqlite::Connection::open(server.data().join("patchyard.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    says(server.serve().clone().outcome().await, 1, &["newer", "99"]);

    let typo = serve().config("[sandbox]\nmemroy_bytes = 5\n");
    says(typo.outcome().await, 1, &["config.toml cannot be used", "memroy_bytes"]);
    let missing = serve().env("PATCHYARD_CONFIG", "/nonexistent/config.toml");
    says(missing.outcome().await, 1, &["cannot read the configuration /nonexistent/config.toml"]);
    let keyless = serve().config("[model]\napi_key_file = \"/nonexistent/key\"\n");
    says(keyless.outcome().await, 1, &["cannot read the model's key from /nonexistent/key"]);
    let elsewhere = serve().listen("203.0.113.1:7878");
    says(elsewhere.outcome().await, 1, &["this machine does not have that address"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_repository_goes_in_smaller_steps_or_is_refused_by_name() {
    let model = ScriptedModel::start(Script::by_depth([
        bash("git log --format=%s --all | sort; ls"),
        Turn::text("seen"),
    ]))
    .await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("large");
    repo.git(&["config", "core.compression", "0"]);
    let mut noise = vec![0; 101 * 1000 * 1000];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    let task = async || {
        let args = ["--remote", "task", "--repo", &repo.arg(), "--wait", "--output-format", "json"];
        server.cli(&args).await
    };
    repo.git(&["checkout", "--quiet", "-b", "heavy"]);
    repo.write("assets/noise.bin", &noise);
    repo.commit("Heavy");
    says(
        task().await,
        1,
        &["too large", "100 MB are allowed", "assets/noise.bin (101 MB)", "give its URL with --repo"],
    );

    repo.git(&["rm", "--quiet", "assets/noise.bin"]);
    repo.commit("Light again");
    let finished = task().await.exits(0);
    assert!(finished.stderr.contains("a snapshot without history"), "{}", finished.stderr);

    repo.git(&["checkout", "--quiet", "main"]);
    let finished = task().await.exits(0);
    assert!(finished.stderr.contains("the current branch only"), "{}", finished.stderr);
    assert_eq!(finished.json()["base"], repo.git(&["rev-parse", "main"]));

    // Who goes around the client is cut off while it sends.
    noise.truncate(100_000_001);
    let body = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(noise)]));
    Answer::to(server.request(Method::POST, "/uploads").body(body)).await.is_problem(413, "bundle_too_large");
    assert_eq!(std::fs::read_dir(server.data().join("uploads")).unwrap().count(), 0);
}
