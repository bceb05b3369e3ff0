//! What is sent to the proxy's port, and where connections arrive because of it.
//!
//! ```text
//!   hosts, spelled in many ways ─▶ CONNECT · http:// · SOCKS5 ─▶ perhaps a byte changed ─▶ the proxy's port
//!                                                                                            │ real resolver,
//!   the rules, asked for what was dialled ◀─ which host, which port ◀─ an internet ◀─────────┘ real dialler
//! ```
//!
//! Each host has an address of its own, so where a connection arrives says which host was meant by it.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use policy::host::Host;
use policy::network::{Decision, NetworkPolicy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use protocol::egress::Door;
use protocol::environment::NetworkLevel;
use protocol::ids::SandboxId;
use protocol::network::{NetworkRules, Rendering};
use testkit::internet::{Internet, Names, alone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::door::{Running, listener};

/// Inputs that are tried.
const CASES: u32 = 2000;

/// Connections that a sandbox may begin at once are 200; then another one takes its place.
const OF_ONE_SANDBOX: u32 = 150;

/// What the environment allows.
const ALLOWED: [&str; 5] =
    ["api.allowed.test", "*.wild.test", "port.test:8443", "93.185.7.7", "[2606:2800:221::7]:443"];

/// Hosts that are there: allowed ones, and those that somebody could take for them.
const HOSTS: [&str; 14] = [
    "api.allowed.test",
    "deep.er.wild.test",
    "port.test",
    "93.185.7.7",
    "[2606:2800:221::7]",
    "evil.test",
    "allowed.test",
    "xapi.allowed.test",
    "wild.test",
    "evilwild.test",
    "api.allowed.test.evil.test",
    "93.185.7.8",
    "[2606:2800:221::8]",
    "169.254.169.254",
];

/// Where there is somebody at every address.
const PORTS: [u16; 4] = [80, 443, 8443, 22];

/// What arrived at the internet.
#[derive(Debug, Default)]
struct Arrived {
    begun: usize,
    /// Where, and the first words.
    ended: Vec<(SocketAddr, Vec<u8>)>,
}

type Shared = Arc<(Mutex<Arrived>, Condvar)>;

/// Listens at every address at one port, hears a head or the end, and answers.
fn answer(listener: TcpListener, shared: &Shared) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            let at = stream.local_addr().unwrap();
            shared.0.lock().unwrap().begun += 1;
            tokio::spawn(async move {
                let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
                while !heard.windows(4).any(|four| four == b"\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => break,
                        Ok(length) => heard.extend_from_slice(&buffer[..length]),
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                drop(stream);
                shared.0.lock().unwrap().ended.push((at, heard));
                shared.1.notify_all();
            });
        }
    });
}

/// The proxy, the internet, and what is known of both.
struct World {
    running: Running,
    names: Names,
    hosts: HashMap<IpAddr, Host>,
    rules: NetworkRules,
    policy: NetworkPolicy,
    arrived: Shared,
    runtime: tokio::runtime::Handle,
    /// How many inputs the sandbox of now had, where its port is, and how many names were asked for.
    state: Mutex<(u32, SocketAddr, usize)>,
}

impl World {
    fn start(internet: &Internet) -> Self {
        let names = Names::serve(internet.packets("93.184.216.53:53"));
        let mut hosts = HashMap::new();
        for (number, name) in HOSTS.iter().enumerate() {
            let host = Host::parse(name.as_bytes()).unwrap();
            if host.name().is_some() {
                let address = format!("93.185.1.{}", number + 1);
                names.set(name, &[&address]);
                hosts.insert(address.parse().unwrap(), host);
            }
        }
        let arrived = Shared::default();
        for port in PORTS {
            answer(internet.listen(&format!("[::]:{port}")), &arrived);
        }
        let domains = ALLOWED.map(str::to_owned).into();
        let custom = NetworkLevel::Custom { domains, include_default: false };
        let rules = NetworkRules::of(custom, Rendering::Compatible);
        Self {
            running: Running::start(vec!["93.184.216.53:53".parse().unwrap()]),
            names,
            hosts,
            policy: NetworkPolicy::compile(&rules).unwrap(),
            rules,
            arrived,
            runtime: tokio::runtime::Handle::current(),
            state: Mutex::new((OF_ONE_SANDBOX, "127.0.0.1:1".parse().unwrap(), 0)),
        }
    }

    fn allows(&self, host: &Host, port: u16) -> bool {
        matches!(self.policy.decide(host, port), Decision::Allow(_))
    }

