//! What tunnels cost the proxy, beside squid, tinyproxy and mitmproxy.
//!
//! ```text
//!  16 clients ─ CONNECT ─▶ proxy ─▶ origin, in an internet of two network namespaces
//!      rounds: ours, squid, tinyproxy, …, ours, …        CPU: of all threads and children, to the nanosecond
//! ```
//!
//! The machine's other work moves wall time, and less so CPU time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::internet::{Authority, Internet, Names, Origin, alone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::figure::{Samples, line, round};
use crate::opened;
use crate::proxies::{BARE, OPENED, Proxy, ours, stay_apart};
use crate::{Bench, Failure};

const CLIENTS: usize = 16;
const WARM_UPS: usize = 3;
const ROUNDS: usize = 5;
const IN_A_ROUND: usize = 800;

/// Tunnels that are open at the same time for the figure of memory.
const IDLE: usize = 1000;

/// How many tunnels a second begin for the figure of delay, and for how long.
const PER_SECOND: u32 = 500;
const SECONDS: u32 = 8;

/// What one tunnel fetches at once for the figure of bulk, and how many do at a time.
pub(crate) const BULK: usize = 64 << 20;
const BULKS: usize = 4;

/// What the origin answers a byte with, but for [`FETCH`].
const ANSWER: usize = 1024;

/// The byte that fetches [`BULK`].
const FETCH: u8 = b'F';

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

async fn measure(internet: &Internet, patchyard: &Path) -> Result<(), Failure> {
    stay_apart()?;
    // In memory: what a disk costs is not the proxy's.
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let names = Names::serve(internet.packets("93.184.216.53:53"));
    names.set("echo.wild.test", &["93.184.216.34"]);
    names.set("opened.test", &["93.184.216.34"]);
    names.last(60);
    let authority = Authority::make();
    tokio::spawn(answer(internet.listen(BARE)));
    let name = OPENED.split(':').next().unwrap_or_default();
    let _opened = Origin::tls(internet.listen("93.184.216.34:8444"), name, &authority);
    let (own, openings) = ours(patchyard, folder.path(), &authority.pem).await?;
    let mut proxies = vec![own];
    proxies.extend(Proxy::peers(folder.path())?);
    for proxy in &proxies {
        until_it_answers(proxy).await?;
    }
    new_tunnels(&proxies).await?;
    denials(&proxies).await?;
    bulk(&proxies).await?;
    delay(&proxies[0]).await?;
    opened::measure(&proxies[0], &openings).await?;
    for proxy in &proxies {
        idle(proxy).await?;
    }
    Ok(())
}

/// CPU and number of new tunnels, each with a byte there and a kilobyte back.
async fn new_tunnels(proxies: &[Proxy]) -> Result<(), Failure> {
    let mut cost = vec![(Vec::new(), Duration::ZERO); proxies.len()];
    for round in 0..WARM_UPS + ROUNDS {
        for (proxy, (cpu, wall)) in proxies.iter().zip(&mut cost) {
            let (before, since) = (proxy.process.cpu(), Instant::now());
            tunnels(proxy, IN_A_ROUND, proxy.target).await?;
            if round >= WARM_UPS {
                *wall += since.elapsed();
                cpu.push(each(proxy.process.cpu() - before));
            }
            // The buckets of ours fill up again.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    for (proxy, (mut cpu, wall)) in proxies.iter().zip(cost) {
        cpu.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss)]
        let per_second = (ROUNDS * IN_A_ROUND) as f64 / wall.as_secs_f64();
        line(&json!({
            "figure": "CPU of a new opaque tunnel", "proxy": proxy.name, "us": round(cpu[ROUNDS / 2]),
            "least_us": round(cpu[0]), "most_us": round(cpu[ROUNDS - 1]), "tunnels_per_s": round(per_second),
            "budget": "≤ 110 us",
        }));
    }
    Ok(())
}

/// Microseconds of each in a round.
#[expect(clippy::cast_precision_loss)]
fn each(seconds: f64) -> f64 {
    seconds / IN_A_ROUND as f64 * 1e6
}

async fn denials(proxies: &[Proxy]) -> Result<(), Failure> {
    for proxy in proxies {
        let Some(refused) = proxy.refused else { continue };
        tunnels(proxy, CLIENTS, refused).await?;
        let before = proxy.process.cpu();
        tunnels(proxy, IN_A_ROUND, refused).await?;
        let us = round(each(proxy.process.cpu() - before));
        line(&json!({ "figure": "CPU of a denial", "proxy": proxy.name, "us": us, "budget": "≤ 40 us" }));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    Ok(())
}

/// CPU and speed of much in one direction.
async fn bulk(proxies: &[Proxy]) -> Result<(), Failure> {
    for proxy in proxies {
        let (before, since) = (proxy.process.cpu(), Instant::now());
        let mut fetches = JoinSet::new();
        for number in 0..BULKS {
            let (door, target) = (proxy.doors[number % proxy.doors.len()], proxy.target);
            fetches.spawn(async move {
                let mut stream = open(door, target).await?;
                fetch(&mut stream).await.map_err(|error| error.to_string())
            });
        }
        while let Some(fetched) = fetches.join_next().await {
            fetched??;
        }
        #[expect(clippy::cast_precision_loss)]
        let bytes = (BULKS * BULK) as f64;
        line(&json!({
            "figure": "4 tunnels of 64 MiB", "proxy": proxy.name,
            "mb_per_s": round(bytes / 1e6 / since.elapsed().as_secs_f64()),
            "cpu_s_per_gb": round((proxy.process.cpu() - before) / bytes * 1e9),
        }));
    }
    Ok(())
}

pub(crate) async fn fetch(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[FETCH]).await?;
    let (mut left, mut buffer) = (BULK, vec![0; 256 * 1024]);
    while left > 0 {
        match stream.read(&mut buffer).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => left = left.saturating_sub(length),
        }
    }
    Ok(())
}

