//! One request to a forge, and when it is sent again.
//!
//! ```text
//!   read  ─▶ ETag of a kept answer ─▶ 304: the kept one
//!            no answer, 5xx        ─▶ asked again, three times in all
//!   write ─▶ one at a time, sent once; what became of it is asked by whoever sent it
//!   403 or 429 with a limit        ─▶ nothing more goes out with this token until it is over
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use failpoint::{Side, reached};
use policy::address::AddressRules;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LINK, LOCATION,
};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::address::ForgeAddress;
use crate::answer::{self, next_page};
use crate::error::ForgeError;
use crate::kept::{self, Answers, Kept, Key};
use crate::resolve::{Resolver, check, why};
use crate::token::Token;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// How often a question is asked.
const TRIES: u32 = 3;

/// How long to wait before it is asked again; twice as long the next time.
const PAUSE: Duration = Duration::from_millis(100);

/// How often something may have moved.
const MOVES: usize = 3;

/// The longest answer.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Entries on a page.
pub(crate) const PER_PAGE: &str = "100";

pub(crate) const JSON: &str = "application/vnd.github+json";

const API_VERSION: HeaderName = HeaderName::from_static("x-github-api-version");

/// The way to all forges of a server. Cheap to clone.
#[derive(Clone)]
pub struct Forges(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    rules: Arc<AddressRules>,
    answers: Mutex<Answers>,
    /// Tokens that are not taken for a while.
    limited: Mutex<HashMap<Key, Instant>>,
    writing: tokio::sync::Mutex<()>,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
#[error("the way to forges cannot be made")]
pub struct ForgesError(#[from] reqwest::Error);

impl Forges {
    /// A way that dials what these rules allow, believes these authorities (PEM), and waits so long for one
    /// answer.
    ///
    /// # Errors
    ///
    /// When the authorities cannot be used.
    pub fn new(rules: AddressRules, authorities: &str, patience: Duration) -> Result<Self, ForgesError> {
        let rules = Arc::new(rules);
        let http = reqwest::Client::builder()
            .user_agent(concat!("patchyard/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(patience)
            .redirect(redirect::Policy::none())
            .referer(false)
            // Proxies are configured, not found in the environment.
            .no_proxy()
            .https_only(true)
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(authorities.as_bytes())?)
            .dns_resolver(Arc::new(Resolver(Arc::clone(&rules))))
            .build()?;
        Ok(Self(Arc::new(Inner {
            http,
            rules,
            answers: Mutex::default(),
            limited: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        })))
    }

    /// A forge that speaks as GitHub does, with a token where there is one.
    #[must_use]
    pub fn at(&self, address: ForgeAddress, token: Option<Token>) -> GitHub {
        GitHub { forges: self.clone(), address, token }
    }
}

/// A forge and who the server is there. Cheap to clone.
#[derive(Clone)]
pub struct GitHub {
    forges: Forges,
    pub(crate) address: ForgeAddress,
    token: Option<Token>,
}

/// A request.
pub(crate) struct Ask {
    method: Method,
    url: Url,
    accept: &'static str,
    body: Option<Value>,
    /// What is tried, for people: `read pull request 3 of o/r`.
    pub(crate) wanted: String,
}

impl Ask {
    pub(crate) fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    pub(crate) fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        self.url.query_pairs_mut().extend_pairs(pairs);
        self
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    /// The address of the next page, of the same forge.
    pub(crate) next: Option<String>,
}

impl GitHub {
    /// Its host, as credentials are kept under.
    #[must_use]
    pub fn host(&self) -> &str {
        self.address.host()
    }

    pub(crate) fn get(&self, segments: &[&str], wanted: String) -> Ask {
        let url = self.address.endpoint(segments);
        Ask { method: Method::GET, url, accept: JSON, body: None, wanted }
    }

    pub(crate) fn send(&self, method: Method, segments: &[&str], body: Value, wanted: String) -> Ask {
        Ask { method, url: self.address.endpoint(segments), accept: JSON, body: Some(body), wanted }
    }

    /// Asks a question, again when no answer came.
    pub(crate) async fn read(&self, ask: &Ask) -> Result<Answer, ForgeError> {
        let key = kept::key(self.token.as_ref(), ask.url.as_str(), ask.accept);
        let kept = lock(&self.forges.0.answers).get(&key);
        let mut tried = 1;
        let mut response = loop {
            match self.response(ask, kept.as_ref()).await {
                Err(error) if error.is_uncertain() && tried < TRIES => {
                    tokio::time::sleep(PAUSE * 2_u32.pow(tried)).await;
                    tried += 1;
                }
                other => break other?,
            }
        };
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some(Kept { body, next, .. }) = kept
        {
            return Ok(Answer { body, next });
        }
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(ToOwned::to_owned);
        let next = response.headers().get(LINK).and_then(|link| next_page(link.to_str().ok()?));
        let next = next.filter(|next| Url::parse(next).is_ok_and(|next| next.origin() == ask.url.origin()));
        let body = self.body(&mut response).await?;
        if let Some(etag) = etag {
            let kept = Kept { etag, body: body.clone(), next: next.clone() };
            lock(&self.forges.0.answers).put(key, kept);
        }
        Ok(Answer { body, next })
    }

    /// The answer to a question.
    pub(crate) async fn json<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, ForgeError> {
        let answer = self.read(ask).await?;
        self.parse(&answer.body)
    }

    /// The answers of some pages at most, one after the other.
    pub(crate) async fn pages<T: DeserializeOwned>(
        &self,
        ask: Ask,
        most: usize,
    ) -> Result<Vec<T>, ForgeError> {
        let mut ask = ask.query(&[("per_page", PER_PAGE)]);
        let mut all = Vec::new();
        for _ in 0..most {
            let answer = self.read(&ask).await?;
            all.push(self.parse(&answer.body)?);
            let Some(next) = answer.next.and_then(|next| Url::parse(&next).ok()) else { break };
            ask.url = next;
        }
        Ok(all)
    }

    /// Changes something: sent once.
    pub(crate) async fn write<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, ForgeError> {
        // Forges want changes one after the other.
        let _turn = self.forges.0.writing.lock().await;
        let mut response = self.response(ask, None).await?;
        let body = self.body(&mut response).await?;
        self.parse(&body)
    }

    /// The place that an endpoint redirects to, which may be of another host.
    pub(crate) async fn place(&self, ask: &Ask) -> Result<Url, ForgeError> {
        let response = self.once(ask, &ask.url, None).await?;
        let moved = response.status().is_redirection().then(|| location(&ask.url, &response)).flatten();
        match moved {
            Some(place) if place.scheme() == "https" => Ok(place),
            _ => Err(self.of_response(ask, response).await),
        }
    }

    /// What is at a signed address, without the token; the caller reads it.
    pub(crate) async fn signed(&self, place: Url) -> Result<Response, ForgeError> {
        check(&self.forges.0.rules, &place)?;
        let host = place.host_str().unwrap_or_default().to_owned();
        let response = self.forges.0.http.get(place).send().await.map_err(|error| why(&host, &error))?;
        match response.status().as_u16() {
            200..=299 => Ok(response),
            status => Err(ForgeError::Status { host, wanted: "read a log".into(), status }),
        }
    }

    /// Follows the forge to where something has moved; an error is an answer that is none.
    async fn response(&self, ask: &Ask, kept: Option<&Kept>) -> Result<Response, ForgeError> {
        let mut url = ask.url.clone();
        for _ in 0..=MOVES {
            let response = self.once(ask, &url, kept).await?;
            let status = response.status();
            if status.is_success() || (status == StatusCode::NOT_MODIFIED && kept.is_some()) {
                return Ok(response);
            }
            // What is not moved with its method was not done.
            let keeps = ask.method == Method::GET || matches!(status.as_u16(), 307 | 308);
            let moved = (status.is_redirection() && keeps).then(|| location(&url, &response)).flatten();
            match moved.filter(|to| to.origin() == url.origin() && to.username().is_empty()) {
                Some(to) => url = to,
                None => return Err(self.of_response(ask, response).await),
            }
        }
        Err(self.strange("it redirects without an end"))
    }

    async fn once(&self, ask: &Ask, url: &Url, kept: Option<&Kept>) -> Result<Response, ForgeError> {
        let inner = &self.forges.0;
        check(&inner.rules, url)?;
        self.is_taken()?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(ask.accept));
        headers.insert(API_VERSION, HeaderValue::from_static("2022-11-28"));
        let shown = self.token.as_ref().and_then(|token| HeaderValue::from_str(&token.header()).ok());
        if let Some(mut value) = shown {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers.extend(
            kept.and_then(|kept| HeaderValue::from_str(&kept.etag).ok()).map(|etag| (IF_NONE_MATCH, etag)),
        );
        let request = inner.http.request(ask.method.clone(), url.clone()).headers(headers);
        let request = match &ask.body {
            Some(body) => request.json(body),
            None => request,
        };
        reached(Side::Before, "forge", || format!("{} {}", ask.method, url.path()));
        let sent = request.send().await.map_err(|error| why(self.host(), &error));
        reached(Side::After, "forge", || format!("{} {}", ask.method, url.path()));
        sent
    }

    /// Whether the token's limit is not used up.
    fn is_taken(&self) -> Result<(), ForgeError> {
        let mut limited = lock(&self.forges.0.limited);
        let now = Instant::now();
        limited.retain(|_, until| *until > now);
        match limited.get(&self.pace()) {
            None => Ok(()),
            Some(until) => {
                let seconds = until.duration_since(now).as_secs().max(1);
                Err(ForgeError::Limited { host: self.host().to_owned(), seconds })
            }
        }
    }

    fn pace(&self) -> Key {
        kept::key(self.token.as_ref(), self.host(), "limit")
    }

    async fn of_response(&self, ask: &Ask, mut response: Response) -> ForgeError {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = self.body(&mut response).await.unwrap_or_default();
        let error = answer::judge((self.host(), self.token.as_ref()), &ask.wanted, (status, &headers), &body);
        if let ForgeError::Limited { seconds, .. } = &error {
            let until = Instant::now() + Duration::from_secs(*seconds);
            lock(&self.forges.0.limited).insert(self.pace(), until);
        }
        error
    }

    async fn body(&self, response: &mut Response) -> Result<Vec<u8>, ForgeError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| why(self.host(), &error))? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_BODY {
                return Err(ForgeError::Strange {
                    host: self.host().to_owned(),
                    why: format!("an answer is over {} MB", MAX_BODY / 1_000_000),
                });
            }
        }
        Ok(body)
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ForgeError> {
        serde_json::from_slice(body).map_err(|error| {
            // Not its words: they may hold what the forge said.
            let (line, column) = (error.line(), error.column());
            self.strange(&format!("line {line}, column {column} of an answer is not what is described"))
        })
    }

    pub(crate) fn strange(&self, why: &str) -> ForgeError {
        ForgeError::Strange { host: self.host().to_owned(), why: why.to_owned() }
    }
}

fn location(from: &Url, response: &Response) -> Option<Url> {
    from.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
