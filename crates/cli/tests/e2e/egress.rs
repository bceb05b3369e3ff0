//! What a session reaches, by the real proxy, in an internet of its own.

use std::collections::BTreeMap;

use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::network::DenyReason;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Repo, TestServer};
use testkit::internet::{Authority, Internet, Names, Origin, Sink, alone};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{check_log, completed, results, serve};

/// An internet with hosts that are allowed, one that is not, and a server beside it.
struct World {
    server: TestServer,
    names: Names,
    plain: Origin,
    secure: Origin,
    sink: Sink,
    authority: Authority,
    /// Answers as long as it is there.
    _model: ScriptedModel,
}

const CONFIG: &str = "[network]\nname_servers = [\"93.184.216.53\"]\n";

impl World {
    /// An internet, and a server whose model runs these commands in a session, one in each turn's step.
    async fn start(internet: Internet, commands: &[&str]) -> Self {
        let names = Names::serve(internet.packets("93.184.216.53:53"));
        for name in ["api.allowed.test", "deep.er.wild.test", "port.test"] {
            names.set(name, &["93.184.216.34", "2606:2800:220:1::34"]);
        }
        names.set("evil.test", &["93.184.216.66"]);
        let authority = Authority::make();
        let plain = Origin::plain(internet.listen("93.184.216.34:80"), "plain");
        let secure = Origin::tls(internet.listen("93.184.216.34:443"), "api.allowed.test", &authority);
        let sink = Sink::default();
        for port in [22, 53, 80, 443, 5432, 8443] {
            sink.watch(internet.listen(&format!("93.184.216.66:{port}")));
            sink.watch(internet.listen(&format!("[2606:2800:220:1::66]:{port}")));
        }
        let turn = commands
            .iter()
            .fold(Turn::empty(), |turn, command| turn.and_tool("Bash", json!({ "command": command })));
        let model = ScriptedModel::start(Script::by_depth([turn, Turn::text("seen")])).await;
        let server = serve().model(&model).config(CONFIG).start().await;
        let this = Self { server, names, plain, secure, sink, authority, _model: model };
        let domains = ["api.allowed.test", "*.wild.test", "port.test:8443"];
        this.level(json!({ "level": "custom", "domains": domains })).await;
        this
    }

    /// Sets the network level of the default environment.
    async fn level(&self, network: Value) {
        let all: Value = self.server.get("/environments").await.is(200).json();
        let usual = &all["environments"][0];
        let mut settings = usual["settings"].clone();
        settings["network"] = network;
        let edit = json!({ "revision": usual["revision"], "settings": settings });
        let path = format!("/environments/{}", usual["id"].as_str().unwrap());
        Answer::to(self.server.request(Method::PUT, &path).json(&edit)).await.is(200);
    }

    /// Runs the commands, and gives the session with what each of them said.
    async fn run(&self) -> (SessionId, Vec<String>) {
        let repo = Repo::with("net", &[("ca.pem", self.authority.pem.as_str())]);
        let session = self.server.create(&repo, "Try it").await;
        let events = self.server.until_rest(session, 1).await;
        completed(&events);
        check_log(&self.server, session).await;
        (session, results(&events).iter().map(|result| result.content.clone()).collect())
    }

    async fn denials(&self, session: SessionId) -> BTreeMap<(String, u16), DenyReason> {
        let told = |event: &Event| match &event.body {
            EventBody::NetworkDenied(denied) => Some(((denied.host.clone(), denied.port), denied.reason)),
            _ => None,
        };
        self.server.events(session).await.iter().filter_map(told).collect()
    }

    /// Nothing reached what nothing may reach, and no name of it was asked for.
    fn nothing_leaked(&self) {
        assert_eq!(self.sink.reached(), 0);
        let asked = self.names.asked();
        assert!(!asked.iter().any(|name| name.contains("evil")), "{asked:?}");
    }
}

/// Positive controls C1 and C2 of the escape matrix, and rows N01, N10, E01.
#[test]
fn allowed_hosts_answer_with_and_without_the_proxys_variables() {
    alone(|internet| async move {
        let commands = [
            "curl -sS --max-time 10 --cacert ca.pem https://api.allowed.test/one",
            "curl -sS --max-time 10 http://api.allowed.test/two",
            "curl -sS --max-time 10 http://deep.er.wild.test/three",
            "curl -sS --max-time 10 --cacert ca.pem --socks5-hostname 127.0.0.1:3128 https://api.allowed.test/four",
            "env -i curl -sS --max-time 10 --cacert ca.pem https://api.allowed.test/five",
            "env -i curl -sS --max-time 10 http://api.allowed.test/six -d upload",
            "env -i curl -6 -sS --max-time 10 --cacert ca.pem https://api.allowed.test/seven",
            "curl -sS https://evil.test/ 2>&1",
            "curl -sS http://evil.test/ 2>&1",
            "env -i curl -sS http://evil.test/ 2>&1",
            "env -i curl -sS --max-time 10 https://evil.test/ 2>&1",
        ];
        let world = World::start(internet, &commands).await;
        let (session, said) = world.run().await;
        let wanted = [
            "hello from api.allowed.test",
            "hello from plain",
            "hello from plain",
            "hello from api.allowed.test",
            "hello from api.allowed.test",
            "hello from plain",
            "hello from api.allowed.test",
            "CONNECT tunnel failed, response 403",
            "evil.test:80 was refused",
            "evil.test:80 was refused",
            "access denied",
        ];
        for ((command, said), wanted) in commands.iter().zip(&said).zip(wanted) {
            assert!(said.contains(wanted), "{command}: {said}");
        }
        world.nothing_leaked();
        assert_eq!((world.plain.requests().len(), world.secure.requests().len()), (3, 4));
        let wanted = [443, 80].map(|port| (("evil.test".to_owned(), port), DenyReason::NotAllowed));
        assert_eq!(world.denials(session).await, BTreeMap::from(wanted));
    });
}
