//! What a command reaches, through the real proxy, in an internet of its own.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testkit::internet::{Authority, Internet, Names, Origin, Sink, alone};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Said, Who, World, everybody};

const SERVER: &str = "93.184.216.53";

/// Hosts that answer, and one that nothing may reach.
struct Net {
    names: Names,
    plain: Origin,
    sink: Sink,
    authority: Authority,
}

impl Net {
    fn make(internet: &Internet) -> Self {
        let names = Names::serve(internet.packets(&format!("{SERVER}:53")));
        for name in ["api.allowed.test", "deep.er.wild.test"] {
            names.set(name, &["93.184.216.34", "2606:2800:220:1::34"]);
        }
        names.set("evil.test", &["93.184.216.66"]);
        names.set("inner.wild.test", &["10.99.0.1"]);
        let authority = Authority::make();
        let plain = Origin::plain(internet.listen("93.184.216.34:80"), "plain");
        let _ = Origin::tls(internet.listen("93.184.216.34:443"), "api.allowed.test", &authority);
        let sink = Sink::default();
        for address in ["93.184.216.66:80", "93.184.216.66:443", "[2606:2800:220:1::66]:443"] {
            sink.watch(internet.listen(address));
        }
        Self { names, plain, sink, authority }
    }

    fn world(&self, who: Who) -> World {
        let world = World::asking(who, SERVER);
        world.write("project/ca.pem", &self.authority.pem);
        world
    }

    fn nothing_leaked(&self) {
        assert_eq!(self.sink.reached(), 0);
        let asked = self.names.asked();
        assert!(!asked.iter().any(|name| name.contains("evil")), "{asked:?}");
    }
}

fn network(network: &Value) -> Value {
    json!({ "sandbox": { "network": network } })
}

/// While it runs, the internet answers.
async fn output(command: Command) -> Said {
    Said(tokio::process::Command::from(command).output().await.unwrap())
}

const CURL: &str = "curl -sS --max-time 20 --cacert ca.pem";

#[test]
fn hosts_that_are_allowed_answer_and_all_others_are_refused_in_the_same_words() {
    alone(|internet| async move {
        let net = Net::make(&internet);
        for who in everybody() {
            let world = net.world(who);
            let settings = network(&json!({
                "allowedDomains": ["api.allowed.test", "*.wild.test"], "deniedDomains": ["bad.wild.test"] }));
            let script = format!(
                "{CURL} https://api.allowed.test/one; env -i {CURL} https://api.allowed.test/two; \
                 {CURL} http://deep.er.wild.test/three; env -i {CURL} -6 http://deep.er.wild.test/four; \
                 {CURL} --socks5-hostname 127.0.0.1:3128 http://api.allowed.test/five; \
                 getent hosts evil.test | cut -d: -f1; \
                 {CURL} -i http://evil.test/; {CURL} http://bad.wild.test/; {CURL} http://inner.wild.test/; \
                 {CURL} https://evil.test/ 2>&1; env -i {CURL} https://evil.test/ 2>&1; \
                 {CURL} http://93.184.216.66/; {CURL} --noproxy x http://localhost:80/; echo $HTTPS_PROXY $no_proxy; exit 0"
            );
            let mut command = world.given(&settings, &script);
            command.env("HTTPS_PROXY", "http://192.0.2.1:1");
            let said = output(command).await;
            let out = said.out();
            let mut rest = out.as_str();
            for words in [
                "hello from api.allowed.test\nhello from api.allowed.test\nhello from plain\nhello from plain\n",
                "hello from plain\nfd7a\n",
                "HTTP/1.1 403 Forbidden\r\n",
                "x-deny-reason: not_allowed\r\n",
                "patchyard: evil.test:80 was refused: no rule of this session allows the host",
                "patchyard: bad.wild.test:80 was refused (denied for this session: bad.wild.test): the host is on a list",
                "patchyard: inner.wild.test:80 was refused (allowed for this session: *.wild.test): the host is in a private",
                "CONNECT tunnel failed, response 403",
                "access denied",
                "patchyard: 93.184.216.66:80 was refused",
                "the machine that runs the proxy itself",
                "http://127.0.0.1:3128 localhost,127.0.0.1,::1\n",
            ] {
                let at = rest
                    .find(words)
                    .unwrap_or_else(|| panic!("{who:?}: no {words:?} in {out}\n{}", said.err()));
                rest = &rest[at + words.len()..];
            }
            for told in ["refused evil.test:80: not_allowed", "refused bad.wild.test:80: denylist"] {
                assert_eq!(said.err().matches(told).count(), 1, "{who:?}: {}", said.err());
            }
            net.nothing_leaked();
        }
        assert_eq!(net.plain.requests().len(), 3 * everybody().len());
    });
}

