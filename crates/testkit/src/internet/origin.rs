//! Hosts of an internet: those that answer, and those that must never hear anything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::websocket;
use crate::harness::Must as _;

/// An authority that signs the certificates of a test.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate, as a file has it.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One of its own.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn make() -> Self {
        let key = KeyPair::generate().must("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority for tests");
        let pem = params.self_signed(&key).must("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn acceptor(&self, host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().must("a key");
        let params = CertificateParams::new([host.to_owned()]).must("a name");
        let certificate = params.signed_by(&key, &self.issuer).must("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .must("protocols")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        TlsAcceptor::from(Arc::new(config.must("a configuration")))
    }
}

/// A host that answers every request with `hello from NAME`, or with the request itself where its path has
/// `echo` in it, or sends elsewhere, to what follows `away=` in it, or by a WebSocket where one is asked for;
/// and remembers what came.
#[derive(Debug, Clone)]
pub struct Origin {
    requests: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// Answers plain requests.
    #[must_use]
    pub fn plain(listener: TcpListener, name: &str) -> Self {
        Self::serve(listener, name, None)
    }

    /// Answers over TLS.
    #[must_use]
    pub fn tls(listener: TcpListener, name: &str, authority: &Authority) -> Self {
        Self::serve(listener, name, Some(authority.acceptor(name)))
    }

    fn serve(listener: TcpListener, name: &str, tls: Option<TlsAcceptor>) -> Self {
        let this = Self { requests: Arc::default() };
        let (requests, name) = (Arc::clone(&this.requests), name.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, name, tls) = (Arc::clone(&requests), name.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &name, &requests).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &name, &requests).await;
                            }
                        }
                    }
                });
            }
        });
        this
    }

    /// The requests that came: head and body, as they came.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, name: &str, requests: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while !is_whole(&request) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    if request.is_empty() {
        return;
    }
    let remember = |bytes: &[u8]| {
        requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(String::from_utf8_lossy(bytes).into_owned());
    };
    remember(&request);
    let text = text_of(&request);
    if websocket::is_asked_for(&text) {
        return websocket::serve(stream, &text).await;
    }
    let echo = text.lines().next().is_some_and(|line| line.contains("/echo"));
    let body = if echo { text } else { format!("hello from {name}\n") };
    let away = text_of(&request).split_once("away=").map(|(_, rest)| rest.to_owned());
    let away = away.and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
    let status = away.map_or("200 OK".to_owned(), |to| format!("307 Temporary Redirect\r\nlocation: {to}"));
    let said =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(said.as_bytes()).await;
    let _ = stream.shutdown().await;
    // What else is sent on the connection is remembered, too.
    let mut more = Vec::new();
    let _ = stream.take(64 * 1024).read_to_end(&mut more).await;
    if !more.is_empty() {
        remember(&more);
    }
}

fn text_of(request: &[u8]) -> String {
    String::from_utf8_lossy(request).into_owned()
}

/// Whether head and body are there.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
    let body = &bytes[at + 4..];
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with(b"0\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// A host that nothing may ever reach.
#[derive(Debug, Clone, Default)]
pub struct Sink(Arc<AtomicUsize>);

impl Sink {
    /// Counts what comes to this listener, too.
    pub fn watch(&self, listener: TcpListener) {
        let count = Arc::clone(&self.0);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }

    /// How often it was reached.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
