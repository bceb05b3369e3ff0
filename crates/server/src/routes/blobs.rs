//! Whole outputs.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use protocol::ids::SessionId;
use protocol::problem::Problem;

use crate::reply::{Id, Reply};
use crate::state::AppState;

/// A stored output, as plain text.
#[utoipa::path(get, path = "/sessions/{session}/blobs/{blob}", tag = "sessions",
    params(("session" = SessionId, Path), ("blob" = String, Path)), responses(
    (status = 200, content_type = "text/plain"), (status = 404, body = Problem),
))]
pub(crate) async fn get_blob(
    State(state): State<AppState>,
    Id((session, blob)): Id<(SessionId, String)>,
) -> Result<impl IntoResponse, Reply> {
    let bytes = state.store.blob(session, blob).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        // Made by a sandbox: never more than text, whatever a browser thinks of it.
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ];
    Ok((headers, bytes))
}