    /// The proxy's port: of another sandbox from time to time.
    fn door(&self) -> SocketAddr {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        if state.0 > OF_ONE_SANDBOX {
            let (socket, address) = listener();
            let doors = (vec![Door::Proxy], vec![socket]);
            let bound = self.running.bind(SandboxId::from_parts(1, 1), &self.rules, doors);
            self.runtime.block_on(bound).unwrap();
            (state.0, state.1) = (0, address);
        }
        state.1
    }

    /// Says something to the proxy, to the end; gives what arrived where.
    fn say(&self, bytes: &[u8]) -> Vec<(Host, u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.door()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Who is refused early hears so while still speaking.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let end = stream.read_to_end(&mut Vec::new());
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "no end in 20 s");
        drop(stream);
        // One of our own to each port arrives behind all that was dialled.
        for port in PORTS {
            let mut own = TcpStream::connect(("93.185.200.1", port)).unwrap();
            own.shutdown(Shutdown::Write).unwrap();
            own.read_to_end(&mut Vec::new()).unwrap();
        }
        let mut arrived = self.arrived.0.lock().unwrap();
        while arrived.ended.len() < arrived.begun {
            let waited = self.arrived.1.wait_timeout(arrived, Duration::from_secs(20)).unwrap();
            assert!(!waited.1.timed_out(), "a connection never ended");
            arrived = waited.0;
        }
        arrived.begun = 0;
        let ended = std::mem::take(&mut arrived.ended).into_iter();
        ended
            .map(|(at, heard)| (at.ip().to_canonical(), at.port(), heard))
            .filter(|(address, ..)| *address != IpAddr::from([93, 185, 200, 1]))
            .map(|(address, port, heard)| {
                let literal = || Host::parse(address.to_string().as_bytes()).unwrap();
                (self.hosts.get(&address).cloned().unwrap_or_else(literal), port, heard)
            })
            .collect()
    }

    /// Whatever was dialled, the rules allow; so does what was asked of name servers; and what was meant
    /// in the one way that there is came there if it is allowed.
    fn check(&self, said: &Said) -> Result<(), TestCaseError> {
        let arrived = self.say(&said.bytes);
        for (host, port, heard) in &arrived {
            prop_assert!(self.allows(host, *port), "{host}:{port} was dialled");
            // What is sent there is for no other host, where that can be seen.
            let named = heard.to_ascii_lowercase();
            let name = host.to_string();
            let seen = named.windows(name.len()).any(|part| part == name.as_bytes());
            let blind = heard.is_empty() || ![80, 443].contains(port) || host.name().is_none();
            prop_assert!(seen || blind, "{host}:{port} heard {:?}", String::from_utf8_lossy(heard));
        }
        prop_assert!(arrived.len() <= 1, "{} connections for one", arrived.len());
        let asked = self.names.asked();
        let mut state = self.state.lock().unwrap();
        for name in &asked[state.2..] {
            let host = Host::parse(name.as_bytes())
                .map_err(|error| TestCaseError::fail(format!("{name}: {error}")))?;
            prop_assert!((1..=u16::MAX).any(|port| self.allows(&host, port)), "{name} was asked for");
        }
        state.2 = asked.len();
        if let Some((host, port)) = &said.meant {
            let there = arrived.first().map(|(host, port, _)| (host, *port));
            let wanted = self.allows(host, *port).then_some((host, *port));
            prop_assert_eq!(there, wanted);
        }
        Ok(())
    }
}

/// What is sent to the proxy.
#[derive(Debug, Clone)]
struct Said {
    bytes: Vec<u8>,
    /// Where every reader would go; nothing where one might see it in another way.
    meant: Option<(Host, u16)>,
}

/// A spelling of a host, and the host where it has this one meaning.
fn spelled(host: &'static str, trick: usize, other: &'static str) -> (Vec<u8>, Option<Host>) {
    let plain = Host::parse(host.as_bytes()).ok();
    let is_name = plain.as_ref().is_some_and(|host| host.name().is_some());
    let with = |between: &str| format!("{host}{between}{other}").into_bytes();
    match trick {
        0..=9 => (host.into(), plain),
        10 => (host.to_uppercase().into(), plain),
        11 if is_name => (format!("{host}.").into(), plain),
        12 => (with("@"), None),
        13 => (with("\0."), None),
        14 => (with("#@"), None),
        15 => (with("\\@"), None),
        16 => (with("%00."), None),
        17 => (with("?."), None),
        18 => (with(":443@"), None),
        19 => (host.replacen('.', "%2e", 1).into(), None),
        20 => (format!(" {host}").into(), None),
        21 => (format!("{host}\t").into(), None),
        22 => (format!("[{host}]").into(), None),
        23 => (host.replacen('.', "\u{3002}", 1).into(), None),
        24 => (with("/"), None),
        25 => (with("\r\nHost: "), None),
        _ => (host.trim_matches(['[', ']']).into(), None),
    }
}

