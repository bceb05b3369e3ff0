//! A program that opens tunnels or connections to one host from wherever it is started, in a sandbox too.
//!
//! ```text
//!  benches visit --host NAME:PORT [--proxy http://[USER:WORD@]HOST:PORT] [--clients N] [--count N]
//!      N clients, each one connection after the other: a byte there, a kilobyte back
//!      --fetch: one connection each, 64 MiB back
//!  ─▶ {"begin_us": …, "end_us": …}      by the wall clock, which sandboxes share
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Failure;
use crate::figure::line;
use crate::tunnels::{ask, fetch, open_with};

/// How long a proxy may take until it listens.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of it.
struct Visit {
    host: String,
    /// Of the host, where no proxy finds it: asked for once, as a program does that connects often.
    address: Option<SocketAddr>,
    proxy: Option<Door>,
    clients: usize,
    count: usize,
    fetch: bool,
}

/// A proxy, and what it wants to hear.
struct Door {
    address: SocketAddr,
    authorization: String,
}

/// Runs it.
pub(crate) async fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), Failure> {
    let mut visit =
        Visit { host: String::new(), address: None, proxy: None, clients: 1, count: 1, fetch: false };
    while let Some(name) = arguments.next() {
        if name == "--fetch" {
            visit.fetch = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--host" => visit.host = value,
            "--proxy" => visit.proxy = Some(door(&value)?),
            "--clients" => visit.clients = value.parse()?,
            "--count" => visit.count = value.parse()?,
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    if let Some(door) = &visit.proxy {
        until_open(door.address).await?;
    }
    let begin = now()?;
    if visit.proxy.is_none() {
        visit.address = tokio::net::lookup_host(&visit.host).await?.next();
    }
    let visit = Arc::new(visit);
    let mut clients = JoinSet::new();
    for _ in 0..visit.clients {
        let visit = Arc::clone(&visit);
        clients.spawn(async move {
            for _ in 0..visit.count / visit.clients {
                let mut stream = reach(&visit).await?;
                let asked = if visit.fetch { fetch(&mut stream).await } else { ask(&mut stream).await };
                asked.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    let (begin, end) = (begin.as_micros(), now()?.as_micros());
    line(&json!({ "begin_us": u64::try_from(begin)?, "end_us": u64::try_from(end)? }));
    Ok(())
}

/// The proxy of a peer may begin to listen after its sandbox has begun.
async fn until_open(door: SocketAddr) -> Result<(), Failure> {
    let until = SystemTime::now() + PATIENCE;
    while let Err(error) = TcpStream::connect(door).await {
        if SystemTime::now() > until {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn reach(visit: &Visit) -> Result<TcpStream, String> {
    let Some(door) = &visit.proxy else {
        let address = visit.address.ok_or("the host has no address")?;
        return TcpStream::connect(address).await.map_err(|error| error.to_string());
    };
    open_with(door.address, &visit.host, &door.authorization).await
}

fn door(address: &str) -> Result<Door, Failure> {
    let rest =
        address.strip_prefix("http://").ok_or("a proxy is an address with http://")?.trim_end_matches('/');
    let (words, place) = rest.rsplit_once('@').map_or((None, rest), |(words, place)| (Some(words), place));
    let authorization = words.map_or_else(String::new, |words| {
        format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(words))
    });
    Ok(Door { address: place.replace("localhost", "127.0.0.1").parse()?, authorization })
}

fn now() -> Result<Duration, Failure> {
    Ok(SystemTime::UNIX_EPOCH.elapsed()?)
}
