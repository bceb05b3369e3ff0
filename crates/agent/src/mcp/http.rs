//! The way to a server that speaks HTTP: out of the sandbox, under its rules.
//!
//! ```text
//!  protocol ─ HTTP client, TLS ─ socket in a private folder ═ Pump ═ `patchyard-guest dial host:port` in the sandbox
//!                                                                        ├─ CONNECT ─▶ 127.0.0.1:3128, the egress policy
//!                                                                        └─ a server on the sandbox's own loopback
//! ```
//!
//! So a host is allowed, refused, asked about and recorded as for every program inside. TLS begins and ends in this
//! process, which trusts what programs inside trust: the machine's authorities, the operator's and the session's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use protocol::hands::{ExecSpec, Hands};
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use url::Url;

use super::wire::{Pump, Wire};
use crate::tools::new_exec;

/// Connections of one server at a time.
const CONNECTIONS: usize = 8;

/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(20);

/// The largest answer, whole or as one event.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What there is on the way.
pub(super) struct Way {
    pub(super) transport: StreamableHttpClientTransport<reqwest::Client>,
    /// Gone with the folder of the socket.
    pub(super) folder: TempDir,
}

/// An address that a server may have, in its one form.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("its address is none ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its address begins with neither http:// nor https://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its address names a user; use a header".into());
    }
    Ok(url)
}

/// Opens the way; nothing is dialled yet.
pub(super) fn open(
    hands: &Arc<dyn Hands>,
    guest_program: &[String],
    url: &Url,
    headers: &BTreeMap<String, String>,
    authorities: &[String],
    wire: &Wire,
) -> Result<Way, String> {
    let (host, port) = match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => (host, port),
        _ => return Err("its address has no host".into()),
    };
    let failed = |error: std::io::Error| format!("no socket can be made: {error}");
    // Only the account of this process can enter it.
    let folder = tempfile::Builder::new().prefix("patchyard-mcp-").tempdir().map_err(failed)?;
    let path = folder.path().join("http");
    let listener = UnixListener::bind(&path).map_err(failed)?;
    let words = ["dial".to_owned(), format!("{host}:{port}")];
    let dial = guest_program.iter().cloned().chain(words).collect();
    tokio::spawn(accept(listener, Arc::clone(hands), dial, wire.clone()));
    let mut client = reqwest::Client::builder()
        .unix_socket(path)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("patchyard/", env!("CARGO_PKG_VERSION")));
    for pem in authorities {
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
        let certificates = certificates.map_err(|error| format!("an authority cannot be read: {error}"))?;
        client = client.tls_certs_merge(certificates);
    }
    let client = client.build().map_err(|error| format!("no HTTP client can be made: {error}"))?;
    let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
        .custom_headers(read_headers(headers)?)
        .max_sse_event_size(MAX_ANSWER)
        .max_json_response_size(MAX_ANSWER);
    let transport = StreamableHttpClientTransport::with_client(client, config);
    Ok(Way { transport, folder })
}

fn read_headers(headers: &BTreeMap<String, String>) -> Result<HashMap<HeaderName, HeaderValue>, String> {
    let read = |(name, value): (&String, &String)| {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| "a header has a name that is none".to_owned())?;
        // Its value may be a secret.
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| format!("the header `{name}` has a value that is none"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    headers.iter().map(read).collect()
}

async fn accept(listener: UnixListener, hands: Arc<dyn Hands>, dial: Vec<String>, wire: Wire) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = tokio::select! {
            () = wire.kill.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => return,
            },
        };
        // One too many is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (hands, dial, wire) = (Arc::clone(&hands), dial.clone(), wire.clone());
        tokio::spawn(async move {
            carry(stream, &*hands, dial, wire).await;
            drop(place);
        });
    }
}

async fn carry(stream: UnixStream, hands: &dyn Hands, dial: Vec<String>, wire: Wire) {
    let spec = ExecSpec { stdin: true, ..ExecSpec::new(new_exec(), dial, "/") };
    match hands.start(spec).await {
        Ok(execution) => Pump { execution, stream, wire }.run().await,
        Err(error) => wire.note(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form_and_name_nobody() {
        assert_eq!(
            address("HTTPS://API.example.org:443/mcp").unwrap().as_str(),
            "https://api.example.org/mcp"
        );
        for (text, words) in [
            ("api.example.org", "none"),
            ("file:///etc/passwd", "neither"),
            ("https://me@a.org/", "names a user"),
            ("https://:pw@a.org/", "names a user"),
            ("${URL}", "none"),
        ] {
            assert!(address(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn a_header_that_is_none_is_refused_without_its_value() {
        let refused = |name: &str, value: &str| {
            read_headers(&BTreeMap::from([(name.to_owned(), value.to_owned())])).unwrap_err()
        };
        assert!(!refused("x-key", "s3cret\n").contains("s3cret"));
        assert!(!refused("x key", "s3cret").contains("s3cret"));
    }
}
