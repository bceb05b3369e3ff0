//! Files into a session's sandbox and out of it, as tar streams.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use protocol::api::FilesTaken;
use protocol::ids::SessionId;
use protocol::problem::Problem;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::reply::{Id, Params, Reply};
use crate::state::AppState;

/// The largest archive that is taken: 10 GB.
const MAX_ARCHIVE: u64 = 10_000_000_000;

/// How much is read on, and how long.
const MAX_READ_ON: usize = 16 * 1024 * 1024;
const READ_ON: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
pub(crate) struct FilesParams {
    path: String,
}

/// A file or folder of the sandbox as a tar stream. Links, devices and sockets are left out, and no link
/// on the way is followed.
#[utoipa::path(get, path = "/sessions/{session}/files", tag = "files", params(
    ("session" = String, Path),
    ("path" = String, Query, description = "Absolute, or from the workspace on"),
), responses(
    (status = 200, content_type = "application/x-tar"),
    (status = 409, description = "There is no sandbox, or it has nothing to give there", body = Problem),
))]
pub(crate) async fn get_files(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Params(params): Params<FilesParams>,
) -> Result<Response, Reply> {
    let mut copy = state.sessions.copy_out(session, &params.path).await?;
    let (pieces, body) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let piece = match copy.next().await {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => return,
                // The connection breaks, so that nobody takes half an archive for a whole one.
                Err(error) => Err(error),
            };
            let is_last = piece.is_err();
            if pieces.send(piece).await.is_err() {
                return copy.abort().await;
            }
            if is_last {
                return;
            }
        }
    });
    let body = Body::from_stream(ReceiverStream::new(body));
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

/// Takes a tar stream of one file or folder and puts it to a path of the sandbox as `cp -r` would. Links
/// and devices in it are left out; a name that leads elsewhere ends it.
#[utoipa::path(put, path = "/sessions/{session}/files", tag = "files", params(
    ("session" = String, Path),
    ("path" = String, Query, description = "Absolute, or from the workspace on"),
), request_body(content_type = "application/x-tar"), responses(
    (status = 200, body = FilesTaken),
    (status = 409, description = "There is no sandbox, or it refused", body = Problem),
    (status = 413, description = "The archive is over 10 GB", body = Problem),
))]
pub(crate) async fn put_files(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Params(params): Params<FilesParams>,
    body: Body,
) -> Result<Json<FilesTaken>, Reply> {
    let mut body = body.into_data_stream();
    let taken = async {
        let mut copy = state.sessions.copy_in(session, &params.path).await?;
        match give(&mut copy, &mut body).await {
            Ok(bytes) => Ok(Json(FilesTaken { bytes, remarks: copy.finish().await? })),
            Err(reply) => {
                copy.abort().await;
                Err(reply)
            }
        }
    };
    let taken = taken.await;
    if taken.is_err() {
        read_on(&mut body).await;
    }
    taken
}

/// Reads what still comes of a request that is refused, up to a point: who is still sending when the
/// connection closes does not get to read why.
async fn read_on(body: &mut BodyDataStream) {
    let mut left = MAX_READ_ON;
    let rest = async {
        while let Some(Ok(piece)) = body.next().await {
            match left.checked_sub(piece.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(READ_ON, rest).await;
}

async fn give(copy: &mut session::Copy, body: &mut BodyDataStream) -> Result<u64, Reply> {
    let mut bytes = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| {
            Reply::new(400, "upload_broken", "the archive did not arrive whole", "send it again")
                .detail(error.to_string())
        })?;
        bytes += piece.len() as u64;
        if bytes > MAX_ARCHIVE {
            return Err(Reply::new(
                413,
                "archive_too_large",
                "the archive is over 10 GB",
                "copy it in parts",
            ));
        }
        copy.give(&piece).await?;
    }
    Ok(bytes)
}
