//! Running the server process: bind, wire, recover, serve, stop.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::environment::EnvironmentSettings;
use store::{Access, Store, StoreError};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::router::router;
use crate::wiring::{ModelEnvironment, WiringError, wire};

/// What the server process is started with.
#[derive(Debug)]
pub struct ServerOptions {
    /// Where requests come in; bound by the supervisor, so that it outlives a crash of the server.
    pub listener: std::net::TcpListener,
    /// The data directory.
    pub data: PathBuf,
    /// The socket of `sandbox-host`.
    pub host_socket: PathBuf,
    /// Where `egress` listens.
    pub egress_socket: PathBuf,
    /// The configuration.
    pub config: Config,
    /// What the environment says about the model.
    pub model: ModelEnvironment,
}

/// What a person needs to know once the server accepts requests.
#[derive(Debug, Clone)]
pub struct Announce {
    /// Where it listens.
    pub address: SocketAddr,
    /// The one-time address that signs a browser in.
    pub login_url: String,
    /// The same for a terminal on another machine or of another account; `patchyard login` takes it.
    pub terminal_login: String,
    /// What is missing for sessions to work.
    pub missing: Vec<String>,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why, and what to do.
        reason: String,
    },
    /// A part.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Recovery.
    #[error("the sessions could not be recovered")]
    Recover(#[source] session::SessionError),
    /// The token file.
    #[error("cannot write the token file {}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Serving.
    #[error("the server stopped")]
    Serve(#[source] std::io::Error),
}

/// Runs until `stop` ends, then lets turns end and takes the sandboxes down. `announce` is called
/// once, when requests are accepted.
pub async fn run(
    options: ServerOptions,
    announce: impl FnOnce(Announce),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    options.listener.set_nonblocking(true).map_err(RunError::Serve)?;
    let listener = TcpListener::from_std(options.listener).map_err(RunError::Serve)?;
    let address = listener.local_addr().map_err(RunError::Serve)?;
    let hosts = hosts(address, &options.config.server.hosts);
    let state = wire(
        &options.data,
        (&options.host_socket, &options.egress_socket),
        &options.config,
        &options.model,
        hosts,
    )
    .await?;
    write_token_file(&options.data, &state.store).await?;
    let default = default_environment(&options.config);
    state.sessions.ensure_default_environment(default).await.map_err(RunError::Recover)?;
    state.sessions.recover().await.map_err(RunError::Recover)?;
    let login = async || {
        let code = state.store.grant(Access::Code, "login").await?;
        Ok::<_, StoreError>(format!("http://{address}/login#{code}"))
    };
    let (login_url, terminal_login) = (login().await?, login().await?);
    announce(Announce { address, login_url, terminal_login, missing: state.settings.missing.clone() });

    let (sessions, stopping) = (state.sessions.clone(), state.stopping.clone());
    let ends = stopping.clone();
    let shut_down = async move {
        stop.await;
        // While turns end, their viewers still see it; then the streams end too.
        sessions.shut_down().await;
        ends.cancel();
    };
    // Made once: a router as it is would be copied for each connection, all its routes with it, which is most of what a
    // viewer costs.
    let routes = router(state).into_make_service();
    let served = axum::serve(listener, routes).with_graceful_shutdown(shut_down).await;
    stopping.cancel();
    served.map_err(RunError::Serve)
}

/// The environment that a new server begins with.
fn default_environment(config: &Config) -> EnvironmentSettings {
    EnvironmentSettings {
        image: config.sandbox.image.clone(),
        limits: config.limits(),
        ..EnvironmentSettings::named("default")
    }
}

/// Binds the address that requests come in on.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, RunError> {
    std::net::TcpListener::bind(address).map_err(|source| {
        let reason = match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                "the port is in use; stop the other program, or choose another with --listen".to_owned()
            }
            std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need root".to_owned(),
            _ => source.to_string(),
        };
        RunError::Listen { address, reason }
    })
}

/// `Host` values that mean this server.
fn hosts(address: SocketAddr, more: &[String]) -> Vec<String> {
    let port = address.port();
    let mut names = vec![match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }];
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        names.extend(["localhost", "127.0.0.1", "[::1]"].map(ToOwned::to_owned));
    }
    names.extend_from_slice(more);
    let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
    // Clients leave HTTP's own port out; a configured name may be behind a proxy with any port.
    if port == 80 {
        hosts.extend(names);
    } else {
        hosts.extend_from_slice(more);
    }
    hosts
}

/// The owner-only file that signs this machine's own account in.
async fn write_token_file(data: &Path, store: &Store) -> Result<(), RunError> {
    let path = data.join("token");
    if let Ok(token) = tokio::fs::read_to_string(&path).await
        && store.identify(Access::Token, token.trim()).await?.is_some()
    {
        return Ok(());
    }
    let token = store.grant(Access::Token, "this machine").await?;
    let written = std::fs::remove_file(&path)
        .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        .and_then(|()| std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))
        .and_then(|mut file| std::io::Write::write_all(&mut file, token.as_bytes()));
    written.map_err(|source| RunError::TokenFile { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_without_the_port_only_where_clients_leave_it_out() {
        let more = ["yard.example.org".to_owned()];
        let on = |address: &str| hosts(address.parse().unwrap(), &more);
        let usual = on("127.0.0.1:7878");
        for name in ["127.0.0.1:7878", "localhost:7878", "yard.example.org", "yard.example.org:7878"] {
            assert!(usual.iter().any(|host| host == name), "{name} in {usual:?}");
        }
        assert!(!usual.iter().any(|host| host == "localhost" || host == "127.0.0.1"), "{usual:?}");
        for (address, name) in [
            ("127.0.0.1:80", "localhost"),
            ("127.0.0.1:80", "localhost:80"),
            ("[::1]:80", "[::1]"),
            ("192.0.2.7:80", "192.0.2.7"),
            ("192.0.2.7:80", "yard.example.org"),
        ] {
            assert!(on(address).iter().any(|host| host == name), "{name} on {address}");
        }
        assert!(!on("192.0.2.7:80").iter().any(|host| host == "localhost"));
    }
}
