//! What a session reaches, by the real proxy, in an internet of its own.

use std::collections::BTreeMap;

use protocol::egress::{AuditEvent, AuditRecord, NetworkPage};
use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::network::DenyReason;
use serde_json::{Value, json};
use testkit::harness::{Part, Repo, TestServer};
use testkit::internet::{Authority, Internet, Names, OWN, Origin, Sink, alone};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{check_log, completed, edit_default_environment, results, serve};

/// An internet with hosts that are allowed, one that is not, and a server beside it.
pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) names: Names,
    plain: Origin,
    secure: Origin,
    other: Origin,
    sink: Sink,
    authority: Authority,
    /// Answers as long as it is there.
    _model: ScriptedModel,
}

const CONFIG: &str = "[network]\nname_servers = [\"93.184.216.53\"]\n";

impl World {
    /// An internet, and a server whose model runs these commands in a session, one in each turn's step.
    pub(crate) async fn start(internet: Internet, commands: &[&str]) -> Self {
        let names = Names::serve(internet.packets("93.184.216.53:53"));
        for name in ["api.allowed.test", "deep.er.wild.test", "port.test"] {
            names.set(name, &["93.184.216.34", "2606:2800:220:1::34"]);
        }
        names.set("evil.test", &["93.184.216.66"]);
        let authority = Authority::make();
        let plain = Origin::plain(internet.listen("93.184.216.34:80"), "plain");
        let secure = Origin::tls(internet.listen("93.184.216.34:443"), "api.allowed.test", &authority);
        names.set("tunnel.test", &["93.184.216.35"]);
        let other = Origin::plain(internet.listen("93.184.216.35:8443"), "other");
        let sink = Sink::default();
        for port in [22, 53, 80, 443, 853, 5432, 8443] {
            sink.watch(internet.listen(&format!("93.184.216.66:{port}")));
            sink.watch(internet.listen(&format!("[2606:2800:220:1::66]:{port}")));
        }
        let turn = commands
            .iter()
            .fold(Turn::empty(), |turn, command| turn.and_tool("Bash", json!({ "command": command })));
        let model = ScriptedModel::start(Script::by_depth([turn, Turn::text("seen")])).await;
        let server = serve().model(&model).config(CONFIG).start().await;
        let this = Self { server, names, plain, secure, other, sink, authority, _model: model };
        let domains = ["api.allowed.test", "*.wild.test", "port.test:8443", "tunnel.test:8443"];
        this.level(json!({ "level": "custom", "domains": domains })).await;
        this
    }

    /// Sets the network level of the default environment.
    async fn level(&self, network: Value) {
        self.edit("network", network).await;
    }

    /// Changes one setting of the default environment.
    async fn edit(&self, setting: &str, to: Value) {
        edit_default_environment(&self.server, json!({ setting: to })).await.is(200);
    }

    /// From now on sandboxes have a kernel, and with it a network stack, of their own.
    async fn own_stack(&self) {
        self.edit("tier", json!({ "at_least": "gvisor" })).await;
    }

