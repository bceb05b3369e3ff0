//! The client: one request with its retries.
//!
//! ```text
//!  stream ─▶ try ─▶ POST ─▶ status ─▶ events … message_stop ─▶ Response
//!             ▲                │           │
//!             └── wait ◀── transient error ┘        everything else ─▶ ModelError at once
//! ```
//!
//! The caller's token ends every wait at once: the connection is dropped, and what had come is handed
//! back in [`ModelError::Stopped`].

use std::future::Future;
use std::sync::Arc;

use failpoint::{Side, reached};
use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect;
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::assemble::Assembler;
use crate::config::{Auth, ModelConfig};
use crate::error::ModelError;
use crate::observe::{Observer, Retry};
use crate::request::Request;
use crate::response::Response;
use crate::retry::RetryPolicy;
use crate::sse::SseParser;

/// The most bytes of an error answer that are read.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// A cheap handle: clones share one connection pool.
#[derive(Debug, Clone)]
pub struct ModelClient {
    http: reqwest::Client,
    config: Arc<ModelConfig>,
    retry: RetryPolicy,
}

impl ModelClient {
    /// A client with the usual retries. Fails on a key that no header can hold.
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        let (name, value) = credential(&config)?;
        headers.insert(name, value);
        let builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("patchyard/", env!("CARGO_PKG_VERSION")));
        let builder = on_the_way(builder, &config)?;
        let http = builder.build().map_err(|error| ModelError::Config(error.to_string()))?;
        Ok(Self { http, config: Arc::new(config), retry: RetryPolicy::default() })
    }

    /// The same client with other retries.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// What it was made of.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Asks the model and waits for the whole answer. Deltas and retries are told to `observer` as they
    /// happen; `stop` ends it at once.
    pub async fn stream(
        &self,
        request: Request<'_>,
        observer: &mut dyn Observer,
        stop: &CancellationToken,
    ) -> Result<Response, ModelError> {
        let body = request.body(&self.config).map_err(|error| ModelError::Config(error.to_string()))?;
        let mut attempt = 1;
        loop {
            let error = match self.attempt(body.clone(), observer, stop).await {
                Err(error) if error.is_transient() => error,
                done => return done,
            };
            if attempt >= self.retry.attempts {
                return Err(ModelError::Exhausted { attempts: attempt, last: Box::new(error) });
            }
            let delay = self.retry.delay(attempt, error.retry_after());
            tracing::info!(
                model.error = error.code(),
                model.attempt = attempt,
                "model request failed, trying again"
            );
            observer.retry(Retry { error: &error, attempt, delay }).await;
            if unless_stopped(stop, tokio::time::sleep(delay)).await.is_none() {
                return Err(self.stopped(None));
            }
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        body: Vec<u8>,
        observer: &mut dyn Observer,
        stop: &CancellationToken,
    ) -> Result<Response, ModelError> {
        let url = self.config.messages_url();
        let send = self
            .http
            .post(&url)
            .header("content-type", "application/json")
            .header("accept", "text/event-stream")
            .body(body)
            .send();
        let idle = self.config.idle_timeout;
        reached(Side::Before, "model", || "request".into());
        let response = match unless_stopped(stop, timeout(idle, send)).await {
            None => return Err(self.stopped(None)),
            Some(Err(_)) => return Err(ModelError::Idle(idle)),
            Some(Ok(Err(error))) if error.is_builder() => {
                return Err(ModelError::Config(format!("the base URL `{}` is no URL", self.config.base_url)));
            }
            Some(Ok(Err(source))) => {
                return Err(ModelError::Unreachable { url, source: source.without_url() });
            }
            Some(Ok(Ok(response))) => response,
        };
        if !response.status().is_success() {
            return match unless_stopped(stop, timeout(idle, self.refusal(url, response))).await {
                None => Err(self.stopped(None)),
                Some(Err(_)) => Err(ModelError::Idle(idle)),
                Some(Ok(error)) => Err(error),
            };
        }
        self.read(url, response, observer, stop).await
    }

    /// Reads the stream until `message_stop`.
    async fn read(
        &self,
        url: String,
        response: reqwest::Response,
        observer: &mut dyn Observer,
        stop: &CancellationToken,
    ) -> Result<Response, ModelError> {
        let kind = header(&response, "content-type").unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let what = format!("it sent `{kind}` instead of an event stream");
            return Err(ModelError::NotAnEndpoint { url, what });
        }
        let idle = self.config.idle_timeout;
        let mut chunks = response.bytes_stream();
        let mut parser = SseParser::default();
        let mut assembler = Assembler::new(&self.config.model);
        let mut bytes = 0_u64;
        loop {
            let chunk = match unless_stopped(stop, timeout(idle, chunks.next())).await {
                None => return Err(self.stopped(Some(assembler))),
                Some(Err(_)) => return Err(ModelError::Idle(idle)),
                // A cut connection and an early end are the same to the reader of a message.
                Some(Ok(None | Some(Err(_)))) => return Err(ModelError::Cut { bytes }),
                Some(Ok(Some(Ok(chunk)))) => chunk,
            };
            bytes += chunk.len() as u64;
            for event in parser.push(&chunk).map_err(|error| ModelError::Malformed(error.to_string()))? {
                observer.event(&event.data);
                if assembler.take(&event, observer)? {
                    reached(Side::After, "model", || "request".into());
                    return Ok(assembler.into_response());
                }
            }
        }
    }

    /// Turns an answer that is no success into its error.
    async fn refusal(&self, url: String, response: reqwest::Response) -> ModelError {
        let status = response.status().as_u16();
        let retry_after =
            header(&response, "retry-after").and_then(|text| self.retry.parse_retry_after(&text));
        let location = header(&response, "location");
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(Ok(chunk)) = chunks.next().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ERROR_BODY {
                break;
            }
        }
        let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = parsed["error"]["message"].as_str().or_else(|| parsed["message"].as_str());
        let message = one_line(said.unwrap_or(&String::from_utf8_lossy(&body)));
        match status {
            300..=399 => ModelError::NotAnEndpoint {
                url,
                what: format!("it redirects to {}", location.as_deref().unwrap_or("nowhere")),
            },
            401 | 403 => ModelError::Auth { status, url, message },
            404 if said.is_some_and(|said| said.contains("model")) => {
                ModelError::NoSuchModel { url, model: self.config.model.clone(), message }
            }
            404 | 405 => ModelError::NotAnEndpoint { url, what: format!("it answered {status}: {message}") },
            413 => ModelError::PromptTooLong { message },
            400 if is_too_long(&message) => ModelError::PromptTooLong { message },
            408 | 409 | 429 | 500..=599 => ModelError::Busy { status, message, retry_after },
            _ => ModelError::BadRequest { status, message },
        }
    }

    fn stopped(&self, assembler: Option<Assembler>) -> ModelError {
        let partial =
            assembler.map_or_else(|| Response::nothing(&self.config.model), Assembler::into_response);
        ModelError::Stopped { partial: Box::new(partial) }
    }
}

