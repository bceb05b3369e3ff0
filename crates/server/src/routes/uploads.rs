//! Bundles of local repositories.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::api::Upload;
use protocol::problem::Problem;

use crate::reply::Reply;
use crate::state::AppState;

/// Takes a git bundle, at most 100 MB, for one session to be made within the hour.
#[utoipa::path(post, path = "/uploads", tag = "sessions",
    request_body(content = String, content_type = "application/octet-stream"), responses(
    (status = 201, body = Upload),
    (status = 413, description = "Over 100 MB", body = Problem),
))]
pub(crate) async fn create_upload(
    State(state): State<AppState>,
    body: Body,
) -> Result<(StatusCode, Json<Upload>), Reply> {
    Ok((StatusCode::CREATED, Json(state.uploads.receive(body).await?)))
}
