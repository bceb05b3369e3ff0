//! What a tunnel costs the proxy, beside squid and tinyproxy.
//!
//! ```text
//!  16 clients ─ CONNECT ─▶ proxy ─▶ echo, in an internet of two network namespaces
//!      rounds: egress, squid, tinyproxy, egress, …       CPU: of all threads and children, to the nanosecond
//! ```
//!
//! Ours has a list of 500 hosts, resolves the name (good for a minute), checks the address and writes two records for each
//! tunnel; the peers get a bare address and allow everything. The machine's other work moves wall time,
//! not CPU time.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::client::{Egress, Listeners};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use protocol::egress::{Budgets, Chain, Door, Ground};
use protocol::environment::NetworkLevel;
use protocol::ids::{SandboxId, SessionId};
use protocol::network::{NetworkRules, Rendering};
use serde_json::json;
use testkit::internet::{Internet, Names, alone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use ulid::Ulid;

use crate::figure::{line, round};
use crate::{Bench, Failure};

/// Sandboxes; each may begin 200 tunnels at once.
const SANDBOXES: usize = 50;

const CLIENTS: usize = 16;
const ROUNDS: usize = 5;
const IN_A_ROUND: usize = 800;

/// Tunnels that are open at the same time for the figure of memory.
const IDLE: usize = 1000;

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let patchyard = bench.patchyard.clone();
    let measured = tokio::task::spawn_blocking(move || {
        alone(|internet| async move {
            if let Err(error) = measure(&internet, &patchyard).await {
                line(&json!({ "figure": "tunnels", "error": error.to_string() }));
            }
        });
    });
    Ok(measured.await?)
}

/// A proxy that runs, and where its clients find it.
struct Proxy {
    name: &'static str,
    child: Child,
    doors: Vec<SocketAddr>,
    target: &'static str,
    refused: Option<&'static str>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn measure(internet: &Internet, patchyard: &Path) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let names = Names::serve(internet.packets("93.184.216.53:53"));
    names.set("echo.wild.test", &["93.184.216.34"]);
    names.last(60);
    tokio::spawn(echo(internet.listen("93.184.216.34:8443")));
    let mut proxies = vec![ours(patchyard, folder.path()).await?];
    proxies.extend(peers(folder.path()));
    for proxy in &proxies {
        until_it_answers(proxy).await?;
    }
    let mut cost = vec![(0.0, Duration::ZERO); proxies.len()];
    for _ in 0..ROUNDS {
        for (proxy, (cpu, wall)) in proxies.iter().zip(&mut cost) {
            let (before, since) = (cpu_of(proxy.child.id()), Instant::now());
            tunnels(proxy, IN_A_ROUND, proxy.target).await?;
            *wall += since.elapsed();
            *cpu += cpu_of(proxy.child.id()) - before;
            // The buckets of ours fill up again.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    #[expect(clippy::cast_precision_loss)]
    let all = (ROUNDS * IN_A_ROUND) as f64;
    for (proxy, (cpu, wall)) in proxies.iter().zip(&cost) {
        line(&json!({
            "figure": "CPU of a new opaque tunnel", "proxy": proxy.name, "us": round(cpu / all * 1e6),
            "tunnels_per_s": round(all / wall.as_secs_f64()), "budget": "≤ 110 us",
        }));
    }
    let Some(own) = proxies.first() else { return Ok(()) };
    if let Some(refused) = own.refused {
        let before = cpu_of(own.child.id());
        tunnels(own, IN_A_ROUND, refused).await?;
        #[expect(clippy::cast_precision_loss)]
        let each = (cpu_of(own.child.id()) - before) / IN_A_ROUND as f64;
        line(&json!({ "figure": "CPU of a denial", "us": round(each * 1e6), "budget": "≤ 40 us" }));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = memory_of(own.child.id());
    let mut open = Vec::new();
    for number in 0..IDLE {
        open.push(tunnel(own.doors[number % own.doors.len()], own.target).await?);
    }
    #[expect(clippy::cast_precision_loss)]
    let each = (memory_of(own.child.id()) - before) / IDLE as f64;
    line(
        &json!({ "figure": "memory of an idle tunnel", "kb": round(each), "open": open.len(), "budget": "≤ 8 kB" }),
    );
    Ok(())
}

/// The real process, with a listener for each of many sandboxes.
async fn ours(patchyard: &Path, folder: &Path) -> Result<Proxy, Failure> {
    let socket = folder.join("egress.sock");
    let listener = OwnedFd::from(UnixListener::bind(&socket)?);
    let child = Command::new(patchyard)
        .args(["internal", "egress", "--server-uid", "0", "--uid", "61879", "--gid", "61879"])
        .args(["--name-server", "93.184.216.53:53"])
        .stdin(Stdio::from(listener))
        .spawn()?;
    let mut domains: Vec<String> = (0..499).map(|number| format!("host-{number}.example.org")).collect();
    domains.push("*.wild.test:8443".into());
    let level = NetworkLevel::Custom { domains, include_default: false };
    let (egress, mut doors) = (Egress::connect(&socket), Vec::new());
    for number in 0..SANDBOXES {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        doors.push(listener.local_addr()?);
        let segment = std::fs::File::options()
            .append(true)
            .create(true)
            .open(folder.join(format!("{number}.jsonl")))?;
        let listeners = Listeners {
            doors: vec![Door::Proxy],
            sockets: vec![listener.into()],
            segment: segment.into(),
            chain: Chain::default(),
        };
        let (sandbox, session) = (SandboxId::from(Ulid::generate()), SessionId::from(Ulid::generate()));
        let rules = NetworkRules::of(level.clone(), Rendering::default());
        let authority = egress::make_authority(session)?;
        let ground = Ground { rules, secrets: vec![], canaries: vec![], budgets: Budgets::default() };
        egress.bind(sandbox, session, (ground, authority), listeners).await?;
    }
    Ok(Proxy { name: "egress", child, doors, target: "echo.wild.test:8443", refused: Some("evil.test:8443") })
}

/// The peers that are installed.
fn peers(folder: &Path) -> Vec<Proxy> {
    let target = "93.184.216.34:8443";
    let squid = "http_port 127.0.0.1:3901\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log /dev/null\n\
                 pid_filename none\nlogfile_rotate 0\nshutdown_lifetime 0 seconds\n";
    let tinyproxy = "Port 3902\nListen 127.0.0.1\nMaxClients 500\nTimeout 600\nLogLevel Critical\n";
    let all = [
        ("squid", squid, &["squid", "-N", "-f"][..], "127.0.0.1:3901"),
        ("tinyproxy", tinyproxy, &["tinyproxy", "-d", "-c"], "127.0.0.1:3902"),
    ];
    let start = |(name, config, words, door): (&'static str, &str, &[&str], &str)| {
        let file = folder.join(name);
        std::fs::write(&file, config).ok()?;
        let (program, words) = words.split_first()?;
        let child =
            Command::new(program).args(words).arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Some(Proxy { name, child: child.ok()?, doors: vec![door.parse().ok()?], target, refused: None })
    };
    all.into_iter().filter_map(start).collect()
}

async fn until_it_answers(proxy: &Proxy) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match tunnel(proxy.doors[0], proxy.target).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > until => return Err(format!("{}: {error}", proxy.name).into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
        });
    }
}

