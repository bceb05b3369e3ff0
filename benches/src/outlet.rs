//! The process that sandboxes reach the network through, without a server.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use egress::client::{Egress, Listeners};
use protocol::egress::{Budgets, Chain, Door, Ground};
use protocol::environment::NetworkLevel;
use protocol::ids::{SandboxId, SessionId};
use protocol::network::{NetworkRules, Rendering};
use protocol::secret::SecretUse;

use crate::Failure;
use crate::process::Process;

/// It runs as long as its process is kept.
pub(crate) struct Outlet {
    pub(crate) process: Process,
    egress: Egress,
}

/// What one sandbox is bound with.
pub(crate) struct Terms<'a> {
    pub(crate) domains: Vec<String>,
    pub(crate) secrets: Vec<SecretUse>,
    /// Its listeners, and what each is for.
    pub(crate) doors: Vec<Door>,
    pub(crate) sockets: Vec<OwnedFd>,
    /// Where its decisions are written.
    pub(crate) record: &'a Path,
}

impl Outlet {
    /// `patchyard` is the binary, without arguments; hosts may be signed for by those of this file, too.
    pub(crate) fn start(
        mut patchyard: Command,
        folder: &Path,
        authorities: Option<&Path>,
    ) -> Result<Self, Failure> {
        let socket = folder.join("egress.sock");
        let listener = OwnedFd::from(UnixListener::bind(&socket)?);
        patchyard
            .args(["internal", "egress", "--server-uid", "0", "--uid", "61879", "--gid", "61879"])
            .args(["--name-server", "93.184.216.53:53"])
            .stdin(Stdio::from(listener));
        if let Some(file) = authorities {
            patchyard.arg("--authorities").arg(file);
        }
        Ok(Self { process: patchyard.spawn()?.into(), egress: Egress::connect(&socket) })
    }

    /// Binds a sandbox; gives the certificate of who signs inside, PEM.
    pub(crate) async fn bind(
        &self,
        (sandbox, session): (SandboxId, SessionId),
        terms: Terms<'_>,
    ) -> Result<String, Failure> {
        let Terms { domains, secrets, doors, sockets, record } = terms;
        let segment = std::fs::File::options().append(true).create(true).open(record)?.into();
        let listeners = Listeners { doors, sockets, segment, chain: Chain::default() };
        let level = NetworkLevel::Custom { domains, include_default: false };
        let rules = NetworkRules::of(level, Rendering::default());
        let ground = Ground { rules, secrets, canaries: vec![], budgets: Budgets::UNLIMITED };
        let authority = egress::make_authority(session)?;
        let certificate = authority.certificate.clone();
        self.egress.bind(sandbox, session, (ground, authority), listeners).await?;
        Ok(certificate)
    }
}
