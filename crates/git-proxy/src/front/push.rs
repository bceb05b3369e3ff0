//! One push through a door.
//!
//! ```text
//!   head ─ judged ─┬─ no ──▶ the rest is read and forgotten ─▶ report, with the reason for each ref
//!                  └─ yes ─▶ on record ─▶ head written anew, pack streamed ─▶ the server
//!                                                                    its answer, streamed ─▶ on record
//! ```
//!
//! It goes on to its end when the client goes away: what the server did is on record all the same.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::response::Response;
use futures::stream;
use policy::push::PushCommand;
use protocol::git::{GitPush, PushOutcome, PushedBy, PushedRef};
use reqwest::Url;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc};

use super::body::{BodyError, PushBody};
use super::door::{Attached, GitDoor, busy, of_git};
use super::hide::Hide;
use super::push_head::{Finished, HeadReader, PushHead};
use super::report::{self, ReportReader, Verdict};
use super::route::Service;
use super::upstream::{Sent, Upstream};
use crate::credential::Credential;
use crate::remote::{Remote, RemoteError};

/// Pieces of an answer that wait for the client.
const WAITING: usize = 4;

/// What a refusal is said with.
struct Refusal {
    head: PushHead,
    /// For all refs, where they are not told apart.
    reason: String,
    reasons: Option<Vec<String>>,
}

impl GitDoor {
    pub(super) async fn push(
        &self,
        remote: Result<Remote, String>,
        headers: &HeaderMap,
        body: Body,
        slot: OwnedSemaphorePermit,
    ) -> Response {
        if !self.pace.may(Instant::now()) {
            return busy();
        }
        let encoding = headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes());
        let (mut body, known) = PushBody::new(body, encoding);
        let read = match known {
            Ok(()) => read_head(&mut body).await,
            Err(error) => Err(Refusal::of(PushHead::default(), error.to_string())),
        };
        let finished = match read {
            // What git asks before it sends much: whether it may.
            Ok(finished) if finished.head.commands.is_empty() => {
                body.drain().await;
                return answer(Body::empty());
            }
            Ok(finished) => finished,
            Err(refusal) => return self.refuse(remote.ok().as_ref(), refusal, &mut body).await,
        };
        let remote = match remote {
            Ok(remote) => remote,
            Err(reason) => return self.refuse(None, Refusal::of(finished.head, reason), &mut body).await,
        };
        if let Err(reasons) = remote.push.judge(&finished.head.commands) {
            let refusal = Refusal { head: finished.head, reason: remote.push.told(), reasons: Some(reasons) };
            return self.refuse(Some(&remote), refusal, &mut body).await;
        }
        let planned = told_of(&remote, PushOutcome::Planned, &finished.head.commands);
        let (base, recorded) = (self.base(&remote), self.attached.begins(&planned).await);
        let base = match (base, recorded) {
            (Ok(base), Ok(())) => base,
            (Err(error), _) => {
                return self
                    .refuse(Some(&remote), Refusal::of(finished.head, error.to_string()), &mut body)
                    .await;
            }
            (_, Err(reason)) => {
                let reason = format!("the push cannot be recorded, and was not passed on: {reason}");
                return self.refuse(Some(&remote), Refusal::of(finished.head, reason), &mut body).await;
            }
        };
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let passage = Passage {
            upstream: self.gateway.upstream.clone(),
            attached: Arc::clone(&self.attached),
            remote,
            base,
            length: length.filter(|_| body.is_plain()),
            body: Arc::new(Mutex::new(body)),
            slot,
        };
        let (pieces, mut rest) = mpsc::channel(WAITING);
        tokio::spawn(passage.run(finished, pieces));
        answer(Body::from_stream(stream::poll_fn(move |context| rest.poll_recv(context))))
    }

    async fn refuse(&self, remote: Option<&Remote>, refusal: Refusal, body: &mut PushBody) -> Response {
        let Refusal { head, reason, reasons } = refusal;
        let mut push = GitPush {
            repository: remote.map(|remote| remote.url.to_string()).unwrap_or_default(),
            by: PushedBy::Sandbox,
            outcome: PushOutcome::Refused,
            refs: head.commands.iter().map(pushed).collect(),
            words: None,
        };
        let bytes = match &reasons {
            Some(reasons) => {
                for (one, reason) in push.refs.iter_mut().zip(reasons) {
                    one.error = Some(reason.clone());
                }
                report::refusal(&head, reasons)
            }
            None => {
                push.words = Some(reason.clone());
                report::unreadable(&head, &reason)
            }
        };
        self.attached.ended(push).await;
        body.drain().await;
        answer(bytes.into())
    }
}

impl Refusal {
    fn of(head: PushHead, reason: String) -> Self {
        Self { head, reason, reasons: None }
    }
}