#[test]
fn permission_rules_name_hosts_too_and_a_repository_opens_none() {
    alone(|internet| async move {
        let net = Net::make(&internet);
        for who in everybody() {
            let world = net.world(who);
            let user = json!({ "permissions": {
                "allow": ["WebFetch(domain:api.allowed.test)", "WebFetch(domain:*.wild.test)"],
                "ask": ["WebFetch(domain:deep.er.wild.test)"] } });
            world.write("home/.claude/settings.json", &user.to_string());
            let project = json!({ "permissions": { "allow": ["WebFetch(domain:evil.test)"],
                "deny": ["WebFetch(domain:bad.wild.test)"] },
                "sandbox": { "network": { "allowedDomains": ["*"], "httpProxyPort": 1 } } });
            world.write("project/.claude/settings.json", &project.to_string());
            let mut command = world.sandbox();
            let script = format!(
                "for host in api.allowed.test deep.er.wild.test bad.wild.test evil.test; do \
                 {CURL} http://$host/ | head -1 | cut -c-100; done"
            );
            command.args(["--", "sh", "-c", &script]);
            let said = output(command).await;
            let lines: Vec<String> = said.out().lines().map(str::to_owned).collect();
            assert_eq!(lines[0], "hello from plain", "{who:?}: {}", said.err());
            // Nobody is there to ask.
            assert!(
                lines[1].contains("refused (denied for this session: deep.er.wild.test)"),
                "{}",
                lines[1]
            );
            assert!(lines[2].contains("refused (denied for this session: bad.wild.test)"), "{}", lines[2]);
            assert!(lines[3].contains("evil.test:80 was refused: no rule"), "{}", lines[3]);
            for key in ["allowedDomains", "httpProxyPort"] {
                assert!(said.err().contains(key), "{key} is told: {}", said.err());
            }
            net.nothing_leaked();
        }
    });
}

/// A proxy of the person's own: it notes what it is asked for, and answers by itself.
fn own_proxy(listener: TcpListener, speaks_socks: bool) -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (noted, notes) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let noted = noted.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let wanted =
                    if speaks_socks { by_socks(&mut stream).await } else { by_http(&mut stream).await };
                let _ = noted.send(wanted);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|length| length > 2) {
                    line.clear();
                }
                let said = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\nfrom beyond\n";
                let _ = stream.write_all(said.as_bytes()).await;
            });
        }
    });
    notes
}

async fn by_http(stream: &mut BufReader<TcpStream>) -> String {
    let (mut first, mut line) = (String::new(), String::new());
    stream.read_line(&mut first).await.unwrap();
    while stream.read_line(&mut line).await.unwrap() > 2 {
        line.clear();
    }
    stream.write_all(b"HTTP/1.0 200 Fine\r\nvia: x\r\n\r\n").await.unwrap();
    first.trim().to_owned()
}

async fn by_socks(stream: &mut BufReader<TcpStream>) -> String {
    let mut greeting = [0; 3];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [5, 1, 0]);
    stream.write_all(&[5, 0]).await.unwrap();
    let mut request = [0; 5];
    stream.read_exact(&mut request).await.unwrap();
    let mut rest = vec![0; usize::from(request[4]) + 2];
    stream.read_exact(&mut rest).await.unwrap();
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let (name, port) = rest.split_at(rest.len() - 2);
    format!("{}:{}", String::from_utf8_lossy(name), u16::from_be_bytes([port[0], port[1]]))
}

