//! What a session changed.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use protocol::api::{Diff, FileDiff};
use protocol::ids::SessionId;
use protocol::problem::Problem;
use protocol::view::SessionView;
use serde::Deserialize;

use crate::reply::{Id, Params, Reply};
use crate::state::AppState;

#[derive(Debug, Deserialize)]
pub(crate) struct DiffParams {
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    #[default]
    Json,
    Patch,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FileParams {
    path: String,
    old_path: Option<String>,
}

/// Changed files and counts against the base; with `format=patch` a patch that `git apply` takes.
#[utoipa::path(get, path = "/sessions/{session}/diff", tag = "diff", params(
    ("session" = SessionId, Path),
    ("format" = Option<String>, Query, description = "`json` (default) or `patch`"),
), responses((status = 200, body = Diff), (status = 404, body = Problem)))]
pub(crate) async fn get_diff(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Params(params): Params<DiffParams>,
) -> Result<Response, Reply> {
    let view = state.store.session(session).await?;
    let (base, commit) = ends(&view);
    Ok(match params.format {
        Format::Json => Json(state.repositories.diff(session, base, commit).await?).into_response(),
        Format::Patch => {
            let patch = state.repositories.patch(session, base, commit).await?;
            ([(header::CONTENT_TYPE, "text/x-diff; charset=utf-8")], patch).into_response()
        }
    })
}

/// The rows of one changed file.
#[utoipa::path(get, path = "/sessions/{session}/diff/file", tag = "diff", params(
    ("session" = SessionId, Path),
    ("path" = String, Query, description = "The file's path now"),
    ("old_path" = Option<String>, Query, description = "Its path before a rename"),
), responses((status = 200, body = FileDiff), (status = 404, body = Problem)))]
pub(crate) async fn get_file_diff(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Params(params): Params<FileParams>,
) -> Result<Json<FileDiff>, Reply> {
    let view = state.store.session(session).await?;
    let (base, commit) = ends(&view);
    let old_path = params.old_path.as_deref();
    Ok(Json(state.repositories.file_diff(session, base, commit, &params.path, old_path).await?))
}

fn ends(view: &SessionView) -> (&str, &str) {
    let commit = view.checkpoint.as_ref().map_or(view.base.as_str(), |point| point.commit.as_str());
    (&view.base, commit)
}
