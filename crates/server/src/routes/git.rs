//! `git fetch` of a session's repository: smart HTTP, read only.

use std::io::Write as _;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use flate2::write::GzDecoder;
use futures::StreamExt as _;
use protocol::ids::SessionId;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::reply::{Id, Params, Reply};
use crate::state::AppState;

#[derive(Debug, Deserialize)]
pub(crate) struct ServiceParams {
    service: Option<String>,
}

/// `GET /git/<session>.git/info/refs?service=git-upload-pack`.
pub(crate) async fn info_refs(
    State(state): State<AppState>,
    Id(repository): Id<String>,
    Params(params): Params<ServiceParams>,
    headers: HeaderMap,
) -> Result<Response, Reply> {
    let session = session(&repository)?;
    if params.service.as_deref() != Some("git-upload-pack") {
        let next = "fetch from here; results are pushed to a forge by patchyard itself";
        return Err(Reply::new(
            403,
            "read_only",
            "a session's repository can be fetched, not pushed to",
            next,
        ));
    }
    state.store.session(session).await?;
    let body = state.repositories.advertise(session, protocol(&headers)).await?;
    Ok((answer_headers("application/x-git-upload-pack-advertisement"), body).into_response())
}

/// Everything else below `/git`.
pub(crate) async fn not_found(uri: Uri) -> Reply {
    let next = "the address is /git/<session>.git, for git fetch and git clone";
    Reply::new(404, "not_found", "there is nothing at this address", next).detail(uri.path())
}

/// `POST /git/<session>.git/git-upload-pack`.
pub(crate) async fn upload_pack(
    State(state): State<AppState>,
    Id(repository): Id<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Reply> {
    let session = session(&repository)?;
    let mut coding = Coding::of(&headers)?;
    state.store.session(session).await?;
    let git_proxy::UploadPack { mut stdin, stdout, mut child } =
        state.repositories.upload_pack(session, protocol(&headers)).await?;
    let mut chunks = body.into_data_stream();
    tokio::spawn(async move {
        'body: while let Some(Ok(chunk)) = chunks.next().await {
            // Small pieces: what is packed grows a thousandfold at most, and is passed on at once.
            for piece in chunk.chunks(4096) {
                let Ok(plain) = coding.plain(piece) else { break 'body };
                if stdin.write_all(&plain).await.is_err() {
                    break 'body;
                }
            }
        }
        drop(stdin);
        let _ = child.wait().await;
    });
    let stream = Body::from_stream(ReaderStream::with_capacity(stdout, 64 * 1024));
    Ok((answer_headers("application/x-git-upload-pack-result"), stream).into_response())
}

/// How a body is packed: git does it with requests of more than a kilobyte.
enum Coding {
    Plain,
    Gzip(Box<GzDecoder<Vec<u8>>>),
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, Reply> {
        match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity") => Ok(Self::Plain),
            Some(b"gzip" | b"x-gzip") => Ok(Self::Gzip(Box::new(GzDecoder::new(Vec::new())))),
            Some(_) => {
                let next = "send it plain or with gzip, as git does";
                Err(Reply::new(415, "encoding", "this body encoding is not understood", next))
            }
        }
    }

    /// What a piece of the body says.
    fn plain(&mut self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(piece.to_vec()),
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

fn session(repository: &str) -> Result<SessionId, Reply> {
    let id = repository.strip_suffix(".git").unwrap_or(repository);
    id.parse().map_err(|error: protocol::ids::BadId| {
        Reply::new(404, "session_not_found", error.to_string(), "the address is /git/<session>.git")
    })
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get("git-protocol").and_then(|value| value.to_str().ok())
}

fn answer_headers(kind: &'static str) -> [(header::HeaderName, &'static str); 2] {
    [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache, max-age=0, must-revalidate")]
}
