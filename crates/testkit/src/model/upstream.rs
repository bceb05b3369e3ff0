//! The endpoint behind a gateway: what a request reaches that somebody passed on.
//!
//! ```text
//!   model named in the body   answer
//!   plain                     "Hello there", as an event stream where that is asked for
//!   held                      the stream stops after its first delta until the gate opens
//!   busy                      429 for the first request, then as plain
//!   telltale                  an answer that holds the key of the request
//!   squeezed                  an answer that says it is compressed
//! ```

use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};
use model_gateway::scripted::Gate;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::Must as _;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Method and path with its query, such as `GET /v1/models?limit=1`.
    pub line: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub bytes: Vec<u8>,
    /// The body; null when it is no JSON.
    pub body: Value,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Passed>,
    busy: HashSet<String>,
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Seen>>,
    count: watch::Sender<usize>,
    gate: Gate,
}

/// A server of the Messages API on loopback; it stops when this is dropped.
pub struct Upstream {
    base_url: String,
    shared: Shared,
    _stop: DropGuard,
}

impl Upstream {
    /// Starts it on a free port; answers that are held come when the gate opens.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(gate: &Gate) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.must("a port");
        let base_url = format!("http://{}", listener.local_addr().must("an address"));
        let shared = Shared { seen: Arc::default(), count: watch::Sender::new(0), gate: gate.clone() };
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let stop = CancellationToken::new();
        let until = stop.clone();
        tokio::spawn(async move {
            let _ = until.run_until_cancelled(async { axum::serve(listener, router).await }).await;
        });
        Self { base_url, shared, _stop: stop.drop_guard() }
    }

    /// Where it listens.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Passed> {
        self.shared.seen().requests.clone()
    }

    /// Waits until a request came in whose body holds this text.
    ///
    /// # Panics
    /// When none does for long.
    pub async fn until_said(&self, text: &str) {
        let mut count = self.shared.count.subscribe();
        let said = |_: &usize| {
            self.requests().iter().any(|passed| String::from_utf8_lossy(&passed.bytes).contains(text))
        };
        let waited = tokio::time::timeout(crate::harness::DEADLINE, count.wait_for(said)).await;
        waited.must(&format!("a request with `{text}`")).must("an upstream that lives");
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default().to_vec();
    let line = format!("{} {}", parts.method, parts.uri);
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let number = {
        let mut seen = shared.seen();
        let passed = Passed { line, headers: parts.headers.clone(), bytes, body: body.clone() };
        seen.requests.push(passed);
        seen.requests.len()
    };
    shared.count.send_replace(number);
    let mut response = match (parts.method.as_str(), parts.uri.path()) {
        ("POST", "/v1/messages") => messages(&shared, &parts.headers, &body),
        ("POST", "/v1/messages/count_tokens") => json_answer(&json!({ "input_tokens": 17 })),
        ("GET", "/v1/models") => json_answer(
            &json!({ "data": [model("plain")], "has_more": false, "first_id": "plain", "last_id": "plain" }),
        ),
        ("GET", path) if path.starts_with("/v1/models/") => json_answer(&model(&path["/v1/models/".len()..])),
        _ => error(404, "not_found_error", "no such path"),
    };
    let headers = response.headers_mut();
    headers.insert("request-id", HeaderValue::from_str(&format!("req_{number}")).must("a header"));
    headers.insert("anthropic-ratelimit-requests-remaining", HeaderValue::from_static("7"));
    response
}

fn model(id: &str) -> Value {
    json!({ "type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z" })
}

fn json_answer(body: &Value) -> Response {
    ([("content-type", "application/json")], body.to_string()).into_response()
}

fn error(status: u16, kind: &str, message: &str) -> Response {
    let body = json!({ "type": "error", "error": { "type": kind, "message": message } });
    let status = StatusCode::from_u16(status).must("a status");
    (status, [("content-type", "application/json"), ("retry-after", "0")], body.to_string()).into_response()
}

fn messages(shared: &Shared, headers: &HeaderMap, body: &Value) -> Response {
    let name = body["model"].as_str().unwrap_or_default();
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let first_busy = name == "busy" && shared.seen().busy.insert(body.to_string());
    match name {
        "busy" if first_busy => return error(429, "rate_limit_error", "slow down"),
        "telltale" => return json_answer(&json!({ "key": key })),
        "squeezed" => {
            return ([("content-type", "application/json"), ("content-encoding", "gzip")], "squeezed")
                .into_response();
        }
        _ => {}
    }
    if body["stream"] != true {
        return json_answer(&json!({
            "type": "message", "id": "msg_1", "role": "assistant", "model": name,
            "content": [{ "type": "text", "text": "Hello there" }],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": { "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2 },
        }));
    }
    let gate = (name == "held").then(|| shared.gate.clone());
    let pieces = stream::iter(events(name)).enumerate().then(move |(index, piece)| {
        let gate = gate.clone();
        async move {
            if let (3, Some(gate)) = (index, gate) {
                gate.opened().await;
            }
            Ok::<_, io::Error>(piece)
        }
    });
    ([("content-type", "text/event-stream; charset=utf-8")], Body::from_stream(pieces)).into_response()
}

fn events(model: &str) -> Vec<String> {
    let usage = json!({ "input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2 });
    let delta = |text: &str| json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } });
    let all = [
        json!({ "type": "message_start", "message": {
            "type": "message", "id": "msg_1", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage,
        } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        delta("Hello"),
        delta(" there"),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
                "usage": { "output_tokens": 5 } }),
        json!({ "type": "message_stop" }),
    ];
    all.iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
        .collect()
}