#[test]
fn ones_own_proxies_are_gone_through_by_what_is_allowed() {
    alone(|internet| async move {
        let net = Net::make(&internet);
        for who in everybody() {
            let world = net.world(who);
            let (http, socks) = (
                TcpListener::bind("127.0.0.1:0").await.unwrap(),
                TcpListener::bind("127.0.0.1:0").await.unwrap(),
            );
            let ports = [&http, &socks].map(|listener| listener.local_addr().unwrap().port());
            let (mut http, mut socks) = (own_proxy(http, false), own_proxy(socks, true));
            let script = "curl -sS --max-time 20 http://far.test/; env -i curl -sS --max-time 20 http://far.test:8080/; \
                          curl -sS --max-time 20 http://evil.test/ | head -1 | cut -c-40";
            let domains = json!(["far.test", "far.test:8080"]);
            for (settings, first, second) in [
                (json!({ "httpProxyPort": ports[0], "allowedDomains": domains }), "http", "http"),
                (json!({ "socksProxyPort": ports[1], "allowedDomains": domains }), "socks", "socks"),
                (
                    json!({ "httpProxyPort": ports[0], "socksProxyPort": ports[1], "allowedDomains": domains }),
                    "http",
                    "socks",
                ),
            ] {
                let said = output(world.given(&network(&settings), script)).await;
                let wanted = "from beyond\nfrom beyond\npatchyard: evil.test:80 was refused: no \n";
                assert_eq!(said.out(), wanted, "{who:?}: {settings} {}", said.err());
                for (by, port) in [(first, 80), (second, 8080)] {
                    let noted = if by == "http" { &mut http } else { &mut socks }.recv().await.unwrap();
                    let wanted = format!("far.test:{port}");
                    let wanted = if by == "http" { format!("CONNECT {wanted} HTTP/1.1") } else { wanted };
                    assert_eq!(noted, wanted, "{who:?}: {settings}");
                }
                assert!(http.try_recv().is_err() && socks.try_recv().is_err());
            }
            // A name that is for the other proxy to find is asked of nobody here.
            assert!(!net.names.asked().iter().any(|name| name == "far.test"));
            net.nothing_leaked();
        }
    });
}

#[test]
fn a_command_serves_itself_unless_that_is_denied_and_never_anybody_outside() {
    for who in everybody() {
        let world = World::new(who);
        // The port is one that a socket outside has just given back.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = format!(
            "python3 -c \"import socket\n\
             try:\n\
             \u{20}s = socket.create_server(('127.0.0.1', {port})); c = socket.create_connection(('127.0.0.1', {port}))\n\
             \u{20}s.accept()[0].sendall(b'served'); print(c.recv(9).decode(), flush=True)\n\
             except PermissionError: print('not permitted', flush=True)\"; read line"
        );
        for (settings, words) in [
            (json!({}), "served"),
            (json!({ "allowLocalBinding": true }), "served"),
            (json!({ "allowLocalBinding": false }), "not permitted"),
        ] {
            let mut command = world.given(&network(&settings), &script);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
            std::io::BufRead::read_line(&mut out, &mut line).unwrap();
            assert_eq!(line.trim(), words, "{who:?}: {settings}");
            assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "{who:?}: from outside");
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}

/// Types at a terminal, as a person would. Arguments: a script of `words|keys` pairs, then the command.
const TERMINAL: &str = r#"
import os, pty, select, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
seen = b''
def read():
    global seen
    if not select.select([fd], [], [], 30)[0]:
        sys.exit('silence after ' + repr(seen))
    try: more = os.read(fd, 4096)
    except OSError: more = b''
    seen += more
    return more
at = 0
for step in sys.argv[1].split(';'):
    words, keys = step.split('|')
    while seen.find(words.encode(), at) < 0:
        if not read(): sys.exit('no ' + repr(words) + ' in ' + repr(seen[at:]))
    at = seen.find(words.encode(), at) + len(words)
    os.write(fd, keys.encode().decode('unicode_escape').encode())
while read(): pass
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// A script in the sandbox, at a terminal at which somebody types.
async fn at_terminal(world: &World, settings: &Value, typed: &str, script: &str) -> Said {
    world.write("home/given.json", &settings.to_string());
    let program = world.path("patchyard");
    let mut command = world.command("python3");
    command.args(["-c", TERMINAL, typed, program.to_str().unwrap(), "sandbox", "--settings"]);
    command.arg(world.path("home/given.json")).args(["--", "sh", "-c", script]);
    output(command).await
}

