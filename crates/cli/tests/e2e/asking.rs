//! A person decides about what a session was refused: by the command line and the API, in an internet of
//! its own.

use protocol::event::{Event, EventBody, NetworkAllowed, NetworkDenied};
use protocol::ids::SessionId;
use protocol::network::{DenyReason, NetworkScope};
use serde_json::{Value, json};
use testkit::harness::{Part, Repo, TestServer};
use testkit::internet::{Internet, Names, Origin, alone};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{
    bash, check_log, completed, default_environment, edit_default_environment, results, serve,
};

/// An internet with a host that no rule names, and a server beside it.
struct World {
    server: TestServer,
    evil: Origin,
    _names: Names,
    /// Answers as long as it is there.
    _model: ScriptedModel,
}

const CONFIG: &str = "[network]\nname_servers = [\"93.184.216.53\"]\ndeny = [\"closed.test\"]\n";

impl World {
    async fn start(internet: Internet) -> Self {
        let names = Names::serve(internet.packets("93.184.216.53:53"));
        for name in ["evil.test", "other.test", "closed.test"] {
            names.set(name, &["93.184.216.66"]);
        }
        let evil = Origin::plain(internet.listen("93.184.216.66:80"), "evil");
        let model = ScriptedModel::start(Script::by_depth([Turn::text("ready"), Turn::text("again")])).await;
        let server = serve().model(&model).config(CONFIG).start().await;
        let this = Self { server, evil, _names: names, _model: model };
        this.level(json!({ "level": "trusted" })).await;
        this
    }

    async fn level(&self, network: Value) {
        edit_default_environment(&self.server, json!({ "network": network })).await.is(200);
    }

    /// A session with a sandbox that waits.
    async fn session(&self) -> SessionId {
        let repo = Repo::with("net", &[("README.md", "a net\n")]);
        let session = self.server.create(&repo, "Get ready").await;
        completed(&self.server.until_rest(session, 1).await);
        session
    }

    /// What a command says in a session's sandbox.
    async fn says(&self, session: SessionId, command: &str) -> String {
        let session = session.to_string();
        let said = self.server.cli(&["sessions", "shell", &session, "--", "sh", "-c", command]).await;
        said.text()
    }

    /// Whether a session reaches a host.
    async fn reaches(&self, session: SessionId, host: &str) -> bool {
        let said = self.says(session, &format!("curl -sS --max-time 10 http://{host}/ 2>&1")).await;
        assert!(said.contains("hello from evil") != said.contains("was refused"), "{said}");
        said.contains("hello from evil")
    }

    /// The command line's word about a host; its exit code, and what it says.
    async fn word(&self, session: SessionId, word: &str, more: &[&str]) -> (i32, String) {
        let session = session.to_string();
        let mut args = vec!["sessions", word, session.as_str()];
        args.extend(more);
        let done = self.server.cli(&args).await;
        let text = done.text() + &done.stderr;
        (done.code.unwrap(), text)
    }

    /// Allows or denies.
    async fn decide(&self, session: SessionId, word: &str, more: &[&str]) -> String {
        let (code, text) = self.word(session, word, more).await;
        assert_eq!(code, 0, "{text}");
        text
    }

    /// Waits for so many refusals that a person is asked about.
    async fn asked(&self, session: SessionId, count: usize) -> Vec<NetworkDenied> {
        let all = |events: &[Event]| -> Vec<NetworkDenied> {
            let told = events.iter().filter_map(|event| match &event.body {
                EventBody::NetworkDenied(denied) if denied.askable => Some(denied.clone()),
                _ => None,
            });
            told.collect()
        };
        all(&self.server.until(session, |events| all(events).len() >= count).await)
    }

    async fn decided(&self, session: SessionId) -> Vec<NetworkAllowed> {
        let (events, _) = check_log(&self.server, session).await;
        let decided = events.iter().filter_map(|event| match &event.body {
            EventBody::NetworkAllowed(decided) => Some(decided.clone()),
            _ => None,
        });
        decided.collect()
    }
}

fn decided(host: &str, scope: NetworkScope) -> NetworkAllowed {
    NetworkAllowed { host: host.into(), port: 80, scope }
}

