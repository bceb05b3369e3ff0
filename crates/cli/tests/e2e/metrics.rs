//! What the server counts, for who watches it.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Repo, TestServer};
use testkit::internet::{Names, Origin, alone};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{completed, results, serve};

/// All samples; also whether each has a family before it, and is a number.
async fn samples(server: &TestServer) -> BTreeMap<String, u64> {
    let request = server.anonymous(Method::GET, "/metrics").bearer_auth(&server.token);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(!text.contains(".test"), "no host is named: {text}");
    let mut family = "";
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("patchyard_") && name.split('{').next() == Some(family), "{line}");
            assert!(found.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    found
}

fn decisions(decision: &str, reason: &str) -> String {
    format!("patchyard_egress_decisions_total{{decision=\"{decision}\",reason=\"{reason}\"}}")
}

#[test]
fn decisions_bytes_and_sessions_are_counted() {
    alone(|internet| async move {
        let names = Names::serve(internet.packets("93.184.216.53:53"));
        names.set("api.allowed.test", &["93.184.216.34"]);
        let _plain = Origin::plain(internet.listen("93.184.216.34:80"), "plain");
        let command = "curl -sS --max-time 20 http://api.allowed.test/one; curl -sS http://api.allowed.test/two; \
                       for n in 1 2 3; do curl -sS http://evil.test/ >/dev/null; done; curl -sS http://169.254.169.254/; true";
        let turn = Turn::empty().and_tool("Bash", json!({ "command": command }));
        let model = ScriptedModel::start(Script::by_depth([turn, Turn::text("seen")])).await;
        let config = "[network]\nname_servers = [\"93.184.216.53\"]\nallow = [\"api.allowed.test\"]\n";
        let server = serve().model(&model).config(config).start().await;
        let before = samples(&server).await;
        assert_eq!(before["patchyard_egress_up"], 1);
        assert_eq!(before[&decisions("denied", "rate")], 0, "what did not happen is there as well");
        let session = server.create(&Repo::with("net", &[]), "Try it").await;
        let events = server.until_rest(session, 1).await;
        completed(&events);
        assert_eq!(results(&events)[0].content.matches("hello from plain").count(), 2);
        let after = samples(&server).await;
        assert_eq!(after[&decisions("allowed", "")], 2);
        assert_eq!(after[&decisions("denied", "not_allowed")], 3);
        assert_eq!(after[&decisions("denied", "addr_metadata")], 1);
        assert!(after["patchyard_egress_bytes_total{direction=\"down\"}"] >= 2 * 17);
        assert!(after["patchyard_egress_bytes_total{direction=\"up\"}"] > 60);
        assert_eq!(after["patchyard_egress_connections_open"], 0);
        assert!(after["patchyard_egress_sandboxes"] >= 1);
        assert_eq!(after["patchyard_sessions{archived=\"false\"}"], 1);
        assert_eq!(after["patchyard_session_drivers"], 1);
        assert_eq!(after.len(), before.len(), "what happens makes no further series");
        let archive: Value = json!({ "archived": true });
        server.post(&format!("/sessions/{session}/archive"), &archive).await.is(200);
        let archived = samples(&server).await;
        assert_eq!(archived["patchyard_sessions{archived=\"true\"}"], 1);
        assert_eq!(archived["patchyard_sessions{archived=\"false\"}"], 0);
        for secret in [None, Some("pyt_wrong")] {
            let request = server.anonymous(Method::GET, "/metrics");
            let request = secret.into_iter().fold(request, |request, secret| request.bearer_auth(secret));
            Answer::to(request).await.is_problem(401, "not_signed_in");
        }
    });
}