/// How much later an answer comes by the proxy, at a steady rate over all sandboxes.
async fn delay(proxy: &Proxy) -> Result<(), Failure> {
    let direct = steadily(&[BARE.parse()?], None).await?;
    let proxied = steadily(&proxy.doors, Some(proxy.target)).await?;
    line(&json!({
        "figure": "first byte at 500 tunnels a second over 50 sandboxes",
        "p50_ms": round(proxied.percentile(0.5)), "p99_ms": round(proxied.percentile(0.99)),
        "direct_p50_ms": round(direct.percentile(0.5)), "direct_p99_ms": round(direct.percentile(0.99)),
        "added_p99_ms": round(proxied.percentile(0.99) - direct.percentile(0.99)), "budget": "≤ 5 ms added at p99",
    }));
    Ok(())
}

/// Begins tunnels, or connections, whether or not the ones before are done.
async fn steadily(doors: &[SocketAddr], target: Option<&'static str>) -> Result<Samples, Failure> {
    let (mut running, mut samples) = (JoinSet::new(), Samples::default());
    let begin = Instant::now();
    for number in 0..PER_SECOND * SECONDS {
        let due = begin + Duration::from_secs(1) / PER_SECOND * number;
        tokio::time::sleep_until(due.into()).await;
        let door = doors[number as usize % doors.len()];
        running.spawn(async move {
            let since = Instant::now();
            let mut stream = match target {
                Some(target) => open(door, target).await?,
                None => TcpStream::connect(door).await.map_err(|error| error.to_string())?,
            };
            ask(&mut stream).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(since.elapsed())
        });
    }
    while let Some(took) = running.join_next().await {
        samples.add(took??);
    }
    Ok(samples)
}

async fn idle(proxy: &Proxy) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = proxy.process.memory();
    let mut opened = Vec::new();
    for number in 0..IDLE {
        opened.push(tunnel(proxy.doors[number % proxy.doors.len()], proxy.target).await?);
    }
    #[expect(clippy::cast_precision_loss)]
    let kb = round((proxy.process.memory() - before) / IDLE as f64);
    let figure = "memory of an idle tunnel";
    line(
        &json!({ "figure": figure, "proxy": proxy.name, "kb": kb, "open": opened.len(), "budget": "≤ 8 kB" }),
    );
    Ok(())
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

/// The origin: a kilobyte for a byte, or much for the one that asks for that.
pub(crate) async fn answer(listener: TcpListener) {
    let much: Arc<[u8]> = vec![0; 256 * 1024].into();
    while let Ok((mut stream, _)) = listener.accept().await {
        let much = Arc::clone(&much);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                if byte != [FETCH] {
                    stream.write_all(&much[..ANSWER]).await?;
                    continue;
                }
                for _ in 0..BULK / much.len() {
                    stream.write_all(&much).await?;
                }
            }
            Ok::<_, std::io::Error>(())
        });
    }
}

/// Opens tunnels one after the other, from several clients at a time.
async fn tunnels(proxy: &Proxy, count: usize, target: &'static str) -> Result<(), Failure> {
    let doors: Arc<[SocketAddr]> = proxy.doors.clone().into();
    let allowed = target == proxy.target;
    let mut clients = JoinSet::new();
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

/// One tunnel, with a byte there and a kilobyte back.
async fn tunnel(door: SocketAddr, target: &str) -> Result<TcpStream, String> {
    let mut stream = open(door, target).await?;
    ask(&mut stream).await.map_err(|error| error.to_string())?;
    Ok(stream)
}

pub(crate) async fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x").await?;
    stream.read_exact(&mut [0; ANSWER]).await.map(drop)
}

/// A tunnel that stands.
pub(crate) async fn open(door: SocketAddr, target: &str) -> Result<TcpStream, String> {
    open_with(door, target, "").await
}

/// One for which the proxy wants to hear these fields besides, each with its line's end.
pub(crate) async fn open_with(door: SocketAddr, target: &str, fields: &str) -> Result<TcpStream, String> {
    let io = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(door).await.map_err(io)?;
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.map_err(io)?);
    }
    if answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200") {
        return Ok(stream);
    }
    Err(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}
