//! A git server on loopback: what a forge is to patchyard.
//!
//! ```text
//!  git ── HTTP ──▶ axum ── CGI ──▶ git http-backend ──▶ <root>/<name>.git
//! ```

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::must::Must as _;
use super::repo::Repo;

/// A server of bare repositories; it stops when this is dropped.
#[derive(Debug)]
pub struct GitHost {
    root: Arc<TempDir>,
    port: u16,
    _stop: DropGuard,
}

impl GitHost {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start() -> Self {
        let root = Arc::new(tempfile::tempdir().must("a temporary folder"));
        let listener = TcpListener::bind("127.0.0.1:0").await.must("a port");
        let port = listener.local_addr().must("an address").port();
        let router = Router::new().fallback(answer).with_state(root.path().to_owned());
        let stop = CancellationToken::new();
        let until = stop.clone();
        tokio::spawn(async move {
            let serve =
                axum::serve(listener, router).with_graceful_shutdown(async move { until.cancelled().await });
            let _ = serve.await;
        });
        Self { root, port, _stop: stop.drop_guard() }
    }

    /// Serves a copy of a repository, and gives its address.
    pub fn publish(&self, repo: &Repo) -> String {
        let bare = self.root.path().join(format!("{}.git", repo.name()));
        repo.git(&["clone", "--quiet", "--bare", &repo.arg(), &bare.display().to_string()]);
        format!("http://127.0.0.1:{}/{}.git", self.port, repo.name())
    }
}

async fn answer(State(root): State<PathBuf>, request: Request) -> Response {
    match cgi(root, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn cgi(root: PathBuf, request: Request) -> std::io::Result<Response> {
    let (parts, body) = request.into_parts();
    let text = |name: header::HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(std::io::Error::other)?;
    let mut child = Command::new("git")
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
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&body).await?;
    }
    let output = child.wait_with_output().await?;
    Ok(from_cgi(output.stdout))
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