async fn read_head(body: &mut PushBody) -> Result<Finished, Refusal> {
    let mut reader = HeadReader::default();
    loop {
        let reason = match body.next().await {
            Ok(Some(piece)) => match reader.push(&piece) {
                Ok(None) => continue,
                Ok(Some(finished)) => return Ok(finished),
                Err(error) => error.to_string(),
            },
            Ok(None) => "the push ends in the list of its refs".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(Refusal::of(reader.so_far().clone(), reason));
    }
}

/// A push that may go out.
struct Passage {
    upstream: Upstream,
    attached: Arc<dyn Attached>,
    remote: Remote,
    base: Url,
    /// Of the body, where it is known.
    length: Option<u64>,
    body: Arc<Mutex<PushBody>>,
    slot: OwnedSemaphorePermit,
}

type Pieces = mpsc::Sender<Result<Bytes, std::io::Error>>;

impl Passage {
    async fn run(self, finished: Finished, pieces: Pieces) {
        let Finished { head, length, rest } = finished;
        let written = head.written();
        let sized = self.length.and_then(|whole| whole.checked_sub(length as u64));
        let sent = Sent {
            length: sized.map(|behind| behind + written.len() as u64),
            body: reqwest::Body::wrap_stream(outgoing([written, rest].concat(), Arc::clone(&self.body))),
            encoding: None,
            protocol: None,
        };
        let answered = self.upstream.serve(&self.remote, &self.base, Service::ReceivePack, sent).await;
        let (push, last) = match answered {
            Ok(response) => {
                let heard = self.hand_on(response, head.has_side_band(), &pieces).await;
                // Told to the client once it is on record, as the end is.
                let broken = heard.is_err().then(|| Err(std::io::ErrorKind::ConnectionAborted.into()));
                (self.verdict(&head, heard), broken)
            }
            Err(error) => {
                let mut push = told_of(&self.remote, PushOutcome::Failed, &head.commands);
                push.words = Some(error.to_string());
                let reasons = vec![error.to_string(); head.commands.len()];
                // Who still sends does not hear an answer.
                self.body.lock().await.drain().await;
                (push, Some(Ok(report::refusal(&head, &reasons).into())))
            }
        };
        self.attached.ended(push).await;
        if let Some(last) = last {
            let _ = pieces.send(last).await;
        }
        drop(self.slot);
    }

    /// Streams the answer to the client, and reads it while it passes.
    async fn hand_on(
        &self,
        mut response: reqwest::Response,
        side_band: bool,
        pieces: &Pieces,
    ) -> Result<Verdict, RemoteError> {
        let mut reader = ReportReader::new(side_band);
        let words = self.remote.shown().map(Credential::words);
        let mut hide = Hide::of(words.into_iter().flatten());
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => {
                    let piece = hide.push(&piece);
                    reader.push(&piece);
                    // The client may be gone; the server goes on.
                    let _ = pieces.send(Ok(piece.into())).await;
                }
                Ok(None) => {
                    let rest = hide.end();
                    reader.push(&rest);
                    let _ = pieces.send(Ok(rest.into())).await;
                    return Ok(reader.verdict());
                }
                Err(error) => return Err(super::upstream::why(&self.remote, &error)),
            }
        }
    }

    fn verdict(&self, head: &PushHead, heard: Result<Verdict, RemoteError>) -> GitPush {
        let mut push = told_of(&self.remote, PushOutcome::Done, &head.commands);
        let verdict = match heard {
            Ok(verdict) => verdict,
            Err(error) => {
                push.outcome = PushOutcome::Failed;
                push.words = Some(error.to_string());
                return push;
            }
        };
        for (one, command) in push.refs.iter_mut().zip(&head.commands) {
            let said = verdict.refs.iter().find(|(name, _)| *name == command.name);
            one.error = match (said, &verdict.unpack) {
                (Some((_, Ok(()))), _) => None,
                (Some((_, Err(reason))), _) | (None, Some(Err(reason))) => Some(reason.clone()),
                (None, _) if head.wants_report() => Some("its server did not say what became of it".into()),
                (None, _) => None,
            };
        }
        if push.refs.iter().any(|one| one.error.is_some()) {
            let silent = head.wants_report() && verdict.unpack.is_none();
            push.outcome = if silent { PushOutcome::Failed } else { PushOutcome::Rejected };
        }
        push.words = Some(verdict.words).filter(|words| !words.is_empty());
        push
    }
}

/// What was read already, then what still comes.
fn outgoing(
    begin: Vec<u8>,
    body: Arc<Mutex<PushBody>>,
) -> impl futures::Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    stream::unfold(Some(Bytes::from(begin)), move |begin| {
        let body = Arc::clone(&body);
        async move {
            if let Some(begin) = begin {
                return Some((Ok(begin), None));
            }
            let next = body.lock().await.next().await;
            next.transpose().map(|piece| (piece, None))
        }
    })
}

fn told_of(remote: &Remote, outcome: PushOutcome, commands: &[PushCommand]) -> GitPush {
    GitPush {
        repository: remote.url.to_string(),
        by: PushedBy::Sandbox,
        outcome,
        refs: commands.iter().map(pushed).collect(),
        words: None,
    }
}

fn pushed(command: &PushCommand) -> PushedRef {
    PushedRef {
        name: command.shown(),
        old: (!command.is_create()).then(|| command.old.clone()),
        new: (!command.is_delete()).then(|| command.new.clone()),
        error: None,
    }
}

fn answer(body: Body) -> Response {
    of_git(Service::ReceivePack, "result", body)
}