/// A port and its spelling.
fn port() -> impl Strategy<Value = (String, Option<u16>)> {
    let plain = prop::sample::select(&PORTS[..]).prop_map(|port| (port.to_string(), Some(port)));
    let odd =
        prop::sample::select(&["", "0", "0443", "+443", "65979", "443 ", "443@evil.test", "80:443"][..]);
    prop_oneof![5 => plain, 1 => odd.prop_map(|text| (text.to_owned(), None))]
}

fn hello(name: &[u8]) -> Vec<u8> {
    let long = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let list = [&[0], &long(name)[..]].concat();
    let extension = [&[0, 0], &long(&long(&list))[..]].concat();
    let body = [&[3, 3], &[7; 32][..], &[0], &long(&[0x13, 1]), &[1, 0], &long(&extension)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &long(&[&[1], &length[1..], &body].concat())].concat()
}

/// What is sent over a tunnel.
fn first_words(port: u16, host: &str) -> Vec<u8> {
    match port {
        80 => format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into(),
        443 => hello(host.trim_matches(['[', ']']).as_bytes()),
        _ => b"words\r\n\r\n".into(),
    }
}

/// A request in one of the forms that the proxy understands.
fn request() -> impl Strategy<Value = Said> {
    let hosts = || prop::sample::select(&HOSTS[..]);
    (0_usize..4, hosts(), 0_usize..28, hosts(), port(), prop::bool::weighted(0.8)).prop_map(
        |(form, plain, trick, other, (port, number), same)| {
            let (host, meant) = spelled(plain, trick, other);
            let meant = meant.zip(number);
            let inside = if same { plain } else { other };
            let words = first_words(number.unwrap_or(443), inside);
            let named = |before: &str, after: &str| {
                [before.as_bytes(), &host, b":", port.as_bytes(), after.as_bytes()].concat()
            };
            let tunnel = meant.clone().filter(|_| same);
            match form {
                0 => Said {
                    bytes: [named("CONNECT ", " HTTP/1.1\r\nHost: x\r\n\r\n"), words].concat(),
                    meant: tunnel,
                },
                1 => Said { bytes: named("GET http://", "/x HTTP/1.1\r\n\r\n"), meant },
                2 => {
                    let field = format!("/x HTTP/1.1\r\nHost: {inside}:{port}\r\nX: y\r\n\r\n");
                    Said { bytes: named("POST http://", &field), meant: tunnel }
                }
                _ => socks(&host, number.unwrap_or(443), &words, tunnel),
            }
        },
    )
}

/// By name, or by address where it is one.
fn socks(host: &[u8], port: u16, words: &[u8], meant: Option<(Host, u16)>) -> Said {
    let address = match meant.as_ref().map(|(host, _)| host) {
        Some(Host::V4(address)) => [&[1], &address.octets()[..]].concat(),
        Some(Host::V6(address)) => [&[4], &address.octets()[..]].concat(),
        _ => [&[3, u8::try_from(host.len()).unwrap()], host].concat(),
    };
    let bytes = [&[5, 1, 0, 5, 1, 0], &address[..], &port.to_be_bytes(), words].concat();
    Said { bytes, meant }
}

/// Requests, such with a byte changed, and anything.
fn said() -> impl Strategy<Value = Said> {
    let changed = (request(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut said, at, byte)| {
        let at = at.index(said.bytes.len());
        said.bytes[at] = byte;
        Said { meant: None, ..said }
    });
    let anything = prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Said { bytes, meant: None });
    prop_oneof![6 => request(), 3 => changed, 1 => anything]
}

#[test]
fn whatever_is_said_to_the_proxy_only_what_the_rules_allow_is_dialled() {
    alone(|internet| async move {
        let world = World::start(&internet);
        // Beside the runtime, which serves both ends; in the same network.
        let tried = tokio::task::spawn_blocking(move || {
            let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
            TestRunner::new(config).run(&said(), |said| world.check(&said)).map_err(|error| error.to_string())
        });
        if let Err(error) = tried.await.unwrap() {
            panic!("{error}");
        }
    });
}