#[test]
fn what_is_allowed_for_a_session_holds_for_it_alone_and_over_every_death() {
    alone(|internet| async move {
        let mut world = World::start(internet).await;
        let (session, other) = (world.session().await, world.session().await);
        assert!(!world.reaches(session, "evil.test").await);
        let asked = world.asked(session, 1).await;
        assert_eq!(
            (asked[0].host.as_str(), asked[0].port, asked[0].reason),
            ("evil.test", 80, DenyReason::NotAllowed)
        );
        let said = world.decide(session, "allow", &["evil.test:80"]).await;
        assert!(
            said.contains("evil.test:80 is allowed, by the rule `allowed for this session: evil.test:80`"),
            "{said}"
        );
        assert!(world.reaches(session, "evil.test").await);
        assert!(!world.reaches(session, "other.test").await);
        assert!(!world.reaches(other, "evil.test").await);
        // Again is nothing new.
        world.decide(session, "allow", &["EVIL.test.:80", "--session"]).await;
        assert_eq!(world.decided(session).await, [decided("evil.test", NetworkScope::Session)]);
        world.server.kill_child(Part::Egress);
        world.reaches_after(session, "egress died").await;
        world.server.kill(Part::Server).await;
        world.server.until_rest(session, 1).await;
        world.reaches_after(session, "the server died").await;
        assert!(!world.reaches(other, "evil.test").await);
        world.server.kill(Part::Supervisor).await;
        world.server.start_again().await;
        world.server.prompt(session, "Once more").await;
        completed(&world.server.until_rest(session, 2).await);
        world.reaches_after(session, "the sandbox is another one").await;
        // And a denial takes it back.
        world.decide(session, "deny", &["evil.test:80"]).await;
        assert!(!world.reaches(session, "evil.test").await);
    });
}

impl World {
    /// Sees to it that a session reaches its host as soon as it has a network again.
    async fn reaches_after(&self, session: SessionId, what: &str) {
        let command = "curl -sS --max-time 10 --retry 30 --retry-connrefused --retry-all-errors --retry-delay 1 http://evil.test/ 2>&1";
        let said = self.says(session, command).await;
        assert!(said.contains("hello from evil"), "{what}: {said}");
    }
}

#[test]
fn what_is_allowed_once_is_one_connection() {
    alone(|internet| async move {
        let world = World::start(internet).await;
        let session = world.session().await;
        assert!(!world.reaches(session, "evil.test").await);
        let said = world.decide(session, "allow", &["evil.test:80", "--once"]).await;
        assert!(said.contains("one connection to evil.test:80 passes"), "{said}");
        let ten =
            "for i in 1 2 3 4 5 6 7 8 9 10; do curl -sS --max-time 10 http://evil.test/$i 2>&1 & done; wait";
        let said = world.says(session, ten).await;
        assert_eq!(said.matches("hello from evil").count(), 1, "{said}");
        assert_eq!(said.matches("evil.test:80 was refused").count(), 9, "{said}");
        assert_eq!(world.evil.requests().len(), 1);
        assert!(!world.reaches(session, "evil.test").await);
        // Whoever decided hears of it again.
        world.asked(session, 2).await;
        assert_eq!(world.decided(session).await, [decided("evil.test", NetworkScope::Once)]);
        let page: Value =
            world.server.get(&format!("/sessions/{session}/network?limit=1000")).await.is(200).json();
        let records = page["records"].as_array().unwrap();
        assert_eq!(records.iter().filter(|record| record["rule"] == "allowed once").count(), 1);
    });
}

