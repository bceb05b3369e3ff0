//! Connections to the addresses that were found good, and to no others.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long all tries together may take, and one of them while there are others.
const PATIENCE: Duration = Duration::from_secs(10);
const ONE: Duration = Duration::from_secs(3);

/// Connects to the first that answers.
pub(crate) async fn dial(addresses: &[SocketAddr]) -> Option<(TcpStream, SocketAddr)> {
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
