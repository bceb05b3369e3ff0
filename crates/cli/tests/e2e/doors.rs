//! The doors that a sandbox has at every level: the gateway to the model, and that of git.
//!
//! ```text
//!  sessions shell ─▶ python3 in the sandbox ─▶ 127.0.0.1:3130 ─▶ server ─▶ Upstream (sees the key)
//!                                              127.0.0.1:3131 ─▶ server: no repository of this session
//! ```

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::usage::Usage;
use serde_json::{Value, json};
use testkit::harness::{DEADLINE, Part, Repo, TestServer};
use testkit::model::{Gate, Upstream};

use crate::packages;
use crate::world::{check_log, edit_default_environment, serve};

/// The server's key, as long as they are.
const KEY: &str = "sk-test-0123456789abcdef-the-real-one";

/// What one answer of `Upstream` costs.
const COST: u64 = 20;

struct World {
    server: TestServer,
    upstream: Upstream,
    gate: Gate,
}

/// What a request from inside was answered.
#[derive(Debug)]
struct Told(Value);

impl Told {
    fn status(&self) -> u64 {
        self.0["status"].as_u64().unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.0["headers"][name].as_str().unwrap_or_default()
    }

    fn text(&self) -> &str {
        self.0["body"].as_str().unwrap()
    }

    fn body(&self) -> Value {
        serde_json::from_str(self.text()).unwrap()
    }