#[test]
fn what_joins_the_environment_holds_for_all_its_sessions() {
    alone(|internet| async move {
        let world = World::start(internet).await;
        let (session, other) = (world.session().await, world.session().await);
        assert!(!world.reaches(session, "evil.test").await && !world.reaches(other, "evil.test").await);
        let said = world.decide(session, "allow", &["evil.test:80", "--environment", "--json"]).await;
        let now: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&now["allowed"], &now["rule"]), (&json!(true), &json!("environment: evil.test")));
        let network = default_environment(&world.server).await["settings"]["network"].clone();
        assert_eq!(network, json!({ "level": "custom", "domains": ["evil.test"], "include_default": true }));
        assert!(world.reaches(session, "evil.test").await);
        assert!(world.reaches(other, "evil.test").await);
        let third = world.session().await;
        assert!(world.reaches(third, "evil.test").await);
        // A denial is for one session.
        world.decide(session, "deny", &["evil.test:80"]).await;
        assert!(!world.reaches(session, "evil.test").await);
        assert!(world.reaches(third, "evil.test").await);
        let (code, said) = world.word(session, "allow", &["evil.test:80", "--once"]).await;
        assert!(code == 1 && said.contains("was denied for this session"), "{code}: {said}");
        world.decide(session, "allow", &["evil.test:80"]).await;
        assert!(world.reaches(session, "evil.test").await);
        let scopes = [NetworkScope::Environment, NetworkScope::Deny, NetworkScope::Session];
        assert_eq!(world.decided(session).await, scopes.map(|scope| decided("evil.test", scope)));
    });
}

#[test]
fn what_is_closed_cannot_be_asked_away() {
    alone(|internet| async move {
        let world = World::start(internet).await;
        let session = world.session().await;
        for (place, wanted) in [
            ("closed.test:80", "closed.test:80 cannot be allowed here"),
            ("127.0.0.1:80", "127.0.0.1:80 cannot be allowed here"),
            ("169.254.169.254:80", "cannot be allowed here"),
            ("10.1.2.3:443", "cannot be allowed here"),
            ("metadata.google.internal:80", "cannot be allowed here"),
            ("evil..test", "this is no host"),
            ("*.test", "this is no host"),
        ] {
            for scope in ["--once", "--session", "--environment"] {
                let (code, said) = world.word(session, "allow", &[place, scope]).await;
                assert!(code == 1 && said.contains(wanted), "{place}: {code} {said}");
            }
        }
        assert!(!world.reaches(session, "closed.test").await);
        let path = format!("/sessions/{session}/network");
        let closed = json!({ "host": "closed.test", "port": 80, "decision": "session" });
        world.server.post(&path, &closed).await.is_problem(409, "not_askable");
        let bad = json!({ "host": "a/b", "port": 80, "decision": "session" });
        world.server.post(&path, &bad).await.is_problem(400, "bad_host");
        let (code, said) = world.word(session, "allow", &["2001:db8::1"]).await;
        assert!(code == 2 && said.contains("in brackets"), "{code}: {said}");
        world.level(json!({ "level": "none" })).await;
        let evil = json!({ "host": "evil.test", "port": 80, "decision": "once" });
        world.server.post(&path, &evil).await.is_problem(409, "no_network");
        assert_eq!(world.decided(session).await, []);
        assert_eq!(world.evil.requests().len(), 0);
    });
}

#[test]
fn the_agent_reads_what_was_refused_while_its_command_ran() {
    alone(|internet| async move {
        let names = Names::serve(internet.packets("93.184.216.53:53"));
        names.set("evil.test", &["93.184.216.66"]);
        // It waits for the session to know of it.
        let command =
            "curl -s http://evil.test/ >/dev/null; until [ -e /tmp/go ]; do sleep 0.05; done; echo over";
        let turns = [bash(command), bash("echo quiet"), Turn::text("seen")];
        let model = ScriptedModel::start(Script::by_depth(turns)).await;
        let server = serve().model(&model).config(CONFIG).start().await;
        let repo = Repo::with("net", &[("README.md", "a net\n")]);
        let session = server.create(&repo, "Try it").await;
        let told = |event: &Event| matches!(event.body, EventBody::NetworkDenied(_));
        server.until(session, |events| events.iter().any(told)).await;
        server.cli(&["sessions", "shell", &session.to_string(), "--", "touch", "/tmp/go"]).await.exits(0);
        let events = server.until_rest(session, 1).await;
        let said: Vec<&str> = results(&events).iter().map(|result| result.content.trim()).collect();
        let wanted = "over\n[network: evil.test:80 was refused (not_allowed); whoever watches can allow it]";
        assert_eq!(
            said[0].split('\n').filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"),
            wanted
        );
        assert_eq!(said[1], "quiet");
        model.assert_clean();
    });
}
