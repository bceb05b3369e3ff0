//! Requests to hosts of large files: batches, and the objects that their answers name.
//!
//! ```text
//!   repository ─ POST …/info/lfs/objects/batch ─▶ answer, checked              with the credential
//!   action ─ GET, PUT, POST ─▶ its host, under the address rules               with the fields that the answer names
//!              └ 30x of a GET ─▶ the next, three times at most; another host gets none of them
//! ```
//!
//! The credential goes to the repository's own origin alone, where the answer names no other.

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};

use super::batch::{Action, BatchAnswer, BatchError, BatchRequest, MAX_ANSWER, Operation};
use super::hashed::Mismatch;
use super::pointer::Pointer;
use crate::front::upstream::{Upstream, below, why};
use crate::remote::{Remote, RemoteError};

/// How often a download may be sent on.
const MOVES: usize = 3;

/// What batches are written in.
pub(crate) const LFS_JSON: &str = "application/vnd.git-lfs+json";

/// Why large files cannot be moved, a sentence each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransferError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("{0} keeps no large files (git LFS) for this repository; switch them on there")]
    NoLfs(String),
    #[error("{host} answered {status} for an object; try again later, or ask who runs it")]
    Status { host: String, status: u16 },
    #[error("{0} is to be asked for an object without TLS, and is not; ask who runs the repository's host")]
    Plain(String),
    #[error("{0} sends an object on from place to place without an end")]
    Moves(String),
}

/// A body on its way out.
pub(crate) struct Sent {
    pub(crate) body: reqwest::Body,
    pub(crate) length: u64,
    pub(crate) kind: &'static str,
}

impl Upstream {
    /// Asks what is to be done with objects.
    pub(crate) async fn batch(
        &self,
        remote: &Remote,
        base: &Url,
        request: &BatchRequest,
    ) -> Result<BatchAnswer, TransferError> {
        let url = below(&with_suffix(base), "info/lfs/objects/batch");
        let kind = HeaderValue::from_static(LFS_JSON);
        let headers = HeaderMap::from_iter([(ACCEPT, kind.clone()), (CONTENT_TYPE, kind)]);
        let asked = self.http.request(Method::POST, url).headers(headers).body(request.written());
        let mut response = self.send(remote, asked).await?;
        match response.status().as_u16() {
            200..=299 => {}
            404 | 410 | 501 => return Err(TransferError::NoLfs(remote.host())),
            status => {
                let wanted = if request.operation == Operation::Upload { "write to" } else { "read" };
                return Err(RemoteError::of_status(remote, status, wanted).into());
            }
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| why(remote, &error))? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ANSWER {
                return Err(BatchError::NoAnswer.into());
            }
        }
        Ok(BatchAnswer::parse(&body, request)?)
    }

    /// Begins to get an object.
    pub(crate) async fn get_object(
        &self,
        remote: &Remote,
        base: &Url,
        (action, authenticated): (&Action, bool),
    ) -> Result<Response, TransferError> {
        let mut url = action.href.clone();
        for _ in 0..=MOVES {
            let response = self.ask(remote, base, Method::GET, (&url, action, authenticated), None).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let next =
                status.is_redirection().then(|| response.headers().get(LOCATION)?.to_str().ok()).flatten();
            let Some(next) = next.and_then(|next| url.join(next).ok()) else {
                return Err(TransferError::Status { host: host(&url), status: status.as_u16() });
            };
            if !next.username().is_empty() || next.password().is_some() {
                return Err(TransferError::Status { host: host(&url), status: status.as_u16() });
            }
            url = next;
        }
        Err(TransferError::Moves(host(&action.href)))
    }

    /// Sends an object.
    pub(crate) async fn put_object(
        &self,
        remote: &Remote,
        base: &Url,
        action: (&Action, bool),
        sent: Sent,
    ) -> Result<(), TransferError> {
        self.finish(remote, base, (Method::PUT, action.0, action.1), sent).await
    }

    /// Says that an object was sent.
    pub(crate) async fn verify_object(
        &self,
        remote: &Remote,
        base: &Url,
        action: (&Action, bool),
        pointer: Pointer,
    ) -> Result<(), TransferError> {
        let body = serde_json::json!({ "oid": pointer.oid.to_string(), "size": pointer.size }).to_string();
        let sent = Sent { length: body.len() as u64, body: body.into(), kind: LFS_JSON };
        self.finish(remote, base, (Method::POST, action.0, action.1), sent).await
    }

    async fn finish(
        &self,
        remote: &Remote,
        base: &Url,
        (method, action, authenticated): (Method, &Action, bool),
        sent: Sent,
    ) -> Result<(), TransferError> {
        let to = (&action.href, action, authenticated);
        let response = self.ask(remote, base, method, to, Some(sent)).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(TransferError::Status { host: host(&action.href), status: status.as_u16() })
    }

    async fn ask(
        &self,
        remote: &Remote,
        base: &Url,
        method: Method,
        (url, action, authenticated): (&Url, &Action, bool),
        sent: Option<Sent>,
    ) -> Result<Response, TransferError> {
        // Where the repository has TLS, so have its objects.
        if !matches!((url.scheme(), base.scheme()), ("https", _) | ("http", "http")) {
            return Err(TransferError::Plain(host(url)));
        }
        self.check_host(url.host_str().unwrap_or_default())?;
        let own = url.origin() == action.href.origin();
        let mut headers = if own { action.headers.clone() } else { HeaderMap::new() };
        let shown = remote.shown().filter(|_| url.origin() == base.origin() && own && !authenticated);
        if let Some(credential) = shown
            && !headers.contains_key(AUTHORIZATION)
            && let Ok(mut value) = HeaderValue::from_str(&credential.header())
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut request = self.http.request(method, url.clone());
        if let Some(Sent { body, length, kind }) = sent {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            if !headers.contains_key(CONTENT_TYPE) {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            request = request.body(body);
        }
        request.headers(headers).send().await.map_err(|error| {
            // The host of the object, not that of the repository.
            let at = Remote { url: crate::remote::at_host(url), credential: None, push: Default::default() };
            why(&at, &error).into()
        })
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// LFS is below the repository's name with `.git`, whichever way it is written.
fn with_suffix(base: &Url) -> Url {
    let mut url = base.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&if path.ends_with(".git") { path } else { format!("{path}.git") });
    url
}
