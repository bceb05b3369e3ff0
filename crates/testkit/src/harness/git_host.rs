//! A git server on loopback: what a forge is to patchyard.
//!
//! ```text
//!  git ── HTTP, or HTTPS with a password ──▶ axum ── CGI ──▶ git http-backend ──▶ <root>/<name>.git
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::must::Must as _;
use super::repo::Repo;
use crate::internet::Authority;

/// A server of bare repositories; it stops when this is dropped.
#[derive(Debug)]
pub struct GitHost {
    root: TempDir,
    address: String,
    site: Arc<Site>,
    _stop: DropGuard,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct GitRequest {
    /// Method, path and query.
    pub line: String,
    /// Its fields.
    pub headers: HeaderMap,
}

#[derive(Debug)]
struct Site {
    root: PathBuf,
    /// The value of `Authorization` without which nothing is served.
    wanted: Mutex<Option<String>>,
    asked: Mutex<Vec<GitRequest>>,
    /// What is answered instead: to requests whose line has this in it, status and place.
    instead: Mutex<Option<(String, u16, String)>>,
}

impl GitHost {
    /// Starts one that everybody may read, on a free port.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start() -> Self {
        Self::serve(None, None).await
    }

    /// Starts one over TLS, where nothing can be had without `Authorization: Basic` and these words in
    /// base64. Pushes are taken.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn private(authority: &Authority, basic: &str) -> Self {
        Self::serve(Some(authority.acceptor("127.0.0.1")), Some(format!("Basic {basic}"))).await
    }

    async fn serve(tls: Option<TlsAcceptor>, wanted: Option<String>) -> Self {
        let root = tempfile::tempdir().must("a temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.must("a port");
        let port = listener.local_addr().must("an address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let site = Arc::new(Site {
            root: root.path().to_owned(),
            wanted: Mutex::new(wanted),
            asked: Mutex::default(),
            instead: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&site));
        let stop = CancellationToken::new();
        let until = stop.clone();
        tokio::spawn(async move {
            let ended = async move { until.cancelled().await };
            let _ = match tls {
                None => axum::serve(listener, router).with_graceful_shutdown(ended).await,
                Some(tls) => axum::serve(Tls { listener, tls }, router).with_graceful_shutdown(ended).await,
            };
        });
        Self { root, address: format!("{scheme}://127.0.0.1:{port}"), site, _stop: stop.drop_guard() }
    }

    /// Serves a copy of a repository, and gives its address.
    pub fn publish(&self, repo: &Repo) -> String {
        let bare = self.bare(&repo.name());
        repo.git(&["clone", "--quiet", "--bare", &repo.arg(), &bare.display().to_string()]);
        format!("{}/{}.git", self.address, repo.name())
    }

    /// Where a repository of this name is.
    #[must_use]
    pub fn bare(&self, name: &str) -> PathBuf {
        self.root.path().join(format!("{name}.git"))
    }

    /// Its address without anything behind it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What came so far.
    #[must_use]
    pub fn requests(&self) -> Vec<GitRequest> {
        lock(&self.site.asked).clone()
    }

    /// Other words that are wanted in base64 from now on.
    pub fn want(&self, basic: &str) {
        *lock(&self.site.wanted) = Some(format!("Basic {basic}"));
    }

    /// Answers requests whose line has `part` in it with a status, and a place where it is a redirect.
    pub fn instead(&self, part: &str, status: u16, place: &str) {
        *lock(&self.site.instead) = Some((part.to_owned(), status, place.to_owned()));
    }

    /// Answers as it did before [`Self::instead`].
    pub fn as_usual(&self) {
        *lock(&self.site.instead) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Tls {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    lock(&site.asked).push(GitRequest { line: line.clone(), headers: request.headers().clone() });
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes().to_vec());
    let wanted = lock(&site.wanted).clone();
    if wanted.is_some_and(|wanted| given.as_deref() != Some(wanted.as_bytes())) {
        let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, realm).into_response();
    }
    let instead = lock(&site.instead).clone();
    if let Some((_, status, place)) = instead.filter(|(part, ..)| line.contains(part)) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return (status, [(header::LOCATION, place)]).into_response();
    }
    match cgi(&site.root, given.is_some(), request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn cgi(root: &Path, signed_in: bool, request: Request) -> io::Result<Response> {
    let (parts, body) = request.into_parts();
    let text = |name: header::HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(io::Error::other)?;
    let mut command = Command::new("git");
    if signed_in {
        // Who has a name may push.
        command.env("REMOTE_USER", "signed-in");
    }
    let mut child = command
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("CONTENT_TYPE", text(header::CONTENT_TYPE))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING))
        .env("GIT_PROTOCOL", text(header::HeaderName::from_static("git-protocol")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let stdin = child.stdin.take();
    let write = async move {
        if let Some(mut stdin) = stdin {
            // One that says no early does not read it all.
            let _ = stdin.write_all(&body).await;
        }
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    Ok(from_cgi(output?.stdout))
}

/// Header lines, an empty line, the body.
fn from_cgi(output: Vec<u8>) -> Response {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let rest = output.get(end + 4..).unwrap_or_default().to_vec();
    let mut response = Response::builder();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap_or("500")),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(Bytes::from(rest))).unwrap_or_default()
}
