//! Large files through a door.
//!
//! ```text
//!   POST …/info/lfs/objects/batch ─ read, written anew ─▶ the host ─▶ answer, read ─▶ its addresses stay here
//!   GET  /lfs/<name> ◀─ streamed, hashed ── the host        a wrong object breaks off
//!   PUT  /lfs/<name> ── streamed, hashed ─▶ the host        for the session's branch alone
//!   POST /lfs/<name> ── written anew ─────▶ the host        `verify`
//!   …/info/lfs/locks ─▶ 404: git-lfs goes on without
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};
use protocol::egress::GIT_PORT;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::time::timeout;

use super::door::GitDoor;
use super::tickets::{Ticket, Use};
use crate::lfs::batch::{Action, BatchAnswer, BatchRequest, MAX_REQUEST, Operation, Said, Todo};
use crate::lfs::hashed::Hashed;
use crate::lfs::transfer::{LFS_JSON, Sent, TransferError};
use crate::remote::Remote;

/// Where objects are asked for: below this, by a name that nobody can guess.
pub(super) const OBJECTS: &str = "/lfs/";

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(120);

/// An answer of git LFS that says no.
pub(super) fn no(status: u16, reason: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = json!({ "message": format!("patchyard: {}", super::report::one_line(reason)) });
    (status, [(CONTENT_TYPE, LFS_JSON)], body.to_string()).into_response()
}

fn failed(error: &TransferError) -> Response {
    let status = match error {
        TransferError::NoLfs(_) => 404,
        TransferError::Mismatch(_) => 422,
        _ => 502,
    };
    no(status, &error.to_string())
}

impl GitDoor {
    /// The answer to a batch about a repository that the session may reach.
    pub(super) async fn batch(&self, remote: &Remote, headers: &HeaderMap, body: Body) -> Response {
        let bytes = match axum::body::to_bytes(body, MAX_REQUEST).await {
            Ok(bytes) => bytes,
            Err(_) => return no(413, "a batch is no longer than 256 KiB; set lfs.transfer.batchSize lower"),
        };
        let request = match BatchRequest::parse(&bytes) {
            Ok(request) => request,
            Err(error) => return no(422, &error.to_string()),
        };
        if request.operation == Operation::Upload
            && !request.reference.as_deref().is_some_and(|name| remote.push.names(name))
        {
            return no(
                403,
                &format!("large files are sent for the branch of the session; {}", remote.push.told()),
            );
        }
        let base = match self.base(remote) {
            Ok(base) => base,
            Err(error) => return no(502, &error.to_string()),
        };
        match self.gateway.upstream.batch(remote, &base, &request).await {
            Ok(answer) => self.answered(remote, headers, request.operation, answer),
            Err(error) => failed(&error),
        }
    }

    /// An answer as it goes in: with names of ours in the place of addresses, and without their fields.
    fn answered(
        &self,
        remote: &Remote,
        headers: &HeaderMap,
        operation: Operation,
        answer: BatchAnswer,
    ) -> Response {
        let (door, now) = (door_of(headers), Instant::now());
        let name = |ticket: Ticket| {
            let name = self.tickets.issue(ticket, now)?;
            Some(json!({ "href": format!("{door}{OBJECTS}{name}"), "expires_in": 3000 }))
        };
        let object = |(pointer, said)| {
            let mut told = json!({ "oid": pointer_name(&pointer), "size": pointer.size });
            let ticket = |action: Action, authenticated, for_what| Ticket {
                repository: remote.url.to_string(),
                pointer,
                action,
                authenticated,
                for_what,
            };
            match said {
                Said::Nothing => {}
                Said::Refused { code, words } => told["error"] = json!({ "code": code, "message": words }),
                Said::Do(todo) => {
                    let Todo { action, verify, authenticated } = *todo;
                    let (word, for_what) = match operation {
                        Operation::Download => ("download", Use::Download),
                        Operation::Upload => ("upload", Use::Upload),
                    };
                    let mut actions = json!({});
                    actions[word] = name(ticket(action, authenticated, for_what)).unwrap_or(Value::Null);
                    if let Some(verify) = verify {
                        actions["verify"] =
                            name(ticket(verify, authenticated, Use::Verify)).unwrap_or(Value::Null);
                    }
                    told["actions"] = actions;
                    told["authenticated"] = true.into();
                }
            }
            told
        };
        let objects: Vec<Value> = answer.objects.into_iter().map(object).collect();
        let body = json!({ "transfer": "basic", "objects": objects, "hash_algo": "sha256" }).to_string();
        (StatusCode::OK, [(CONTENT_TYPE, LFS_JSON)], body).into_response()
    }

