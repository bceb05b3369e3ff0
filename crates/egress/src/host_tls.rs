//! TLS to a host whose connections are opened: its certificate has to be good for the very host that the
//! rules allow.

use std::sync::Arc;

use policy::host::Host;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::authorities::Authorities;

/// Which authorities hosts may be signed by.
#[derive(Clone)]
pub(crate) struct HostTls(Arc<ClientConfig>);

impl std::fmt::Debug for HostTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostTls(…)")
    }
}

impl HostTls {
    /// With these authorities; those that cannot be read are left out.
    pub(crate) fn new(authorities: &Authorities) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.certificates().iter().cloned());
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Greets a host.
    pub(crate) async fn greet(
        &self,
        host: &Host,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = match host {
            Host::Dns(_) => ServerName::try_from(host.to_string()).map_err(std::io::Error::other)?,
            Host::V4(address) => ServerName::from(std::net::IpAddr::V4(*address)),
            Host::V6(address) => ServerName::from(std::net::IpAddr::V6(*address)),
        };
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}
