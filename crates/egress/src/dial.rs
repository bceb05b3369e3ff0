//! Connections to the addresses that were found good, and to no others.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::upstream::Hop;

/// How long all tries together may take, and one of them while there are others.
const PATIENCE: Duration = Duration::from_secs(10);
const ONE: Duration = Duration::from_secs(3);

/// Where a host is dialled.
#[derive(Debug)]
pub(crate) enum Addresses {
    /// At its own ones.
    Found(Vec<SocketAddr>),
    /// Through another proxy, which finds them.
    Behind(Hop),
}

impl Addresses {
    /// Those that are known.
    pub(crate) fn found(&self) -> Vec<IpAddr> {
        match self {
            Self::Found(addresses) => addresses.iter().map(SocketAddr::ip).collect(),
            Self::Behind(_) => Vec::new(),
        }
    }
}

/// Connects to the first that answers.
pub(crate) async fn dial(addresses: &Addresses) -> Option<(TcpStream, SocketAddr)> {
    let addresses = match addresses {
        Addresses::Found(addresses) => addresses,
        Addresses::Behind(hop) => return timeout(PATIENCE, hop.connect()).await.ok()?.ok(),
    };
    let until = Instant::now() + PATIENCE;
    for (at, address) in addresses.iter().enumerate() {
        let last = at + 1 == addresses.len();
        let limit = if last { until } else { until.min(Instant::now() + ONE) };
        let Ok(Ok(stream)) = timeout_at(limit, TcpStream::connect(*address)).await else { continue };
        // What answers has to be what was checked.
        if stream.peer_addr().is_ok_and(|peer| peer == *address) {
            let _ = stream.set_nodelay(true);
            return Some((stream, *address));
        }
    }
    None
}
