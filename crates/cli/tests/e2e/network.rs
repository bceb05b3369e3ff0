//! The tester of an environment's network: would a host pass, and by which rule?

use protocol::environment::{Environment, EnvironmentSettings, NetworkLevel};
use protocol::network::{Access, DenyReason, NetworkTest};
use serde_json::{Value, json};
use testkit::harness::TestServer;
use testkit::model::{Script, ScriptedModel};

use crate::world::serve;

const CONFIG: &str = r#"
[network]
allow = ["proxy.corp.example.org:3128"]
deny = ["*.evil.example.org"]
private = [{ host = "git.corp.internal", cidr = "10.1.0.0/16" }]
"#;

async fn server() -> (ScriptedModel, TestServer) {
    let model = ScriptedModel::start(Script::default()).await;
    let server = serve().model(&model).config(CONFIG).start().await;
    (model, server)
}

async fn web(server: &TestServer) -> Environment {
    let domains = ["*.Example.org", "git.corp.internal", "db.example.net:5432"];
    let settings = EnvironmentSettings {
        network: NetworkLevel::Custom { domains: domains.map(Into::into).into(), include_default: false },
        ..EnvironmentSettings::named("web")
    };
    server.post("/environments", &json!(settings)).await.is(201).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tester_names_the_rule_that_decides() {
    let (_model, server) = server().await;
    let id = web(&server).await.id;
    let path = format!("/environments/{id}/network-test");
    let ask = async |body: Value| -> NetworkTest { server.post(&path, &body).await.is(200).json() };
    for (target, shown, rule) in [
        ("API.example.org.", "api.example.org:443", "environment: *.example.org"),
        (" db.example.net:5432 ", "db.example.net:5432", "environment: db.example.net:5432"),
        ("git.corp.internal", "git.corp.internal:443", "environment: git.corp.internal"),
        (
            "proxy.corp.example.org:3128",
            "proxy.corp.example.org:3128",
            "admin allow list: proxy.corp.example.org:3128",
        ),
    ] {
        let answer = ask(json!({ "target": target })).await;
        assert_eq!(
            (answer.allowed, answer.target.as_str(), answer.rule.as_deref()),
            (true, shown, Some(rule))
        );
        assert_eq!(answer.access, Some(Access::Opaque));
        assert!(answer.message.contains(rule), "{}", answer.message);
    }
    for (target, reason, rule, askable) in [
        ("example.org", DenyReason::NotAllowed, None, true),
        ("x.evil.example.org:8443", DenyReason::Denylist, Some("admin deny list: *.evil.example.org"), false),
        ("db.example.net", DenyReason::BadPort, Some("environment: db.example.net:5432"), true),
        ("other.corp.internal", DenyReason::AddrPrivate, None, false),
        ("localhost:7878", DenyReason::AddrLoopback, None, false),
        ("10.1.0.1", DenyReason::AddrPrivate, None, false),
        ("127.1", DenyReason::BadHost, None, false),
        ("https://api.example.org/", DenyReason::BadHost, None, false),
        ("a\u{0}.example.org", DenyReason::BadHost, None, false),
    ] {
        let answer = ask(json!({ "target": target })).await;
        assert_eq!((answer.allowed, answer.reason, answer.access), (false, Some(reason), None), "{target}");
        assert_eq!((answer.rule.as_deref(), answer.askable), (rule, askable), "{target}");
    }
    // What is not saved yet can be tried.
    let answer = ask(json!({ "target": "example.net:22", "network": { "level": "full" } })).await;
    assert_eq!((answer.allowed, answer.rule.as_deref()), (true, Some("level full")));
    let bad = json!({ "target": "a.b", "network": { "level": "custom", "domains": ["*.co.uk"] } });
    let refused: Value = server.post(&path, &bad).await.is(400).json();
    assert_eq!(refused["code"], "bad_environment");
    assert!(refused["title"].as_str().unwrap().contains("`*.co.uk` is no domain"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_tells_by_its_exit_code() {
    let (_model, server) = server().await;
    web(&server).await;
    let said = server.cli(&["environments", "network-test", "web", "a.example.org"]).await.exits(0).text();
    assert_eq!(said.trim(), "web: a.example.org:443 is allowed, by the rule `environment: *.example.org`");
    let refused =
        server.cli(&["environments", "network-test", "WEB", "example.net", "--json"]).await.exits(1).json();
    assert_eq!((&refused["allowed"], &refused["reason"]), (&json!(false), &json!("not_allowed")));
    let by_default =
        server.cli(&["environments", "network-test", "x.evil.example.org"]).await.exits(1).text();
    assert!(by_default.contains("`admin deny list: *.evil.example.org`"), "{by_default}");
    let strict =
        ["environments", "edit", "web", "--rendering", "strict", "--domain", "a.example:443", "--json"];
    let edited = server.cli(&strict).await.exits(0).json();
    assert_eq!(edited["settings"]["rendering"], "strict");
    assert_eq!(edited["settings"]["network"]["domains"], json!(["a.example:443"]));
}
