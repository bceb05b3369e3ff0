//! The HTTP server that plays a model.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::events::{error_event, render};
use super::reply::{Fault, Gate, Reply};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Call {
    /// Counts the requests of the server, from 1.
    pub serial: u64,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub bytes: Bytes,
    /// The body; null when it is no JSON.
    pub body: Value,
}

/// Decides what the model says.
pub trait Player: Send + Sync + 'static {
    /// The answer to one request.
    fn play(&self, call: &Call) -> Reply;
}

/// A server on a free port of the loopback interface; it stops when this is dropped.
#[derive(Debug)]
pub struct ScriptedServer {
    base_url: String,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Shared {
    player: Arc<dyn Player>,
    serial: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl ScriptedServer {
    /// Starts it on the current runtime.
    pub async fn start(player: Arc<dyn Player>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let shared = Shared { player, serial: Arc::default(), stop: stop.clone() };
        let router = Router::new()
            .route("/v1/messages", post(messages))
            .fallback(not_found)
            .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(shared);
        let until = stop.clone();
        tokio::spawn(async move {
            let serve =
                axum::serve(listener, router).with_graceful_shutdown(async move { until.cancelled().await });
            if let Err(error) = serve.await {
                tracing::warn!(%error, "the scripted model's server ended");
            }
        });
        Ok(Self { base_url, stop })
    }

    /// Where it listens, such as `http://127.0.0.1:4711`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn not_found() -> Response {
    api_error(StatusCode::NOT_FOUND, "not_found_error", "no such path")
}

async fn messages(State(shared): State<Shared>, headers: HeaderMap, bytes: Bytes) -> Response {
    let serial = shared.serial.fetch_add(1, Ordering::Relaxed) + 1;
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    let call = Call { serial, headers, bytes, body };
    let reply = shared.player.play(&call);
    match reply.fault {
        Some(Fault::Http { status, kind, message, headers }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = api_error(status, &kind, &message);
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
        Some(Fault::Raw { status, content_type, body }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            (status, [("content-type", content_type)], body).into_response()
        }
        _ => {
            let acts = acts(&reply, &call);
            let headers =
                [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")];
            (headers, perform(acts, shared.stop)).into_response()
        }
    }
}

fn api_error(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({ "type": "error", "error": { "type": kind, "message": message } });
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

/// What the stream does next.
enum Act {
    Send(Vec<u8>),
    Pause(Duration),
    Wait(Gate),
    Cut,
}

fn acts(reply: &Reply, call: &Call) -> VecDeque<Act> {
    let mut events = render(reply, &call.body, call.serial);
    let mut budget = usize::MAX;
    let mut broken = false;
    match &reply.fault {
        Some(Fault::StreamError { after_events, kind, message }) => {
            events.truncate(*after_events);
            events.push(error_event(kind, message));
        }
        Some(Fault::MalformedAfter { events: count }) => {
            events.truncate(*count);
            events.push("event: content_block_delta\ndata: {\"type\": \"content_bl\n\n".into());
        }
        Some(Fault::CutAfter { bytes }) => {
            budget = *bytes;
            broken = true;
        }
        _ => {}
    }
    let mut acts = VecDeque::new();
    for (index, event) in events.into_iter().enumerate() {
        if let Some((at, gate)) = &reply.hold
            && *at == index
        {
            acts.push_back(Act::Wait(gate.clone()));
        }
        let part = event.len().min(budget);
        budget -= part;
        if part > 0 {
            acts.push_back(Act::Send(event.as_bytes()[..part].to_vec()));
        }
        if !reply.pause.is_zero() {
            acts.push_back(Act::Pause(reply.pause));
        }
    }
    if broken {
        acts.push_back(Act::Cut);
    }
    acts
}

fn perform(acts: VecDeque<Act>, stop: CancellationToken) -> Body {
    Body::from_stream(stream::unfold((acts, stop), |(mut acts, stop)| async move {
        loop {
            let next = match acts.pop_front()? {
                Act::Send(bytes) => Ok(bytes),
                Act::Pause(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Act::Wait(gate) => match stop.run_until_cancelled(gate.opened()).await {
                    Some(()) => continue,
                    None => Err(io::Error::other("the scripted model stopped")),
                },
                Act::Cut => {
                    // Lets the connection flush what was sent before it is torn down.
                    tokio::task::yield_now().await;
                    Err(io::Error::other("cut on purpose"))
                }
            };
            return Some((next, (acts, stop)));
        }
    }))
}
