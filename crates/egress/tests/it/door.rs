//! An `egress` in this process, asked over its socket like the real one.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use egress::client::{Egress, EgressClientError, Listeners};
use egress::process::{EgressConfig, run};
use egress::{Authorities, make_authority};
use protocol::egress::{Budgets, Chain, Door, Ground};
use protocol::ids::{SandboxId, SessionId};
use protocol::network::NetworkRules;

/// One that runs as long as its runtime does.
pub(crate) struct Running {
    pub(crate) egress: Egress,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Starts it with these name servers.
    pub(crate) fn start(name_servers: Vec<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("egress.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server_uid = nix::unistd::geteuid().as_raw();
        tokio::spawn(run(EgressConfig {
            listener,
            server_uid,
            name_servers,
            authorities: Authorities::default(),
        }));
        Self { egress: Egress::connect(&path), _folder: folder }
    }

    /// Binds a sandbox with these listeners.
    pub(crate) async fn bind(
        &self,
        sandbox: SandboxId,
        rules: &NetworkRules,
        (doors, sockets): (Vec<Door>, Vec<OwnedFd>),
    ) -> Result<(), EgressClientError> {
        let segment = tempfile::tempfile().unwrap().into();
        let listeners = Listeners { doors, sockets, segment, chain: Chain::default() };
        let session = SessionId::from_parts(1, 2);
        let (secrets, canaries) = (Vec::new(), Vec::new());
        let ground = Ground { rules: rules.clone(), secrets, canaries, budgets: Budgets::default() };
        self.egress.bind(sandbox, session, (ground, make_authority(session).unwrap()), listeners).await
    }
}

/// A listener of a sandbox, and where it is.
pub(crate) fn listener() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}