    /// The answer to a request for an object.
    pub(super) async fn object(
        &self,
        method: &Method,
        name: &str,
        headers: &HeaderMap,
        body: Body,
        slot: OwnedSemaphorePermit,
    ) -> Response {
        let Some(ticket) = self.tickets.find(name, Instant::now()) else {
            return no(
                404,
                "this address of a large file is none, or over an hour old; ask for the batch again",
            );
        };
        let fits = match ticket.for_what {
            Use::Download => method == Method::GET,
            Use::Upload => method == Method::PUT,
            Use::Verify => method == Method::POST,
        };
        if !fits {
            return no(405, "this address of a large file is for another method");
        }
        // What the session may reach now, with the credential of now.
        let remote = match self.at(&ticket.repository).await {
            Ok(remote) => remote,
            Err(reason) => return no(403, &reason),
        };
        let base = match self.base(&remote) {
            Ok(base) => base,
            Err(error) => return no(502, &error.to_string()),
        };
        let (upstream, action) = (&self.gateway.upstream, (&ticket.action, ticket.authenticated));
        match ticket.for_what {
            Use::Download => match upstream.get_object(&remote, &base, action).await {
                Ok(response) => delivered(response, &ticket, slot),
                Err(error) => failed(&error),
            },
            Use::Upload => {
                let length =
                    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
                if length.is_some_and(|length: u64| length != ticket.pointer.size) {
                    return no(422, "the object is longer or shorter than its pointer says");
                }
                let (body, wrong) = outgoing(body, &ticket);
                let sent = Sent { body, length: ticket.pointer.size, kind: "application/octet-stream" };
                let ended = upstream.put_object(&remote, &base, action, sent).await;
                match (*wrong.lock().await, ended) {
                    (Some(error), _) => failed(&error.into()),
                    (None, Ok(())) => StatusCode::OK.into_response(),
                    (None, Err(error)) => failed(&error),
                }
            }
            Use::Verify => match upstream.verify_object(&remote, &base, action, ticket.pointer).await {
                Ok(()) => StatusCode::OK.into_response(),
                Err(error) => failed(&error),
            },
        }
    }

    /// The repository of a ticket, where the session still may reach it.
    async fn at(&self, repository: &str) -> Result<Remote, String> {
        let own = self.attached.remote().await;
        if let Ok(own) = &own
            && own.url.to_string() == repository
        {
            return Ok(own.clone());
        }
        let modules = self.attached.modules().await;
        let found = modules.into_iter().find(|module| module.url.to_string() == repository);
        found.ok_or_else(|| format!("this session reaches {repository} no more"))
    }
}

fn pointer_name(pointer: &crate::lfs::pointer::Pointer) -> String {
    pointer.oid.to_string()
}

/// The door as this client reached it.
fn door_of(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let port = host.and_then(|host| host.strip_prefix("127.0.0.1:")?.parse().ok());
    format!("http://127.0.0.1:{}", port.unwrap_or(GIT_PORT))
}

/// An object on its way in. Of a wrong one the end never comes.
fn delivered(response: reqwest::Response, ticket: &Arc<Ticket>, slot: OwnedSemaphorePermit) -> Response {
    let broken = |error: &dyn std::fmt::Display| std::io::Error::other(error.to_string());
    let state = (Some(response), Hashed::new(ticket.pointer), slot);
    let pieces = stream::try_unfold(state, move |(response, mut hashed, slot)| async move {
        let Some(mut response) = response else { return Ok::<_, std::io::Error>(None) };
        loop {
            let piece = response.chunk().await.map_err(|error| broken(&error.without_url()))?;
            let last = piece.is_none();
            let piece = match piece {
                Some(piece) => hashed.push(piece),
                None => hashed.end(),
            };
            let piece = piece.map_err(|error| broken(&error))?;
            match (piece, last) {
                (Some(piece), last) => {
                    return Ok(Some((piece, ((!last).then_some(response), hashed, slot))));
                }
                (None, true) => return Ok(None),
                (None, false) => {}
            }
        }
    });
    let mut answer = Response::new(Body::from_stream(pieces));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/octet-stream"));
    answer.headers_mut().insert(CONTENT_LENGTH, ticket.pointer.size.into());
    answer
}

/// An object on its way out, and what is wrong with it once that is known.
fn outgoing(
    body: Body,
    ticket: &Arc<Ticket>,
) -> (reqwest::Body, Arc<Mutex<Option<crate::lfs::hashed::Mismatch>>>) {
    let wrong = Arc::new(Mutex::new(None));
    let state = (Some(body.into_data_stream()), Hashed::new(ticket.pointer), Arc::clone(&wrong));
    let pieces = stream::try_unfold(state, |(pieces, mut hashed, wrong)| async move {
        let Some(mut pieces) = pieces else { return Ok::<_, std::io::Error>(None) };
        loop {
            let piece = next(&mut pieces).await?;
            let last = piece.is_none();
            let taken = match piece {
                Some(piece) => hashed.push(piece),
                None => hashed.end(),
            };
            let piece = match taken {
                Ok(piece) => piece,
                Err(error) => {
                    *wrong.lock().await = Some(error);
                    return Err(std::io::ErrorKind::InvalidData.into());
                }
            };
            match (piece, last) {
                (Some(piece), last) => {
                    return Ok(Some((piece, ((!last).then_some(pieces), hashed, wrong))));
                }
                (None, true) => return Ok(None),
                (None, false) => {}
            }
        }
    });
    (reqwest::Body::wrap_stream(pieces), wrong)
}

async fn next(pieces: &mut BodyDataStream) -> Result<Option<Bytes>, std::io::Error> {
    match timeout(SILENCE, pieces.next()).await {
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(None) => Ok(None),
        Ok(Some(Err(_))) | Err(_) => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}
