//! The gateway, and the door that each sandbox has to it.
//!
//! ```text
//!   request ─ route ─▶ the session's repository? ─┬─ refs ──▶ its server ─▶ advertisement, rewritten
//!                       │ no                      ├─ fetch ─▶ its server, streamed both ways
//!                       ▼                         └─ push ──▶ super::push
//!               a submodule of the session's: the same, but for pushes
//!               ERR and the reason; another repository of the host: to its real address
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};
use policy::address::AddressRules;
use protocol::git::GitPush;
use reqwest::Url;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::advertisement::Advertisement;
use super::lfs;
use super::pace::Pace;
use super::pkt;
use super::route::{Asked, Route, Service};
use super::tickets::Tickets;
use super::upstream::{GIT_PROTOCOL, Sent, Upstream, UpstreamError, base};
use crate::remote::{Remote, RemoteError};

/// How many requests of a sandbox may be under way.
const AT_ONCE: usize = 16;

/// The most of an advertisement's begin that is waited for.
const MAX_BEGIN: usize = 1024 * 1024;

/// What the gateway has to know of a session, and whom it tells.
#[async_trait]
pub trait Attached: Send + Sync + 'static {
    /// What the session may reach now, with its credential; why there is nothing.
    async fn remote(&self) -> Result<Remote, String>;

    /// The submodules that it has, to fetch from.
    async fn modules(&self) -> Vec<Remote> {
        Vec::new()
    }

    /// Writes down that a push is about to go out; durable when this returns.
    async fn begins(&self, push: &GitPush) -> Result<(), String>;

    /// Writes down how one ended, or that it was refused.
    async fn ended(&self, push: GitPush);
}

/// The way from all sandboxes to the servers of repositories. Cheap to clone.
#[derive(Clone)]
pub struct GitGateway {
    pub(crate) upstream: Upstream,
}

impl GitGateway {
    /// A gateway that dials what these rules allow, and believes these authorities (PEM).
    ///
    /// # Errors
    ///
    /// When the authorities cannot be used.
    pub fn new(rules: AddressRules, authorities: &str) -> Result<Self, UpstreamError> {
        Ok(Self { upstream: Upstream::new(rules, authorities)? })
    }

    /// A door for a sandbox of this session.
    #[must_use]
    pub fn door(&self, attached: Arc<dyn Attached>) -> GitDoor {
        GitDoor {
            gateway: self.clone(),
            attached,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            pace: Pace::default(),
            tickets: Tickets::default(),
            moved: Mutex::default(),
        }
    }
}

/// A sandbox's door: whatever comes in by it is of that sandbox's session.
pub struct GitDoor {
    pub(super) gateway: GitGateway,
    pub(super) attached: Arc<dyn Attached>,
    slots: Arc<Semaphore>,
    pub(super) pace: Pace,
    pub(super) tickets: Tickets,
    /// Where repositories have moved to, by their stored addresses.
    moved: Mutex<HashMap<String, Url>>,
}

/// What a request is about.
enum Reached {
    /// The session's repository, or a submodule of it.
    This(Remote),
    /// Another one of the same host, at its real address.
    Elsewhere(String),
}

