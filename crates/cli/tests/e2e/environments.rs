//! Environments: made, edited, archived, chosen, and what they promise.

use protocol::environment::{Environment, EnvironmentList, EnvironmentSettings};
use protocol::sandbox_spec::Limits;
use protocol::status::SessionStatus;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Sandbox, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::setup::{begin, environment, now};
use crate::world::{bash, completed, last_result, serve, small_repo};

async fn quiet_server() -> (ScriptedModel, TestServer) {
    let model = ScriptedModel::start(Script::default()).await;
    let server = serve().model(&model).start().await;
    (model, server)
}

async fn names(server: &TestServer, query: &str) -> Vec<String> {
    let list: EnvironmentList = server.get(&format!("/environments{query}")).await.is(200).json();
    list.environments.into_iter().map(|environment| environment.settings.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_environment_is_made_of_the_configuration_and_stays_as_it_was_edited() {
    let model = ScriptedModel::start(Script::default()).await;
    let config = "[sandbox]\nimage = \"slim\"\nmemory_bytes = 300000000\npids = 200\n";
    let mut server = serve().model(&model).config(config).start().await;
    let list: EnvironmentList = server.get("/environments").await.is(200).json();
    let [default] = &list.environments[..] else { panic!("{list:?}") };
    assert_eq!((default.settings.name.as_str(), default.default, default.revision), ("default", true, 1));
    let limits = Limits { memory_bytes: 300_000_000, pids: 200, ..Limits::default() };
    assert_eq!(default.settings.limits, limits);

    server.cli(&["environments", "edit", "default", "--memory", "400MB", "--name", "usual"]).await.exits(0);
    server.stop().await;
    server.start_again().await;
    let list: EnvironmentList = server.get("/environments").await.is(200).json();
    let [default] = &list.environments[..] else { panic!("{list:?}") };
    assert_eq!(
        (default.settings.name.as_str(), default.settings.limits.memory_bytes),
        ("usual", 400_000_000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_edits_lists_and_archives() {
    let (_model, server) = quiet_server().await;
    let file = server.serve().dir().join("variables");
    std::fs::write(&file, "TZ=UTC\nTOKEN_A='x'\n").unwrap();
    let path = file.display().to_string();
    let args = [
        "environments",
        "create",
        "--name",
        "Web",
        "--network",
        "custom",
        "--domain",
        "*.Example.org",
        "--include-default",
        "--variables-file",
        &path,
        "--memory",
        "2GB",
        "--cpus",
        "1.5",
        "--pids",
        "300",
        "--disk",
        "1GB",
        "--open-files",
        "1024",
        "--at-least",
        "container",
        "--unenforced",
        "refuse",
        "--no-cache",
        "--json",
    ];
    let made: Environment = serde_json::from_value(server.cli(&args).await.exits(0).json()).unwrap();
    let limits = Limits {
        memory_bytes: 2_000_000_000,
        cpu_millis: 1500,
        pids: 300,
        disk_bytes: 1_000_000_000,
        open_files: 1024,
    };
    assert_eq!(made.settings.limits, limits);
    assert_eq!(
        json!(made.settings.network),
        json!({ "level": "custom", "domains": ["*.example.org"], "include_default": true })
    );
    assert_eq!((made.settings.cache_setup, made.revision), (false, 1));

    let edited = server.cli(&["environments", "edit", "web", "--network", "none", "--cache"]).await.exits(0);
    assert!(edited.stderr.contains("looks like a secret"), "{}", edited.stderr);
    let shown = server.cli(&["environments", "show", "WEB"]).await.exits(0).text();
    for words in ["revision 2", "network   none", "2 GB memory, 1.5 cores", "TZ=UTC", "what setups leave"] {
        assert!(shown.contains(words), "`{words}` in {shown}");
    }
    server.cli(&["environments", "default", "web"]).await.exits(0);
    let listed = server.cli(&["environments", "list", "--json"]).await.exits(0).json();
    assert_eq!(
        (listed[0]["settings"]["name"].as_str(), listed[1]["default"].as_bool()),
        (Some("Web"), Some(false))
    );
    let refused = server.cli(&["environments", "archive", "web"]).await.exits(1);
    assert!(refused.stderr.contains("make another one the default first"), "{}", refused.stderr);
    server.cli(&["remote-env", "default"]).await.exits(0);
    server.cli(&["environments", "archive", "web"]).await.exits(0);
    assert_eq!(
        (names(&server, "").await, names(&server, "?archived=true").await),
        (vec!["default".to_owned()], vec!["Web".to_owned()])
    );
    server.cli(&["environments", "archive", "web", "--undo"]).await.exits(0);
    assert_eq!(names(&server, "").await, ["default", "Web"]);
    let usage = server.cli(&["environments", "create", "--name", "x", "--memory", "lots"]).await.exits(2);
    assert!(usage.stderr.contains("write one like 16GB"), "{}", usage.stderr);
    let stored = std::fs::read(server.data().join("patchyard.db")).unwrap();
    assert!(!stored.windows(7).any(|window| window == b"TOKEN_A"), "variables are sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_the_reason() {
    let (_model, server) = quiet_server().await;
    let made = environment(&server, "taken", "").await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({ "name": "new" });
        change(&mut body);
        body
    };
    for (body, status, code, words) in [
        (with(&|body| body["name"] = "".into()), 400, "bad_environment", "1 to 60 characters"),
        (with(&|body| body["name"] = "TAKEN".into()), 409, "name_taken", "choose another name"),
        (with(&|body| body["image"] = "nothing".into()), 400, "image_not_found", "slim"),
        (with(&|body| body["variables"] = "A=1\nexport B".into()), 400, "bad_environment", "line 2"),
        (
            with(&|body| body["network"] = json!({ "level": "custom", "domains": ["https://x.org"] })),
            400,
            "bad_environment",
            "a scheme",
        ),
        (with(&|body| body["network"] = json!({ "level": "open" })), 400, "bad_json", "open"),
        (with(&|body| body["limits"] = json!({ "memory_bytes": 5 })), 400, "bad_environment", "memory_bytes"),
        (with(&|body| body["colour"] = "red".into()), 400, "bad_json", "colour"),
    ] {
        let answer = server.post("/environments", &body).await;
        assert!(answer.text().contains(words), "`{words}` in {}", answer.text());
        answer.is_problem(status, code);
    }
    // A tier that cannot be had is kept, told, and refused to sessions.
    let vm = with(&|body| body["tier"] = json!({ "exactly": "vm" }));
    let vm: Environment = server.post("/environments", &vm).await.is(201).json();
    assert!(vm.warnings.iter().any(|warning| warning.contains("`vm`")), "{:?}", vm.warnings);
    let repo = small_repo("refused");
    let body = async |environment: &str| {
        let mut body = server.new_session(&repo, "go").await;
        body["environment"] = environment.into();
        body
    };
    server.post("/sessions", &body("new").await).await.is_problem(400, "tier_not_available");
    let unknown = server.post("/sessions", &body("nowhere").await).await;
    assert!(unknown.text().contains("this server has default, new, taken"), "{}", unknown.text());
    unknown.is_problem(400, "environment_not_found");

    let path = format!("/environments/{}", made.id);
    let put = async |revision: u64, pids: u32| {
        let mut settings = EnvironmentSettings::named("taken");
        settings.limits.pids = pids;
        let edit = json!({ "revision": revision, "settings": settings });
        Answer::to(server.request(Method::PUT, &path).json(&edit)).await
    };
    put(1, 100).await.is(200);
    let stale = put(1, 200).await;
    assert!(
        stale.text().contains("revision 2 now") && stale.text().contains("in limits"),
        "{}",
        stale.text()
    );
    stale.is_problem(409, "environment_changed");
    Answer::to(server.request(Method::DELETE, &path)).await.is(204);
    put(3, 100).await.is_problem(409, "environment_archived");
    server.post("/sessions", &body("taken").await).await.is_problem(409, "environment_archived");
    server.get("/environments/env_01JD3Q4F7Z8XK2M5N6P7R8S9TV").await.is_problem(404, "environment_not_found");
    let key = |body: &Value| {
        server.request(Method::POST, "/environments").header("idempotency-key", "k").json(body)
    };
    let twice = json!({ "name": "once" });
    let first: Environment = Answer::to(key(&twice)).await.is(201).json();
    let second: Environment = Answer::to(key(&twice)).await.is(201).json();
    assert_eq!(first.id, second.id);
    Answer::to(key(&json!({ "name": "other" }))).await.is_problem(409, "idempotency_key_reused");
    let left: Value = server.get("/sessions").await.json();
    assert_eq!(left["sessions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_in_an_archived_environment() {
    let turns = [
        bash("echo kept > note; cat /etc/made"),
        Turn::text("one"),
        bash("cat note /etc/made"),
        Turn::text("two"),
    ];
    let model = ScriptedModel::start(Script::by_depth(turns)).await;
    let server = serve().model(&model).start().await;
    let made = environment(&server, "old", "echo by setup > /etc/made").await;
    let session = begin(&server, &small_repo("old"), "old").await;
    completed(&server.until_rest(session, 1).await);
    server.cli(&["environments", "archive", "old"]).await.exits(0);
    assert!(now(&server, &made).await.archived);
    assert_eq!(server.session(session).await.status, SessionStatus::Idle);
    server.cli(&["sessions", "archive", &session.to_string()]).await.exits(0);
    server.prompt(session, "go on").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "kept\nby setup", "the setup ran on the new file system");
    model.assert_clean();
}

/// The value of one of the names in the sandbox's control groups.
fn counter(sandbox: &Sandbox, names: [&str; 2]) -> u64 {
    let groups = sandbox.groups();
    let paths = groups.iter().flat_map(|group| names.map(|name| group.join(name)));
    let values = paths.filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    values.min().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_environments_have_the_limits_that_each_promises() {
    let look = "df -B1000000 --output=size / | tail -1; ulimit -n";
    let model = ScriptedModel::start(Script::by_depth([bash(look), Turn::text("done")])).await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("limited");
    for (name, memory, pids, disk, files) in
        [("small", 300_000_000, 100, 200_000_000, 512), ("large", 900_000_000, 300, 600_000_000, 2048)]
    {
        let limits =
            Limits { memory_bytes: memory, pids, disk_bytes: disk, open_files: files, ..Limits::default() };
        let settings = EnvironmentSettings { limits, ..EnvironmentSettings::named(name) };
        server.post("/environments", &json!(settings)).await.is(201);
        let session = begin(&server, &repo, name).await;
        let events = server.until_rest(session, 1).await;
        completed(&events);
        let sandbox = server.sandbox_of(session);
        let page = 4096;
        assert_eq!(
            counter(&sandbox, ["memory.max", "memory.limit_in_bytes"]) / page,
            memory / page,
            "{name}"
        );
        assert_eq!(counter(&sandbox, ["pids.max", "pids.max"]), u64::from(pids), "{name}");
        let seen: Vec<u64> =
            last_result(&events).lines().filter_map(|line| line.trim().parse().ok()).collect();
        let megabytes = disk / 1_000_000;
        assert!(seen[0] <= megabytes && seen[0] >= megabytes / 2, "{name}: {} MB of {megabytes}", seen[0]);
        assert_eq!(seen[1], files, "{name}");
    }
    model.assert_clean();
}
