//! The door of the git proxy, which is not there yet.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;

/// What git shows, line by line, when a server refuses in plain text.
const WORDS: &str = "patchyard: repositories cannot be fetched or pushed from a sandbox yet.\n\
    What is committed here, or left in the workspace when a turn ends, is kept by the server:\n\
    `patchyard sessions pull SESSION` brings it home, and it can be pushed from there.\n";

/// The most of a body that is read before it is refused.
const READ: usize = 1024 * 1024;

/// Refuses anything.
pub(super) async fn answer(request: Request) -> Response {
    // Who still sends may not hear an answer that comes before it is done.
    let (mut pieces, mut read) = (request.into_body().into_data_stream(), 0);
    while let Some(Ok(piece)) = pieces.next().await {
        read += piece.len();
        if read > READ {
            break;
        }
    }
    let kind = [("content-type", "text/plain; charset=utf-8")];
    (StatusCode::NOT_IMPLEMENTED, kind, Body::from(WORDS)).into_response()
}
