//! git's own server program as one answers HTTP with it, and a listener that speaks TLS.
//!
//! ```text
//!  request ── environment, standard input ──▶ git http-backend ──▶ header lines, body ──▶ response
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header;
use axum::response::Response;
use axum::serve::Listener;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections over TLS.
pub(crate) struct Tls {
    pub(crate) listener: TcpListener,
    pub(crate) tls: TlsAcceptor,
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

/// The answer of git to a request; who has signed in may push.
pub(crate) async fn cgi(root: &Path, signed_in: bool, request: Request) -> io::Result<Response> {
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