    /// Runs the commands, and gives the session with what each of them said.
    pub(crate) async fn run(&self) -> (SessionId, Vec<String>) {
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
    pub(crate) fn nothing_leaked(&self) {
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

/// Rows N01 to N14, N17 to N22, R07, T12, E02, E03, D01 to D09 of the escape matrix, from inside a sandbox.
#[test]
fn nothing_else_leaves_by_any_spelling() {
    alone(|internet| async move {
        let probe = include_str!("egress_probe.py");
        let world = World::start(
            internet,
            &[&format!("cat >/tmp/probe.py <<'END'\n{probe}\nEND\npython3 /tmp/probe.py")],
        )
        .await;
        let (session, said) = world.run().await;
        all_safe(&said[0]);
        world.nothing_leaked();
        assert_eq!(world.other.requests().len(), 1, "the greeting for another host never came there");
        let plain = world.plain.requests().concat();
        assert!(plain.contains("GET /body ") && plain.contains("words"), "{plain}");
        assert!(!plain.contains("BEHIND") && !plain.contains("/many"), "{plain}");
        // Every attempt is on record, and the record is whole.
        let page: Value =
            world.server.get(&format!("/sessions/{session}/network?limit=1000")).await.is(200).json();
        assert_eq!(page.get("broken_after"), None);
        let records = page["records"].as_array().unwrap();
        for reason in ["not_allowed", "bad_host", "bad_port", "raw_ip"] {
            assert!(records.iter().any(|record| record["reason"] == reason), "{reason}");
        }
        let listed = world.server.cli(&["sessions", "network", &session.to_string()]).await.exits(0);
        let listed = String::from_utf8_lossy(&listed.stdout);
        assert!(listed.contains("refused  evil.test:443, not_allowed"), "{listed}");
    });
}

/// Every line of the probe tells of a safe outcome.
fn all_safe(said: &str) {
    // After what the probe says stands what the network says.
    let of_probe = said.lines().filter(|line| !line.is_empty() && !line.starts_with("[network: "));
    let wrong: Vec<&str> = of_probe.filter(|line| !line.starts_with("ok ")).collect();
    assert!(wrong.is_empty() && said.lines().count() > 60, "{}\n{said}", wrong.join("\n"));
}

/// The rows above in the tier `gvisor`: the proxy answers as elsewhere, its death leaves the sandbox offline,
/// and past it there is nothing.
#[test]
fn a_stack_of_its_own_reaches_what_is_allowed_by_the_proxy_and_nothing_past_it() {
    alone(|internet| async move {
        let probe = include_str!("egress_probe.py");
        let commands = [
            "uname -r",
            "curl -sS --max-time 10 --cacert ca.pem https://api.allowed.test/one",
            "curl -sS --max-time 10 http://deep.er.wild.test/two",
            "curl -sS http://evil.test/ 2>&1",
            "env -i curl -sS --max-time 10 http://api.allowed.test/three 2>&1; true",
            &format!("cat >/tmp/probe.py <<'END'\n{probe}\nEND\nOWN_STACK=1 python3 /tmp/probe.py"),
            "touch /tmp/there; until [ -e /tmp/go ]; do sleep 0.1; done; curl -sS --max-time 10 --retry 20 --retry-all-errors --retry-delay 1 http://api.allowed.test/after",
        ];
        let world = World::start(internet, &commands).await;
        world.own_stack().await;
        let repo = Repo::with("net", &[("ca.pem", world.authority.pem.as_str())]);
        let session = world.server.create(&repo, "Try it").await;
        world.server.until(session, |events| results(events).len() == commands.len() - 1).await;
        world.server.kill_child(Part::Egress);
        let go = ["sessions", "shell", &session.to_string(), "--", "sh", "-c"].map(str::to_owned);
        let go: Vec<&str> = go.iter().map(String::as_str).chain(["touch /tmp/go"]).collect();
        world.server.cli(&go).await.exits(0);
        let events = world.server.until_rest(session, 1).await;
        completed(&events);
        let said: Vec<String> = results(&events).iter().map(|result| result.content.clone()).collect();
        let wanted = [
            "hello from api.allowed.test",
            "hello from plain",
            "evil.test:80 was refused",
            "Could not resolve host",
        ];
        let of_host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(!said[0].contains(of_host.trim()), "a kernel of its own: {}", said[0]);
        for ((command, said), wanted) in commands.iter().zip(&said).skip(1).zip(wanted) {
            assert!(said.contains(wanted), "{command}: {said}");
        }
        all_safe(&said[5]);
        assert!(said[6].contains("hello from plain"), "{}", said[6]);
        world.nothing_leaked();
        let denied = world.denials(session).await;
        assert_eq!(denied.get(&("evil.test".to_owned(), 443)), Some(&DenyReason::NotAllowed), "{denied:?}");
        let page: Value = world.server.get(&format!("/sessions/{session}/network")).await.is(200).json();
        assert_eq!(page.get("broken_after"), None, "the chain goes on over the death of egress");
    });
}

/// Row E08 of the escape matrix, and the promise that edits hold at once.
#[test]
fn a_sandbox_is_offline_while_egress_is_away_and_edits_end_open_connections() {
    alone(|internet| async move {
        let commands = [
            // A connection that stays open until somebody ends it.
            "exec 3<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT port.test:8443 HTTP/1.1\\r\\nHost: port.test:8443\\r\\n\\r\\n' >&3;
             head -c 12 <&3; echo; echo open >/workspace/net/open; cat <&3 >/dev/null; echo ended",
            "until [ -e /tmp/go ]; do sleep 0.1; done; curl -sS --max-time 10 --retry 20 --retry-all-errors --retry-delay 1 --cacert ca.pem https://api.allowed.test/after",
        ];
        let far = internet.listen("93.184.216.34:8443");
        let world = World::start(internet, &commands).await;
        let repo = Repo::with("net", &[("ca.pem", world.authority.pem.as_str())]);
        let session = world.server.create(&repo, "Try it").await;
        let (open, _) = far.accept().await.unwrap();
        // Its host goes from the list: the connection ends at once, and nothing new comes.
        let begun = std::time::Instant::now();
        world.level(json!({ "level": "custom", "domains": ["api.allowed.test"] })).await;
        let events = world.server.until(session, |events| results(events).len() == 1).await;
        println!("an open connection ended {:?} after the edit", begun.elapsed());
        assert!(results(&events)[0].content.contains("200"), "{}", results(&events)[0].content);
        assert!(results(&events)[0].content.ends_with("ended"));
        drop(open);
        world.server.kill_child(Part::Egress);
        world.server.cli(&["sessions", "shell", &session.to_string(), "--", "touch", "/tmp/go"]).await;
        let events = world.server.until_rest(session, 1).await;
        assert!(
            results(&events)[1].content.contains("hello from api.allowed.test"),
            "{}",
            results(&events)[1].content
        );
        let page: Value = world.server.get(&format!("/sessions/{session}/network")).await.is(200).json();
        assert_eq!(page.get("broken_after"), None, "the chain goes on over the death of egress");
        world.nothing_leaked();
    });
}

/// Rows N03 and H10 of the escape matrix: other settings change nothing about the network, and a host that
/// may be read from is asked by no other method.
#[test]
fn other_edits_open_nothing_and_hosts_to_read_from_take_no_other_methods() {
    alone(|internet| async move {
        // By its labels in reverse, as the included list has it.
        let registry = "org.npmjs.registry".rsplit('.').collect::<Vec<_>>().join(".");
        let ask = |method: &str| {
            format!("curl -sS -o /dev/null -D - --max-time 10 -X {method} http://{registry}/x | tr -d '\\r'")
        };
        let mut commands = vec![
            "touch /workspace/net/there".to_owned(),
            "until [ -e /tmp/go ]; do sleep 0.1; done; curl -sS http://evil.test/ 2>&1".to_owned(),
            "curl -sS http://api.allowed.test/".to_owned(),
        ];
        let reading = ["GET", "OPTIONS"];
        let other = ["get", "GETX", "PATCH", "POST", "PUT", "DELETE", "TRACE"];
        commands.extend(reading.iter().chain(&other).map(|method| ask(method)));
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let world = World::start(internet, &commands).await;
        world.names.set(&registry, &["93.184.216.34"]);
        let domains = ["api.allowed.test"];
        world.level(json!({ "level": "custom", "domains": domains, "include_default": true })).await;
        world.edit("rendering", json!("strict")).await;
        let repo = Repo::with("net", &[("ca.pem", world.authority.pem.as_str())]);
        let session = world.server.create(&repo, "Try it").await;
        world.server.until(session, |events| !results(events).is_empty()).await;
        world.edit("setup_script", json!("true")).await;
        world
            .server
            .cli(&["sessions", "shell", &session.to_string(), "--", "touch", "/tmp/go"])
            .await
            .exits(0);
        let events = world.server.until_rest(session, 1).await;
        let said: Vec<String> = results(&events).iter().map(|result| result.content.clone()).collect();
        assert!(said[1].contains("evil.test:80 was refused"), "{}", said[1]);
        assert!(said[2].contains("hello from plain"), "{}", said[2]);
        for (method, said) in reading.iter().chain(&other).zip(&said[3..]) {
            let passed = said.contains(" 200 ");
            assert_eq!(passed, reading.contains(method), "{method}: {said}");
            assert!(passed || said.contains("x-deny-reason: method"), "{method}: {said}");
        }
        world.nothing_leaked();
        assert_eq!(world.plain.requests().len(), 1 + reading.len());
    });
}

/// Rows X02, X03, X04 and X06 of the escape matrix, with an account of a stranger: refused where such hosts may
/// be read only; where they may be used for everything, the record says so.
#[test]
fn what_strangers_can_write_to_is_only_read_or_on_record() {
    // By their labels in reverse, as the included list has them: snippets, a repository, a package, an event.
    let writes = [
        ("com.github.api", "POST", "/gists"),
        ("com.github", "POST", "/stranger/r.git/git-receive-pack"),
        ("org.npmjs.registry", "PUT", "/stranger-package"),
        ("io.sentry.o1.ingest", "POST", "/api/1/store/"),
    ];
    alone(move |internet| async move {
        let host = |reversed: &str| reversed.rsplit('.').collect::<Vec<_>>().join(".");
        let ask = |(reversed, method, path): &(&str, &str, &str)| {
            let host = host(reversed);
            format!("curl -sS --max-time 10 -u stranger:token -X {method} -d data http://{host}{path} 2>&1")
        };
        let mut commands: Vec<String> = writes.iter().map(ask).collect();
        commands.push("curl -sS http://api.allowed.test/ 2>&1".into());
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let world = World::start(internet, &commands).await;
        for (reversed, ..) in &writes {
            world.names.set(&host(reversed), &["93.184.216.34"]);
        }
        world
            .level(json!({ "level": "custom", "domains": ["api.allowed.test"], "include_default": true }))
            .await;
        let on_record = async |session: SessionId| {
            let page: NetworkPage =
                world.server.get(&format!("/sessions/{session}/network?limit=1000")).await.is(200).json();
            let lenient = |record: AuditRecord| match record.what {
                AuditEvent::Decided(decided) if decided.lenient => Some(decided.host),
                _ => None,
            };
            page.records.into_iter().filter_map(lenient).collect::<Vec<_>>()
        };
        let (compatible, said) = world.run().await;
        assert!(said.iter().all(|said| said.contains("hello from plain")), "{said:?}");
        let wanted: Vec<String> = writes.iter().map(|(reversed, ..)| host(reversed)).collect();
        assert_eq!(on_record(compatible).await, wanted);
        let told = world.server.cli(&["sessions", "network", &compatible.to_string()]).await.text();
        assert_eq!(told.matches("strangers can write there").count(), writes.len(), "{told}");
        let before = world.plain.requests().len();

        world.edit("rendering", json!("strict")).await;
        let (strict, said) = world.run().await;
        let (last, refused) = said.split_last().unwrap();
        assert!(refused.iter().all(|said| said.contains("may be read only")), "{refused:?}");
        assert!(last.contains("hello from plain"), "{last}");
        assert_eq!(world.plain.requests().len(), before + 1);
        assert!(on_record(strict).await.is_empty());
    });
}

/// Rows R01 to R06, R08, R10, R11, R15 of the escape matrix: names that are allowed, with addresses that are not.
#[test]
fn allowed_names_reach_public_addresses_only() {
    let bad = [
        ("r01", "127.0.0.1", "addr_loopback"),
        ("r01b", "127.9.9.9", "addr_loopback"),
        ("r02", "10.0.0.1", "addr_private"),
        ("r02b", "172.16.0.1", "addr_private"),
        ("r02c", "192.168.0.1", "addr_private"),
        ("r02d", "100.64.0.1", "addr_private"),
        ("r03", "169.254.169.254", "addr_metadata"),
        ("r04", "0.0.0.0", "addr_reserved"),
        ("r04b", "::", "addr_reserved"),
        ("r05", "::1", "addr_loopback"),
        ("r05b", "fc00::1", "addr_private"),
        ("r05c", "fe80::1", "addr_linklocal"),
        ("r05d", "ff02::1", "addr_reserved"),
        ("r06", "::ffff:127.0.0.1", "addr_loopback"),
        ("r15", OWN, "addr_self"),
        ("r14", "none", "dns_error"),
    ];
    alone(move |internet| async move {
        let ask = |name: &str| {
            format!("curl -sS -o /dev/null -D - --max-time 10 http://{name}.wild.test/ | tr -d '\\r'")
        };
        let mut commands: Vec<String> = bad.iter().map(|(name, ..)| ask(name)).collect();
        // One good address among bad ones is a game that somebody plays.
        commands.push(ask("mixed"));
        // What the sandbox itself believes of a name counts for nothing.
        commands.push("echo '93.184.216.66 api.allowed.test' >>/etc/hosts; curl -sS --max-time 10 http://api.allowed.test/".into());
        for name in ["localhost", "x.localhost", "host.docker.internal", "db.internal", "printer.local"] {
            commands.push(format!("curl -sS -o /dev/null -D - --noproxy '' --max-time 10 http://{name}/ -x http://127.0.0.1:3128 | tr -d '\\r'"));
        }
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let world = World::start(internet, &commands).await;
        for (name, address, _) in bad {
            world.names.set(&format!("{name}.wild.test"), &[address]);
        }
        world.names.set("mixed.wild.test", &["93.184.216.34", "10.0.0.1"]);
        let (_, said) = world.run().await;
        for ((name, address, reason), said) in bad.iter().zip(&said) {
            assert!(said.contains(&format!("x-deny-reason: {reason}")), "{name} {address}: {said}");
        }
        assert!(said[bad.len()].contains("x-deny-reason: addr_private"), "{}", said[bad.len()]);
        assert!(said[bad.len() + 1].contains("hello from plain"), "{}", said[bad.len() + 1]);
        for said in &said[bad.len() + 2..] {
            assert!(said.contains("x-deny-reason: addr_"), "{said}");
        }
        world.nothing_leaked();
    });
}