impl GitDoor {
    /// The answer to a request.
    pub async fn answer(&self, request: Request) -> Response {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return busy() };
        let (parts, body) = request.into_parts();
        // A repository has a host and a path at least.
        let name = parts.uri.path().strip_prefix(lfs::OBJECTS).filter(|name| !name.contains('/'));
        if let Some(name) = name {
            return self.object(&parts.method, name, &parts.headers, body, slot).await;
        }
        let Some(route) = Route::of(&parts.method, &parts.uri) else {
            return none_of_gits();
        };
        let remote = match self.reached(&route).await {
            Ok(Reached::Elsewhere(to)) => return turned_away(&to),
            Ok(Reached::This(remote)) => Ok(remote),
            Err(reason) => Err(reason),
        };
        match (route.asked, remote) {
            (Asked::Serve(Service::ReceivePack), remote) => {
                self.push(remote, &parts.headers, body, slot).await
            }
            (Asked::Locks, Ok(_)) => lfs::no(404, "large files are not locked from a session"),
            (Asked::Batch | Asked::Locks, Err(reason)) => lfs::no(403, &reason),
            (Asked::Batch, Ok(remote)) => self.batch(&remote, &parts.headers, body).await,
            (asked, Err(reason)) => told(asked, &reason),
            (Asked::Refs(service), Ok(remote)) => {
                let answer = self.refs(&remote, service, &parts.headers, slot).await;
                answer.unwrap_or_else(|error| told(route.asked, &error.to_string()))
            }
            (Asked::Serve(Service::UploadPack), Ok(remote)) => {
                let answer = self.fetch(&remote, &parts.headers, body, slot).await;
                answer.unwrap_or_else(|error| told(route.asked, &error.to_string()))
            }
        }
    }

    /// What the client means; why it may not have it.
    async fn reached(&self, route: &Route<'_>) -> Result<Reached, String> {
        let own = self.attached.remote().await;
        if let Ok(own) = &own
            && route.means(&own.url)
        {
            return Ok(Reached::This(own.clone()));
        }
        let modules = self.attached.modules().await;
        if let Some(module) = modules.iter().find(|module| route.means(&module.url)) {
            if matches!(route.asked, Asked::Refs(Service::ReceivePack) | Asked::Serve(Service::ReceivePack)) {
                return Err(format!(
                    "{} is a submodule of this session's repository: it can be fetched, and not pushed to; begin a \
                     session with that repository to change it",
                    module.url
                ));
            }
            return Ok(Reached::This(module.clone()));
        }
        if matches!(route.asked, Asked::Refs(Service::UploadPack) | Asked::Batch) {
            let mut known = own.iter().chain(&modules);
            if let Some(to) = known.find_map(|remote| route.elsewhere(&remote.url)) {
                return Ok(Reached::Elsewhere(to));
            }
        }
        let own = own?;
        Err(format!("this session may reach {} through its git proxy, and no other repository", own.url))
    }

    async fn refs(
        &self,
        remote: &Remote,
        service: Service,
        headers: &HeaderMap,
        slot: OwnedSemaphorePermit,
    ) -> Result<Response, RemoteError> {
        // Pushes have no version but the first; a server that is told of another may answer in it.
        let protocol = headers.get(GIT_PROTOCOL).filter(|_| service == Service::UploadPack);
        let protocol = protocol.filter(|version| is_version(version)).cloned();
        let (mut response, moved) =
            self.gateway.upstream.refs(remote, &self.base(remote)?, service, protocol).await?;
        if let Some(moved) = moved {
            let mut all = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(remote.url.to_string(), moved);
        }
        let odd = || RemoteError::NotGit { url: remote.url.to_string() };
        let mut advertisement = Advertisement::new(service);
        let mut begin = Vec::new();
        while !advertisement.is_whole() {
            let piece = response.chunk().await.map_err(|error| super::upstream::why(remote, &error))?;
            begin.extend(advertisement.push(&piece.ok_or_else(odd)?).map_err(|_| odd())?);
            if begin.len() > MAX_BEGIN {
                return Err(odd());
            }
        }
        let begin = stream::iter([Ok::<_, reqwest::Error>(Bytes::from(begin))]);
        let rest = begin.chain(response.bytes_stream());
        Ok(streamed(service, "advertisement", rest, slot))
    }

    async fn fetch(
        &self,
        remote: &Remote,
        headers: &HeaderMap,
        body: Body,
        slot: OwnedSemaphorePermit,
    ) -> Result<Response, RemoteError> {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let encoding = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding == "gzip").cloned();
        let sent = Sent {
            body: reqwest::Body::wrap_stream(body.into_data_stream()),
            length,
            encoding,
            protocol: headers.get(GIT_PROTOCOL).filter(|version| is_version(version)).cloned(),
        };
        let base = self.base(remote)?;
        let response = self.gateway.upstream.serve(remote, &base, Service::UploadPack, sent).await?;
        Ok(streamed(Service::UploadPack, "result", response.bytes_stream(), slot))
    }

    /// Where the repository is now.
    pub(super) fn base(&self, remote: &Remote) -> Result<Url, RemoteError> {
        let all = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&remote.url.to_string()).cloned().map_or_else(|| base(remote), Ok)
    }
}

fn is_version(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), b"version=0" | b"version=1" | b"version=2")
}

/// An answer of git's protocol that goes on coming; the slot is held until it is over.
fn streamed<E: Into<axum::BoxError> + 'static>(
    service: Service,
    what: &str,
    pieces: impl futures::Stream<Item = Result<Bytes, E>> + Send + 'static,
    slot: OwnedSemaphorePermit,
) -> Response {
    let pieces = pieces.map(move |piece| {
        let _held = &slot;
        piece
    });
    of_git(service, what, Body::from_stream(pieces))
}

/// An answer of git's protocol.
pub(super) fn of_git(service: Service, what: &str, body: Body) -> Response {
    let kind = format!("application/x-{}-{what}", service.name());
    let mut response = Response::new(body);
    let kind = HeaderValue::from_str(&kind).unwrap_or_else(|_| HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A refusal as git shows it: `fatal: remote error: …`.
fn told(asked: Asked, reason: &str) -> Response {
    let mut packet = Vec::new();
    pkt::write(&mut packet, format!("ERR {}", super::report::one_line(reason)).as_bytes());
    let (service, what) = match asked {
        Asked::Refs(service) => (service, "advertisement"),
        Asked::Serve(service) => (service, "result"),
        Asked::Batch | Asked::Locks => return lfs::no(403, reason),
    };
    of_git(service, what, packet.into())
}

fn turned_away(to: &str) -> Response {
    let Ok(to) = HeaderValue::from_str(to) else { return none_of_gits() };
    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response()
}

fn none_of_gits() -> Response {
    let words = "patchyard: the git proxy of a sandbox serves git's smart HTTP protocol, and nothing else.\n";
    (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "text/plain; charset=utf-8")], words).into_response()
}

/// For those that ask for too much at once.
pub(super) fn busy() -> Response {
    let words = "patchyard: this sandbox asks its git proxy for too much at once; wait a moment.\n";
    let fields = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (RETRY_AFTER, "5")];
    (StatusCode::TOO_MANY_REQUESTS, fields, words).into_response()
}