#[test]
fn at_a_terminal_a_person_is_asked_while_the_connection_waits() {
    alone(|internet| async move {
        let net = Net::make(&internet);
        for who in everybody() {
            let world = net.world(who);
            let settings = json!({ "permissions": { "allow": ["WebFetch(domain:api.allowed.test)"],
                "ask": ["WebFetch(domain:api.allowed.test)"] } });
            let get = |host: &str| format!("curl -sS --max-time 40 http://{host}/ | head -1 | cut -c-90;");
            // Once is for one connection; for as long as it runs is for all; no is no.
            let typed = "reach deep.er.wild.test:80|y\\r;reach deep.er.wild.test:80|x\\r;y, s or n|s\\r;\
                         reach api.allowed.test:80|s\\r;reach evil.test:80|n\\r";
            let script = [
                "deep.er.wild.test",
                "deep.er.wild.test",
                "deep.er.wild.test",
                "api.allowed.test",
                "api.allowed.test",
                "evil.test",
                "evil.test",
            ]
            .map(get)
            .concat();
            let said = at_terminal(&world, &settings, typed, &script).await;
            let out = said.out();
            assert!(said.success(), "{who:?}: {out} {}", said.err());
            assert_eq!(out.matches("hello from plain").count(), 5, "{who:?}: {out}");
            assert_eq!(out.matches("wants to reach").count(), 4, "{who:?}: {out}");
            assert_eq!(out.matches("evil.test:80 was refused (denied for this session").count(), 2, "{out}");
            // Keys that come before the question answer nothing, and without an answer it stays closed.
            let typed = "ready|s\\r;reach evil.test:80|\\x03";
            let said =
                at_terminal(&world, &settings, typed, &format!("echo ready; read x; {}", get("evil.test")))
                    .await;
            assert!(said.out().contains("evil.test:80 was refused"), "{who:?}: {}", said.out());
            let strict = network(&json!({ "strictAllowlist": true }));
            let said = at_terminal(&world, &strict, "was refused|", &get("evil.test")).await;
            assert!(!said.out().contains("wants to reach"), "{who:?}: {}", said.out());
            net.nothing_leaked();
        }
    });
}

/// The proxy of a sandbox that runs: the only one of our processes with a filter.
fn proxy_of(world: &World) -> (u32, String) {
    let program = world.path("patchyard");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let is_ours = line.starts_with(program.to_str()?.as_bytes());
        (is_ours && status.contains("Seccomp:\t2")).then_some((pid, status))
    });
    found.next().expect("there is a proxy")
}

#[test]
fn the_proxy_has_no_rights_and_without_it_the_sandbox_is_offline() {
    alone(|internet| async move {
        let net = Net::make(&internet);
        for who in everybody() {
            let world = net.world(who);
            let script = "curl -sS --max-time 20 http://api.allowed.test/; read line; \
                          curl -sS --max-time 20 http://api.allowed.test/; env -i curl -sS --max-time 20 http://api.allowed.test/; \
                          echo over";
            let mut command =
                world.given(&network(&json!({ "allowedDomains": ["api.allowed.test"] })), script);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = tokio::process::Command::from(command).spawn().unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(out.next_line().await.unwrap().unwrap(), "hello from plain", "{who:?}");
            let (pid, status) = proxy_of(&world);
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_ascii_whitespace().nth(1).unwrap().to_owned()
            };
            assert_eq!(
                (field("NoNewPrivs:"), field("CapEff:")),
                ("1".into(), "0000000000000000".into()),
                "{who:?}"
            );
            assert_eq!(field("Uid:"), if who == Who::Root { "590065536" } else { "54321" });
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::SIGKILL)
                .unwrap();
            child.stdin.take().unwrap().write_all(b"\n").await.unwrap();
            assert_eq!(out.next_line().await.unwrap().unwrap(), "over", "{who:?}");
            assert!(child.wait().await.unwrap().success());
        }
        assert_eq!(net.plain.requests().len(), everybody().len());
    });
}