/// Opens tunnels one after the other, from several clients at a time.
async fn tunnels(proxy: &Proxy, count: usize, target: &'static str) -> Result<(), Failure> {
    let doors: Arc<[SocketAddr]> = proxy.doors.clone().into();
    let allowed = target == proxy.target;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let doors = Arc::clone(&doors);
        clients.spawn(async move {
            for number in 0..count / CLIENTS {
                let opened = tunnel(doors[(number * CLIENTS + client) % doors.len()], target).await;
                if opened.is_ok() != allowed {
                    return Err(format!("a tunnel to {target}: {:?}", opened.err()));
                }
            }
            Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

/// One tunnel, with a byte there and back.
async fn tunnel(door: SocketAddr, target: &str) -> Result<TcpStream, String> {
    let io = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(door).await.map_err(io)?;
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.map_err(io)?);
    }
    if !answer.starts_with(b"HTTP/1.1 200") && !answer.starts_with(b"HTTP/1.0 200") {
        return Err(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned());
    }
    stream.write_all(b"x").await.map_err(io)?;
    stream.read_u8().await.map_err(io)?;
    Ok(stream)
}

/// Seconds of CPU that a process and its children used, threads that have ended included.
fn cpu_of(pid: u32) -> f64 {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()));
    let own = clock.and_then(ClockId::now).map_or(0.0, |used| Duration::from(used).as_secs_f64());
    own + children_of(pid).into_iter().map(cpu_of).sum::<f64>()
}

/// Resident memory of a process and its children, in kB.
fn memory_of(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    own.unwrap_or(0.0) + children_of(pid).into_iter().map(memory_of).sum::<f64>()
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
