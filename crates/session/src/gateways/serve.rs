//! HTTP on a listener of a sandbox.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use egress::listener::Listener;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Answering;

/// How many connections a door has at a time; more wait in the kernel.
const CONNECTIONS: usize = 64;

/// The longest head of a request.
const MAX_HEAD: usize = 64 * 1024;

/// How long a head may take to come, and a connection may lie idle.
const HEAD: Duration = Duration::from_secs(60);

/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves a door until it is `gone`.
pub(super) fn open(socket: OwnedFd, answering: Answering, gone: CancellationToken) -> io::Result<()> {
    let listener = Listener::of(socket)?;
    tokio::spawn(async move {
        gone.run_until_cancelled(connections(listener, Arc::new(answering), &gone)).await;
    });
    Ok(())
}

async fn connections(listener: Listener, answering: Arc<Answering>, gone: &CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection to a gateway could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (answering, gone) = (Arc::clone(&answering), gone.clone());
        tokio::spawn(async move {
            let _place = place;
            gone.run_until_cancelled(connection(stream, answering)).await;
        });
    }
}

async fn connection(stream: TcpStream, answering: Arc<Answering>) {
    // Small pieces of a stream are worth most when they are new.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let answering = Arc::clone(&answering);
        async move {
            if length_of_head(&request) > MAX_HEAD {
                return Ok(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response());
            }
            Ok::<_, Infallible>(answering.answer(request.map(Body::new)).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to a gateway ended");
    }
}

/// About the length of a request's head; the buffer that it is read into may hold a little more than it
/// should.
fn length_of_head<T>(request: &hyper::Request<T>) -> usize {
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    request.headers().iter().fold(line, |sum, (name, value)| sum + name.as_str().len() + value.len() + 4)
}