    /// Fails the test unless this is an error of the API's shape; gives its words.
    #[track_caller]
    fn is_error(&self, status: u64, kind: &str) -> String {
        let body = self.body();
        assert_eq!((self.status(), body["type"].as_str()), (status, Some("error")), "{self:?}");
        assert_eq!(body["error"]["type"], kind, "{self:?}");
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl World {
    async fn start() -> Self {
        Self::with_config("").await
    }

    /// A server with this in its configuration, too.
    async fn with_config(more: &str) -> Self {
        let gate = Gate::closed();
        let upstream = Upstream::start(&gate).await;
        let agent = json!(["python3", "-B", "/workspace/carrier/acp_agent.py", "good"]);
        let config = format!("{more}\n[agents.good]\ncommand = {agent}\n");
        let serve = serve().model_at(upstream.base_url()).env("ANTHROPIC_API_KEY", KEY).config(&config);
        Self { server: serve.start().await, upstream, gate }
    }

    /// A session of an agent that asks no model, at rest, with a sandbox.
    async fn session(&self) -> SessionId {
        self.session_with(&[]).await
    }

    /// The same, with more files in its repository.
    async fn session_with(&self, more: &[(&str, &str)]) -> SessionId {
        let own = [("acp_agent.py", include_str!("acp_agent.py")), ("ask.py", include_str!("doors_ask.py"))];
        let repo = Repo::with("carrier", &[&own, more].concat());
        let mut body = self.server.new_session(&repo, "who").await;
        body["agent"] = "good".into();
        let made: Value = self.server.post("/sessions", &body).await.is(201).json();
        let session = made["id"].as_str().unwrap().parse().unwrap();
        self.server.until_rest(session, 1).await;
        session
    }

    /// What a command says inside.
    async fn says(&self, session: SessionId, command: &str) -> String {
        let session = session.to_string();
        let said = self.server.cli(&["sessions", "shell", &session, "--", "sh", "-c", command]).await;
        // It came over a terminal.
        said.text().replace("\r\n", "\n")
    }

    /// Changes settings of the default environment.
    async fn edit(&self, changes: Value) {
        edit_default_environment(&self.server, changes).await.is(200);
    }

    async fn ask(&self, session: SessionId, args: &[&str]) -> Told {
        self.ask_at(session, "3130", args).await
    }

    async fn ask_at(&self, session: SessionId, port: &str, args: &[&str]) -> Told {
        let (id, port) = (session.to_string(), format!("PORT={port}"));
        let mut all = vec!["sessions", "shell", &id, "--", "env", &port, "python3", "-B"];
        all.push("/workspace/carrier/ask.py");
        all.extend(args);
        let finished = self.server.cli(&all).await;
        let told = serde_json::from_slice(&finished.stdout);
        Told(told.unwrap_or_else(|_| panic!("{args:?}: {} {}", finished.text(), finished.stderr)))
    }

    async fn post(&self, session: SessionId, body: &Value) -> Told {
        self.ask(session, &["POST", "/v1/messages", &body.to_string()]).await
    }

    async fn used(&self, session: SessionId) -> Usage {
        self.server.session(session).await.usage
    }
}

/// What stands in a file, once it is there.
async fn until_there(path: &str) -> String {
    let until = std::time::Instant::now() + DEADLINE;
    loop {
        if let Ok(text) = std::fs::read_to_string(path) {
            return text;
        }
        assert!(std::time::Instant::now() < until, "there is no {path}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The models of all answers that are on record.
fn uses(events: &[Event]) -> Vec<&str> {
    let all = events.iter().filter_map(|event| match &event.body {
        EventBody::Usage { model, .. } => Some(model.as_str()),
        _ => None,
    });
    all.collect()
}

/// A request that names a model.
fn request(model: &str, stream: bool) -> Value {
    json!({ "model": model, "max_tokens": 9, "stream": stream, "messages": [{ "role": "user", "content": "hi" }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_inside_are_answered_with_a_key_that_they_never_see_and_what_they_use_is_counted() {
    let world = World::start().await;
    let session = world.session().await;
    let variables = world.says(session, "env | grep ^ANTHROPIC | sort").await;
    assert_eq!(
        variables,
        "ANTHROPIC_API_KEY=set-by-the-model-gateway\nANTHROPIC_BASE_URL=http://127.0.0.1:3130\n"
    );

    let body = request("plain", false).to_string();
    let told = world
        .ask(
            session,
            &[
                "POST",
                "/v1/messages?beta=true",
                &body,
                "x-api-key: mine",
                "Authorization: Bearer mine",
                "anthropic-version: 2023-06-01",
                "anthropic-beta: one,two",
                "user-agent: probe/1",
                "x-claude-code-session-id: another",
                "Accept-Encoding: gzip",
                "Connection: x-hop",
                "x-hop: 1",
            ],
        )
        .await;
    assert_eq!((told.status(), &told.body()["content"][0]["text"]), (200, &json!("Hello there")));
    assert_eq!(
        (told.header("request-id"), told.header("anthropic-ratelimit-requests-remaining")),
        ("req_1", "7")
    );
    let passed = world.upstream.requests().remove(0);
    assert_eq!((passed.line.as_str(), passed.bytes), ("POST /v1/messages?beta=true", body.into_bytes()));
    let header = |name: &str| passed.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!((header("x-api-key"), header("authorization")), (Some(KEY), None));
    assert_eq!(
        (header("anthropic-version"), header("anthropic-beta")),
        (Some("2023-06-01"), Some("one,two"))
    );
    assert_eq!(
        (header("user-agent"), header("x-claude-code-session-id")),
        (Some("probe/1"), Some("another"))
    );
    assert_eq!((header("accept-encoding"), header("x-hop")), (Some("identity"), None));
    assert_eq!(
        world.used(session).await,
        Usage {
            input_tokens: 10,
            output_tokens: 5,
            cache_read_input_tokens: 3,
            cache_creation_input_tokens: 2,
            requests: 1,
            cost_micro_usd: 0
        }
    );

    let body = request("plain", false).to_string();
    let counted = world.ask(session, &["POST", "/v1/messages/count_tokens", &body]).await;
    assert_eq!(counted.body()["input_tokens"], 17);
    let models = world.ask(session, &["GET", "/v1/models?limit=3"]).await;
    assert_eq!(models.body()["data"][0]["id"], "plain");
    assert_eq!(world.ask(session, &["GET", "/v1/models/plain"]).await.body()["id"], "plain");
    assert_eq!(world.used(session).await.requests, 1, "only answers cost");

    // Errors of the API come as they are.
    let busy = world.post(session, &request("busy", false)).await;
    assert_eq!(busy.is_error(429, "rate_limit_error"), "slow down");
    assert_eq!(busy.header("retry-after"), "0");
    world.post(session, &request("telltale", false)).await.is_error(502, "api_error");
    world.post(session, &request("squeezed", false)).await.is_error(502, "api_error");

    // Row C01 of the escape matrix: the key is nowhere inside.
    let found = world
        .says(session, &format!("grep -rlas {KEY} /proc/[0-9]*/environ /workspace /home /root /tmp /etc /run 2>/dev/null; echo looked"))
        .await;
    assert_eq!(found, "looked\n");
    let (events, view) = check_log(&world.server, session).await;
    assert_eq!((uses(&events), view.usage.requests), (vec!["plain"], 1));
    let page = world.server.get(&format!("/sessions/{session}")).await.is(200).text();
    assert!(!page.contains(KEY) && !world.server.log().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_comes_as_it_is_written_and_who_leaves_it_has_used_what_came() {
    let world = World::start().await;
    let session = world.session().await;
    let held = request("held", true);
    let leave = format!(
        "python3 -c 'import urllib.request as u; \
         stream = u.urlopen(u.Request(\"http://127.0.0.1:3130/v1/messages\", b\"\"\"{held}\"\"\")); \
         any(b\"Hello\" in line for line in stream)' && echo left"
    );
    assert_eq!(world.says(session, &leave).await, "left\n");
    world.server.until(session, |events| uses(events).len() == 1).await;
    // The API told of one token; five bytes had come.
    assert_eq!((world.used(session).await.input_tokens, world.used(session).await.output_tokens), (10, 2));

    // The first delta is there before the second one is sent.
    let (told, ()) = tokio::join!(world.post(session, &held), async {
        world.upstream.until_said("saw-a-delta").await;
        world.gate.open();
    });
    assert!(
        told.text().contains("Hello") && told.text().ends_with("{\"type\":\"message_stop\"}\n\n"),
        "{told:?}"
    );
    assert_eq!((world.used(session).await.requests, world.used(session).await.output_tokens), (2, 7));
    check_log(&world.server, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_does_not_pass_on_is_refused_in_words() {
    let world = World::start().await;
    let session = world.session().await;
    for (method, path, status) in [
        ("POST", "/v1/files", 404),
        ("POST", "/v1/messages/batches", 404),
        ("GET", "/v1/models/../files", 404),
        ("GET", "/v1/organizations/usage_report/messages", 404),
        ("POST", "/v1/complete", 404),
        ("POST", "//v1/messages", 404),
        ("GET", "/v1/messages", 405),
        ("DELETE", "/v1/models/plain", 405),
    ] {
        let told = world.ask(session, &[method, path, "{}"]).await;
        let kind = if status == 404 { "not_found_error" } else { "invalid_request_error" };
        let words = told.is_error(status, kind);
        assert!(words.contains(&format!("{method} {path}")), "{words}");
    }
    let with = |field: &str, value: Value| {
        let mut body = request("plain", false);
        body[field] = value;
        body
    };
    let block = |block: Value| with("messages", json!([{ "role": "user", "content": [block] }]));
    for (body, word) in [
        (with("tools", json!([{ "type": "web_search_20250305", "name": "web_search" }])), "web_search"),
        (with("tools", json!([{ "type": "web_fetch_20250910", "name": "web_fetch" }])), "web_fetch"),
        (with("tools", json!([{ "type": "code_execution_20250825", "name": "x" }])), "code_execution"),
        (with("tools", json!([{ "type": "not_known_yet", "name": "x" }])), "not_known_yet"),
        (
            with("mcp_servers", json!([{ "type": "url", "url": "https://evil.test", "name": "x" }])),
            "mcp_servers",
        ),
        (with("container", json!("container_1")), "container"),
        (
            block(json!({ "type": "image", "source": { "type": "url", "url": "https://evil.test/" } })),
            "url_sources",
        ),
        (block(json!({ "type": "document", "source": { "type": "file", "file_id": "f" } })), "file_sources"),
        (block(json!({ "type": "container_upload", "file_id": "f" })), "container_upload"),
    ] {
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            let words = world
                .ask(session, &["POST", path, &body.to_string()])
                .await
                .is_error(403, "permission_error");
            assert!(words.contains(&format!("`{word}`")) && words.contains("allow"), "{words}");
        }
    }
    for body in ["{", "[]", "{\"model\":\"a\",\"model\":\"b\"}", "{\"Tools\":[]}"] {
        world.ask(session, &["POST", "/v1/messages", body]).await.is_error(400, "invalid_request_error");
    }
    let squeezed = ["POST", "/v1/messages", "{}", "Content-Encoding: gzip"];
    world.ask(session, &squeezed).await.is_error(400, "invalid_request_error");
    let long = ["POST", "/v1/messages", &format!("@{}", 33 * 1024 * 1024)];
    world.ask(session, &long).await.is_error(413, "request_too_large");
    let head = format!("x-long: {}", "x".repeat(70_000));
    assert_eq!(world.ask(session, &["GET", "/v1/models", "", &head]).await.status(), 431);
    assert_eq!(world.upstream.requests().len(), 0, "nothing of it went out");
    assert_eq!(world.used(session).await, Usage::default());

    // Git is told what to do.
    let git = world.says(session, "git ls-remote http://127.0.0.1:3131/a/b.git 2>&1").await;
    assert!(
        git.contains("remote error: this session has no remote") && git.contains("sessions pull"),
        "{git}"
    );
    let told = world.ask_at(session, "3131", &["GET", "/a/b.git/HEAD"]).await;
    assert_eq!((told.status(), told.header("content-type")), (404, "text/plain; charset=utf-8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_ends_and_what_the_operator_allows_passes() {
    let config = format!("[model]\nallow = [\"web_search\"]\nmax_tokens_per_session = {}\n", 2 * COST);
    let world = World::with_config(&config).await;
    let session = world.session().await;
    let mut body = request("plain", true);
    body["tools"] = json!([{ "type": "web_search_20250305", "name": "web_search" }]);
    assert_eq!(world.post(session, &body).await.status(), 200);
    body["tools"][0]["type"] = "web_fetch_20250910".into();
    world.post(session, &body).await.is_error(403, "permission_error");
    assert_eq!(world.post(session, &request("plain", false)).await.status(), 200);
    let words = world.post(session, &request("plain", false)).await.is_error(403, "permission_error");
    assert!(words.contains("has used 40 tokens") && words.contains("max_tokens_per_session"), "{words}");
    // What costs nothing goes on; another session has its own.
    assert_eq!(world.ask(session, &["GET", "/v1/models"]).await.status(), 200);
    let other = world.session().await;
    assert_eq!(world.post(other, &request("plain", false)).await.status(), 200);
    assert_eq!((world.used(session).await.requests, world.used(other).await.requests), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn level_none_leaves_these_two_doors_and_each_session_its_own() {
    let world = World::start().await;
    world.edit(json!({ "network": { "level": "none" } })).await;
    let (one, two) = (world.session().await, world.session().await);

    // 0A is the kernel's word for a listener; the ports in hex are 3130 and 3131.
    let listeners = "cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" { print $2 }' | sort; \
                     tail -n +2 /proc/net/udp /proc/net/udp6 | grep -c :";
    assert_eq!(world.says(one, listeners).await, "0100007F:0C3A\n0100007F:0C3B\n0\n");
    let address = world.server.address.trim_start_matches("http://").replace(':', " ");
    let model = world.upstream.base_url().trim_start_matches("http://").replace(':', " ");
    let elsewhere = format!(
        "for to in '{address}' '{model}' '127.0.0.1 3128' '192.0.2.7 443' '169.254.169.254 80'; do set -- $to; \
         timeout 5 bash -c \"exec 3<>/dev/tcp/$1/$2\" 2>/dev/null && echo reached $to; done; \
         timeout 5 python3 -c 'import socket; socket.create_connection((\"example.org\", 80))' 2>/dev/null && echo reached by name; \
         echo tried"
    );
    assert_eq!(world.says(one, &elsewhere).await, "tried\n");

    each_session_has_its_own(&world, one, two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doors_of_a_stack_of_its_own_are_each_sessions_own_and_come_again_with_the_server() {
    let world = World::start().await;
    let gvisor = json!({ "at_least": "gvisor" });
    world.edit(json!({ "network": { "level": "none" }, "tier": gvisor })).await;
    let (one, two) = (world.session().await, world.session().await);
    assert!(world.ask_at(one, "3131", &["GET", "/"]).await.status() >= 400, "git has no repository here");
    world.server.kill_child(Part::Server);
    each_session_has_its_own(&world, one, two).await;
}

async fn each_session_has_its_own(world: &World, one: SessionId, two: SessionId) {
    // Whatever a request says of itself, it is counted where it came from.
    let body = request("plain", false).to_string();
    let (one_id, two_id) = (one.to_string(), two.to_string());
    let claims = ["x-session-id", "x-claude-code-session-id", "x-patchyard-session", "authorization", "host"];
    let claims: Vec<String> = claims.iter().map(|name| format!("{name}: {two_id}")).collect();
    let mut args = vec!["POST", "/v1/messages", &body];
    args.extend(claims.iter().map(String::as_str));
    assert_eq!(world.ask(one, &args).await.status(), 200);
    assert_eq!((world.used(one).await.requests, world.used(two).await.requests), (1, 0));
    // A listener of one is nothing to the other, also under another name of the loopback address.
    world
        .says(one, "nohup python3 -m http.server --bind 0.0.0.0 8099 >/dev/null 2>&1 & sleep 0.1; true")
        .await;
    let reach = "for at in 127.0.0.1 127.0.0.2 0.0.0.0; do timeout 5 bash -c \"exec 3<>/dev/tcp/$at/8099\" 2>/dev/null && echo reached $at; done; echo tried";
    assert_eq!(world.says(two, reach).await, "tried\n");
    assert_eq!(world.post(two, &request("plain", false)).await.status(), 200);
    assert_eq!((world.used(one).await.requests, world.used(two).await.requests), (1, 1), "{one_id}");

    // With their sandbox the doors go, and nothing of it is left.
    let sandbox = world.server.sandbox_of(two);
    world.server.cli(&["sessions", "delete", &two_id, "--yes"]).await.exits(0);
    assert_eq!(sandbox.traces(&world.server.data()), Vec::<String>::new());
    assert_eq!(world.post(one, &request("plain", false)).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_breaks_the_stream_and_the_next_one_answers_while_egress_is_not_needed() {
    let world = World::start().await;
    let session = world.session().await;
    let sandbox = world.server.sandbox_of(session);
    // The way back of what it says goes with the server, so it leaves that on disk.
    let body = request("held", true).to_string();
    let ask = format!(
        "cd /workspace/carrier; python3 -B ask.py POST /v1/messages '{body}' >/tmp/part; mv /tmp/part /tmp/told"
    );
    let asking = async {
        world.says(session, &ask).await;
        std::future::pending::<()>().await;
    };
    let broken = async {
        world.upstream.until_said("saw-a-delta").await;
        // Without egress it goes on as if nothing was.
        world.server.kill_child(Part::Egress);
        assert_eq!(world.post(session, &request("plain", false)).await.status(), 200);
        let told = format!("/proc/{}/root/tmp/told", sandbox.init);
        assert!(!std::path::Path::new(&told).exists(), "the stream is still open");
        // The next server ends what runs in the sandbox, so it has to wait for the client to notice.
        let supervisor = Pid::from_raw(world.server.pid(Part::Supervisor));
        kill(supervisor, Signal::SIGSTOP).unwrap();
        world.server.kill_child(Part::Server);
        let told = until_there(&told).await;
        kill(supervisor, Signal::SIGCONT).unwrap();
        told
    };
    let told = tokio::select! {
        told = broken => told,
        () = asking => unreachable!("it is pending"),
    };
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((told["status"].as_u64(), told["broken"].as_bool()), (Some(200), Some(true)), "{told}");
    assert!(told["body"].as_str().unwrap().contains("Hello"), "{told}");

    let again = world.post(session, &request("plain", true)).await;
    assert!(again.status() == 200 && again.text().contains("message_stop"), "{again:?}");
    assert_eq!(world.server.sandbox_of(session), sandbox, "the same sandbox");
    check_log(&world.server, session).await;
}

/// Installs an SDK and runs a program that uses it; each has its last word.
const SDKS: [(&str, &str); 2] = [
    (
        "python",
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null && \
         python3 -m venv /tmp/v && /tmp/v/bin/pip install -q anthropic && /tmp/v/bin/python sdk.py",
    ),
    (
        "typescript",
        "apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null && \
         npm install --silent --no-progress @anthropic-ai/sdk && node sdk.mjs",
    ),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches some 150 MB; run by `make test-packages`"]
async fn packages_of_the_official_sdks_work_from_inside() {
    let world = World::with_config(&packages::private()).await;
    packages::trusted(&world.server).await;
    let pem = std::fs::read_to_string(packages::AUTHORITIES).unwrap();
    let files = [
        ("authorities.pem", pem.as_str()),
        ("sdk.py", include_str!("doors_sdk.py")),
        ("sdk.mjs", include_str!("doors_sdk.mjs")),
    ];
    let session = world.session_with(&files).await;
    for (number, (name, command)) in SDKS.iter().enumerate() {
        let command = format!("cd /workspace/carrier; export DEBIAN_FRONTEND=noninteractive; {command} 2>&1");
        let mut cli = world.server.cli_command();
        cli.args(["sessions", "shell", &session.to_string(), "--", "sh", "-c", &command]);
        let output = cli.stdin(std::process::Stdio::null()).kill_on_drop(true).output();
        let output =
            tokio::time::timeout(std::time::Duration::from_secs(900), output).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
        println!("{name}: {}", said.trim());
        assert!(said.ends_with("all of it works\n"), "{name}: {said}");
        // Whole, streamed, streamed by hand, and the second try of one that was too much.
        assert_eq!(world.used(session).await.requests, 4 * (number as u64 + 1), "{name}");
        let busy = world.upstream.requests().into_iter().filter(|passed| passed.body["model"] == "busy");
        assert_eq!(busy.count(), 2 * (number + 1), "{name} tries again");
    }
    assert!(world.upstream.requests().iter().all(|passed| passed.headers["x-api-key"] == KEY));
}
