//! The gateway, and the door that each sandbox has to it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use protocol::usage::Usage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::endpoint::Endpoint;
use super::exchange::Exchange;
use super::meter::Meter;
use super::needs::{Allowed, Asked};
use super::refusal::Refusal;
use crate::client::{credential, on_the_way};
use crate::config::{Auth, ModelConfig};
use crate::error::ModelError;

/// The longest body, of a request and of an answer that is read whole.
pub(super) const MAX_BODY: usize = 32 * 1024 * 1024;

/// How many requests of a sandbox may be under way.
const AT_ONCE: usize = 16;

/// How many KiB of bodies a sandbox may have on their way at a time: the longest one twice.
const KIB_AT_ONCE: usize = 2 * MAX_BODY / 1024;

/// How long a body may take to come.
const COMING: Duration = Duration::from_secs(120);

/// Where the usage of a session is kept.
#[async_trait]
pub trait Account: Send + Sync + 'static {
    /// The tokens that the session has used so far, all kinds together; why not.
    async fn used(&self) -> Result<u64, String>;

    /// Writes down what one answer used; durable when this returns.
    async fn record(&self, model: String, usage: Usage) -> Result<(), String>;
}

/// The way from all sandboxes to the model. Cheap to clone.
#[derive(Clone)]
pub struct ModelGateway(Arc<Gateway>);

struct Gateway {
    upstream: Option<Upstream>,
    allowed: Allowed,
    max_tokens: Option<u64>,
}

struct Upstream {
    http: reqwest::Client,
    root: String,
    credential: (HeaderName, HeaderValue),
    /// The key without what stands before it in a header.
    key: Vec<u8>,
}

impl ModelGateway {
    /// A gateway to this model, or one that says that there is none. `max_tokens` is what a session may
    /// use.
    ///
    /// # Errors
    ///
    /// When no request can be made of the configuration.
    pub fn new(
        model: Option<&ModelConfig>,
        allowed: Allowed,
        max_tokens: Option<u64>,
    ) -> Result<Self, ModelError> {
        let upstream = model.map(Upstream::new).transpose()?;
        Ok(Self(Arc::new(Gateway { upstream, allowed, max_tokens })))
    }

    /// Whether there is a model behind it.
    #[must_use]
    pub fn has_model(&self) -> bool {
        self.0.upstream.is_some()
    }

    /// A door for a sandbox whose usage is kept there.
    #[must_use]
    pub fn door(&self, account: Arc<dyn Account>) -> ModelDoor {
        ModelDoor {
            gateway: self.clone(),
            account,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            bodies: Arc::new(Semaphore::new(KIB_AT_ONCE)),
        }
    }
}

impl Upstream {
    fn new(config: &ModelConfig) -> Result<Self, ModelError> {
        let http = on_the_way(reqwest::Client::builder(), config)?.build();
        let http = http.map_err(|error| ModelError::Config(error.to_string()))?;
        let (Auth::ApiKey(key) | Auth::Bearer(key)) = &config.auth;
        Ok(Self {
            http,
            root: config.root().to_owned(),
            credential: credential(config)?,
            key: key.expose().as_bytes().to_vec(),
        })
    }
}

/// A sandbox's door: whatever comes in by it is of that sandbox's session.
pub struct ModelDoor {
    gateway: ModelGateway,
    account: Arc<dyn Account>,
    slots: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

impl ModelDoor {
    /// The answer to a request.
    pub async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let mut body = Some(body);
        let answer = self.pass(&parts.method, &parts.uri, &parts.headers, &mut body).await;
        if let Some(body) = body {
            // A client that still sends may not hear an answer that comes before it is done.
            discard(body).await;
        }
        answer.unwrap_or_else(IntoResponse::into_response)
    }

    async fn pass(
        &self,
        method: &Method,
        uri: &axum::http::Uri,
        given: &HeaderMap,
        body: &mut Option<Body>,
    ) -> Result<Response, Refusal> {
        let endpoint = Endpoint::of(method, uri)?;
        let upstream = self.gateway.0.upstream.as_ref().ok_or(Refusal::NoModel)?;
        if given.get(CONTENT_ENCODING).is_some() {
            return Err(Refusal::Encoded);
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let (mut meter, mut sent) = (None, (Bytes::new(), None));
        if endpoint.has_body() {
            sent = self.read(body.take().unwrap_or_default()).await?;
            let asked = Asked::of(&sent.0).map_err(Refusal::NotReadable)?;
            meter = endpoint.is_metered().then(|| Meter::new(asked.model.clone()));
            let beyond = asked.beyond(&self.gateway.0.allowed);
            if !beyond.is_empty() {
                return Err(Refusal::NotAllowed(beyond));
            }
        }
        if endpoint.is_metered() {
            self.has_tokens().await?;
        }
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let url = format!("{}{}{query}", upstream.root, uri.path());
        let headers = super::headers::of_request(given, &upstream.credential);
        let request = upstream.http.request(method.clone(), url).headers(headers);
        let request = if endpoint.has_body() { request.body(sent.0) } else { request };
        let (key, account) = (upstream.key.clone(), Arc::clone(&self.account));
        Exchange { request, key, meter, account, slot, body: sent.1 }.run().await
    }

    /// Whether the session may use more. Requests that are under way are not counted yet.
    async fn has_tokens(&self) -> Result<(), Refusal> {
        let Some(most) = self.gateway.0.max_tokens else { return Ok(()) };
        let used = self.account.used().await.map_err(|reason| {
            tracing::warn!(reason, "what a session used could not be read");
            Refusal::NoAccount
        })?;
        if used >= most { Err(Refusal::UsedUp { used, most }) } else { Ok(()) }
    }

    /// Reads a body, and what holds its room.
    async fn read(&self, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let until = Instant::now() + COMING;
        let mut pieces = body.into_data_stream();
        let (mut whole, mut room): (Vec<u8>, Option<OwnedSemaphorePermit>) = (Vec::new(), None);
        while let Some(piece) = timeout_at(until, pieces.next()).await.map_err(|_| Refusal::Unsent)? {
            let piece = piece.map_err(|_| Refusal::Unsent)?;
            let length = whole.len() + piece.len();
            if length > MAX_BODY {
                drop(whole);
                discard(Body::from_stream(pieces)).await;
                return Err(Refusal::TooLarge);
            }
            let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = length.div_ceil(1024) - held;
            if more > 0 {
                let more = u32::try_from(more).map_err(|_| Refusal::TooLarge)?;
                let more = Arc::clone(&self.bodies).try_acquire_many_owned(more);
                match (more, &mut room) {
                    (Err(_), _) => {
                        drop(whole);
                        discard(Body::from_stream(pieces)).await;
                        return Err(Refusal::Busy);
                    }
                    (Ok(more), Some(room)) => room.merge(more),
                    (Ok(more), None) => room = Some(more),
                }
            }
            whole.extend_from_slice(&piece);
        }
        Ok((whole.into(), room))
    }
}

/// Reads what still comes, as much as a body may have, and forgets it.
async fn discard(body: Body) {
    let until = Instant::now() + COMING;
    let (mut pieces, mut left) = (body.into_data_stream(), MAX_BODY);
    while let Ok(Some(Ok(piece))) = timeout_at(until, pieces.next()).await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            return;
        }
    }
}
