//! The life of `egress`: a socket that it was given, and the server's connections on it.
//!
//! ```text
//!   supervisor ── listening socket ─▶ run ─▶ control, one task for each connection of the server
//! ```
//!
//! When it dies its listeners die with it: every sandbox is offline until the server has bound it again.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;

use crate::authorities::Authorities;
use crate::control::Control;
use crate::host_tls::HostTls;
use crate::resolve::Names;
use crate::shards::Shards;

/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What the process is started with.
#[derive(Debug)]
pub struct EgressConfig {
    /// The listening socket for the server.
    pub listener: StdUnixListener,
    /// The server's user: nobody else may ask.
    pub server_uid: u32,
    /// Name servers to ask; those of the system where there are none.
    pub name_servers: Vec<SocketAddr>,
    /// Authorities that hosts may be signed by whose connections are opened.
    pub authorities: Authorities,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// Its socket.
    #[error("egress cannot listen for the server: {0}")]
    Listen(#[source] std::io::Error),
    /// Its resolver.
    #[error(
        "egress cannot resolve names: {0}; see the name servers of the system, or [network] name_servers"
    )]
    Names(#[source] std::io::Error),
    /// Its threads.
    #[error("egress cannot start its threads: {0}")]
    Threads(#[source] std::io::Error),
    /// Its TLS.
    #[error("egress cannot prepare TLS: {0}")]
    Tls(#[source] tokio_rustls::rustls::Error),
}

/// Runs until it fails or this future is dropped.
///
/// # Errors
///
/// When it cannot begin.
pub async fn run(config: EgressConfig) -> Result<(), EgressError> {
    config.listener.set_nonblocking(true).map_err(EgressError::Listen)?;
    let listener = UnixListener::from_std(config.listener).map_err(EgressError::Listen)?;
    let names = Names::of(&config.name_servers).map_err(EgressError::Names)?;
    let host_tls = HostTls::new(&config.authorities).map_err(EgressError::Tls)?;
    let shards = Shards::start().map_err(EgressError::Threads)?;
    let control = Arc::new(Control::new(names, host_tls, shards));
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == config.server_uid) => {
                    let control = Arc::clone(&control);
                    tokio::spawn(async move {
                        if let Err(error) = control.converse(stream).await {
                            tracing::debug!(%error, "a connection of the server ended");
                        }
                    });
                }
                Ok(_) => tracing::warn!("a connection of another user than the server's was refused"),
                Err(error) => {
                    tracing::warn!(%error, "a connection of the server could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::join!(accepting, control.sync()).0
}
