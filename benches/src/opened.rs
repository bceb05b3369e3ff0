//! What a connection costs the proxy that it opens: greeted as its host, greeting the host, one request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Failure;
use crate::figure::{line, round};
use crate::proxies::{OPENED, Opening, Proxy};
use crate::tunnels::open;

const ROUNDS: usize = 5;

/// Connections of each sandbox in a round; they may begin 50 a second.
const IN_A_ROUND: usize = 25;

pub(crate) async fn measure(proxy: &Proxy, openings: &[Opening]) -> Result<(), Failure> {
    let clients: Vec<_> = openings.iter().map(client).collect::<Result<_, _>>()?;
    let mut cost = Vec::new();
    // The first round makes the certificates.
    for round in 0..=ROUNDS {
        let before = proxy.process.cpu();
        for _ in 0..IN_A_ROUND {
            for (opening, client) in openings.iter().zip(&clients) {
                request(opening, client).await?;
            }
        }
        #[expect(clippy::cast_precision_loss)]
        let us = (proxy.process.cpu() - before) / (IN_A_ROUND * openings.len()) as f64 * 1e6;
        if round > 0 {
            cost.push(us);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    cost.sort_by(f64::total_cmp);
    line(&json!({
        "figure": "CPU of a new opened connection, with one request", "proxy": proxy.name,
        "us": round(cost[ROUNDS / 2]), "least_us": round(cost[0]), "most_us": round(cost[ROUNDS - 1]),
        "budget": "≤ 600 us",
    }));
    Ok(())
}

/// What a program of this sandbox greets hosts with; nothing is remembered between two connections.
fn client(opening: &Opening) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(opening.authority.as_bytes())?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn request(opening: &Opening, client: &TlsConnector) -> Result<Duration, Failure> {
    let since = Instant::now();
    let stream = open(opening.door, OPENED).await?;
    let host = OPENED.split(':').next().unwrap_or_default();
    let mut stream = client.connect(ServerName::try_from(host)?.to_owned(), stream).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {OPENED}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(&answer).into_owned().into());
    }
    Ok(since.elapsed())
}
