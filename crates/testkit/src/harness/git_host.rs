//! A git server on loopback: what a forge is to patchyard.
//!
//! ```text
//!  git ── HTTP, or HTTPS with a password ──▶ axum ── CGI ──▶ git http-backend ──▶ <root>/<name>.git
//!                                            └─ git_lfs ──▶ large files
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::git_backend::{Tls, cgi};
use super::git_lfs::{Lfs, LfsFault};
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
    address: String,
    lfs: Lfs,
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
        let address = format!("{scheme}://127.0.0.1:{port}");
        let site = Arc::new(Site {
            root: root.path().to_owned(),
            address: address.clone(),
            lfs: Lfs::default(),
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
        Self { root, address, site, _stop: stop.drop_guard() }
    }

    /// Serves a copy of a repository, and gives its address.
    pub fn publish(&self, repo: &Repo) -> String {
        self.publish_as(repo, &repo.name())
    }

    /// The same under another name, such as `team/thing`.
    pub fn publish_as(&self, repo: &Repo, name: &str) -> String {
        let bare = self.bare(name);
        repo.git(&["clone", "--quiet", "--bare", &repo.arg(), &bare.display().to_string()]);
        format!("{}/{name}.git", self.address)
    }

    /// Keeps a large file; its name.
    pub fn keep_large(&self, content: &[u8]) -> String {
        self.site.lfs.put(content)
    }

    /// Whether there is a large file of this name.
    #[must_use]
    pub fn has_large(&self, oid: &str) -> bool {
        self.site.lfs.has(oid)
    }

    /// The large files that were said to be sent.
    #[must_use]
    pub fn verified_large(&self) -> Vec<String> {
        self.site.lfs.verified()
    }

    /// What is wrong with large files from now on.
    pub fn fail_large(&self, fault: LfsFault) {
        self.site.lfs.fail(fault);
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

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    lock(&site.asked).push(GitRequest { line: line.clone(), headers: request.headers().clone() });
    if let Some(path) = request.uri().path().strip_prefix("/_lfs/").map(ToOwned::to_owned) {
        return site.lfs.object(&path, request).await;
    }
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
    if request.uri().path().ends_with("/info/lfs/objects/batch") {
        return site.lfs.batch(&site.address, request).await;
    }
    match cgi(&site.root, given.is_some(), request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