/// The header that says who asks.
pub(crate) fn credential(config: &ModelConfig) -> Result<(HeaderName, HeaderValue), ModelError> {
    let (name, value) = match &config.auth {
        Auth::ApiKey(key) => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
        Auth::Bearer(token) => (AUTHORIZATION, format!("Bearer {}", token.expose())),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| {
        ModelError::Config("the key holds characters that no header can carry; copy it again".into())
    })?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// How connections to the model are made.
pub(crate) fn on_the_way(
    builder: reqwest::ClientBuilder,
    config: &ModelConfig,
) -> Result<reqwest::ClientBuilder, ModelError> {
    let builder = builder
        .connect_timeout(config.connect_timeout)
        // A redirect would carry the key to wherever it points.
        .redirect(redirect::Policy::none())
        // Proxies are configured, not found in the environment.
        .no_proxy();
    let Some(proxy) = &config.proxy else { return Ok(builder) };
    // The address may hold a password, so it is not repeated.
    let proxy = reqwest::Proxy::all(proxy)
        .map_err(|_| ModelError::Config("the configured proxy is no URL".into()))?;
    Ok(builder.proxy(proxy))
}

/// The future's value, or `None` when the token was cancelled first.
async fn unless_stopped<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    stop.run_until_cancelled(future).await
}

fn header(response: &reqwest::Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("prompt is too long")
        || message.contains("exceed context limit")
        || message.contains("maximum context length")
}

/// The message as one line of at most 500 characters; never empty.
fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "no message".into();
    }
    line.chars().take(500).collect()
}
