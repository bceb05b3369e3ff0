//! One request to the model's endpoint and its answer.
//!
//! ```text
//!  send ─▶ head ─┬─ success, event stream ─▶ head at once ─▶ each piece: metered, handed on
//!                └─ anything else ──────────▶ read whole ──▶ metered where it costs, handed on
//! ```
//!
//! It runs in a task of its own: a client that goes away does not keep what it used from being counted.
//! What was used is on record before the client has the answer's last piece.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

use super::door::{Account, MAX_BODY};
use super::headers;
use super::meter::Meter;
use super::refusal::Refusal;
use crate::error::with_causes;

/// How long an answer may be silent, and a client may leave one lying.
const IDLE: Duration = Duration::from_secs(600);

/// Pieces of an answer that wait for the client.
const WAITING: usize = 4;

/// A request that is ready to be sent.
pub(super) struct Exchange {
    pub(super) request: reqwest::RequestBuilder,
    /// The key as it may stand in an answer.
    pub(super) key: Vec<u8>,
    /// For an answer that costs.
    pub(super) meter: Option<Meter>,
    pub(super) account: Arc<dyn Account>,
    /// Held until the answer is over.
    pub(super) slot: OwnedSemaphorePermit,
    /// Held until the request is sent.
    pub(super) body: Option<OwnedSemaphorePermit>,
}

impl Exchange {
    /// Sends it; the answer, of which a stream goes on coming.
    pub(super) async fn run(self) -> Result<Response, Refusal> {
        let (head, answer) = oneshot::channel();
        tokio::spawn(async move {
            let _slot = self.slot;
            let mut conversation = Conversation { key: self.key, meter: self.meter, account: self.account };
            conversation.go(self.request, self.body, head).await;
        });
        answer.await.unwrap_or(Err(Refusal::Unusable("the gateway failed over it")))
    }
}

type Head = oneshot::Sender<Result<Response, Refusal>>;

struct Conversation {
    key: Vec<u8>,
    meter: Option<Meter>,
    account: Arc<dyn Account>,
}

impl Conversation {
    async fn go(&mut self, request: reqwest::RequestBuilder, body: Option<OwnedSemaphorePermit>, head: Head) {
        let sent = timeout(IDLE, request.send()).await;
        drop(body);
        let mut response = match sent {
            Err(_) => return drop(head.send(Err(Refusal::Silent))),
            Ok(Err(error)) => {
                let error = error.without_url();
                tracing::warn!(error = %with_causes(error.to_string(), std::error::Error::source(&error)), "a request of a sandbox did not reach the model");
                return drop(head.send(Err(Refusal::Unreachable)));
            }
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        let passed = headers::of_answer(response.headers(), &self.key);
        let costs = self.meter.is_some() && status.is_success();
        if costs && is_encoded(response.headers()) {
            let why = "it is compressed although it was asked for as it is";
            return drop(head.send(Err(Refusal::Unusable(why))));
        }
        if costs && is(response.headers(), "text/event-stream") {
            let (pieces, rest) = mpsc::channel(WAITING);
            let _ = head.send(Ok(answer(status, passed, streamed(rest))));
            self.stream(&mut response, pieces).await;
            return;
        }
        let whole = match self.whole(&mut response).await {
            Ok(whole) if costs && !is(response.headers(), "application/json") => {
                drop(whole);
                Err(Refusal::Unusable("it is neither JSON nor an event stream"))
            }
            Ok(whole) if costs => self.count_whole(&whole).await.map(|()| whole),
            other => other,
        };
        let _ = head.send(whole.map(|whole| answer(status, passed, Body::from(whole))));
    }

    /// Hands a stream on as it comes.
    async fn stream(&mut self, response: &mut reqwest::Response, pieces: mpsc::Sender<io::Result<Bytes>>) {
        let mut recorded = false;
        loop {
            let next = tokio::select! {
                next = timeout(IDLE, response.chunk()) => next,
                () = pieces.closed() => break,
            };
            let piece = match next {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => break,
                Ok(Err(_)) | Err(_) => {
                    recorded = recorded || self.record().await.is_ok();
                    let _ = pieces.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
                    break;
                }
            };
            let complete = self.meter.as_mut().map_or(Ok(true), |meter| meter.push(&piece));
            let goes_on = match complete {
                Ok(true) if !recorded => {
                    recorded = self.record().await.is_ok();
                    recorded
                }
                // What cannot be counted is not handed on.
                other => other.is_ok(),
            };
            let piece = if goes_on { Ok(piece) } else { Err(io::ErrorKind::InvalidData.into()) };
            let handed = timeout(IDLE, pieces.send(piece)).await;
            if !goes_on || !matches!(handed, Ok(Ok(()))) {
                break;
            }
        }
        if !recorded {
            // It has been told of.
            let _ = self.record().await;
        }
    }

    /// Reads an answer to its end.
    async fn whole(&self, response: &mut reqwest::Response) -> Result<Vec<u8>, Refusal> {
        let mut whole = Vec::new();
        loop {
            match timeout(IDLE, response.chunk()).await {
                Err(_) => return Err(Refusal::Silent),
                Ok(Err(_)) => return Err(Refusal::Unusable("it broke off")),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(piece))) if whole.len() + piece.len() > MAX_BODY => {
                    return Err(Refusal::Unusable("it is longer than 32 MiB"));
                }
                Ok(Ok(Some(piece))) => whole.extend_from_slice(&piece),
            }
        }
        if headers::holds(&whole, &self.key) {
            return Err(Refusal::Unusable("it holds the key of this server"));
        }
        Ok(whole)
    }

    async fn count_whole(&mut self, whole: &[u8]) -> Result<(), Refusal> {
        if let Some(meter) = &mut self.meter {
            meter.whole(whole);
        }
        self.record().await
    }

    async fn record(&self) -> Result<(), Refusal> {
        let Some(meter) = &self.meter else { return Ok(()) };
        let (model, usage) = meter.counted();
        self.account.record(model, usage).await.map_err(|reason| {
            tracing::warn!(reason, "what an agent in a sandbox used could not be recorded");
            Refusal::NoAccount
        })
    }
}

fn answer(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn streamed(mut pieces: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    Body::from_stream(stream::poll_fn(move |context| pieces.poll_recv(context)))
}

fn is(headers: &HeaderMap, kind: &str) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(kind))
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}
