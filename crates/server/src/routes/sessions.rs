//! Sessions.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use protocol::api::{ArchiveSession, CreateSession, RepositorySource, SessionList};
use protocol::ids::SessionId;
use protocol::problem::Problem;
use protocol::view::SessionView;
use serde::Deserialize;
use session::{NewRepository, NewSession};

use super::idempotency;
use crate::reply::{Body, Id, Params, Reply};
use crate::state::AppState;

/// Sessions on one page at most.
const MAX_PAGE: usize = 200;

#[derive(Debug, Deserialize)]
pub(crate) struct ListParams {
    #[serde(default)]
    archived: bool,
    before: Option<SessionId>,
    limit: Option<usize>,
}

/// Lists sessions, newest first.
#[utoipa::path(get, path = "/sessions", tag = "sessions", params(
    ("archived" = Option<bool>, Query, description = "Archived ones instead of the others"),
    ("before" = Option<String>, Query, description = "Only older than this session"),
    ("limit" = Option<usize>, Query, description = "At most so many, 50 by default, 200 at most"),
), responses((status = 200, body = SessionList)))]
pub(crate) async fn list_sessions(
    State(state): State<AppState>,
    Params(params): Params<ListParams>,
) -> Result<Json<SessionList>, Reply> {
    let limit = params.limit.unwrap_or(50).clamp(1, MAX_PAGE);
    let mut sessions = state.store.sessions(params.archived, params.before, limit + 1).await?;
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next = sessions.last().filter(|_| more).map(|last| last.id);
    Ok(Json(SessionList { sessions, next }))
}

/// Makes a session with its first prompt, durable when this answers.
#[utoipa::path(post, path = "/sessions", tag = "sessions", request_body = CreateSession, params(
    ("Idempotency-Key" = Option<String>, Header, description = "The same key makes one session"),
), responses(
    (status = 201, body = SessionView),
    (status = 400, description = "Something in the request cannot be used", body = Problem),
    (status = 409, description = "The key was used with other content, or no model is configured", body = Problem),
))]
pub(crate) async fn create_session(
    State(state): State<AppState>,
    headers: HeaderMap,
    Body(body): Body<CreateSession>,
) -> Result<(StatusCode, Json<SessionView>), Reply> {
    let key = idempotency(&headers, "sessions", &body)?;
    let (repository, upload) = match body.repository {
        RepositorySource::Url { url, branch, on_branch } => {
            (NewRepository::Url { url, branch, on_branch }, None)
        }
        RepositorySource::Bundle { upload, name, branch } => {
            let path = match state.uploads.find(&upload).await {
                Ok(path) => path,
                // With a key that was seen before the answer does not need the upload any more.
                Err(reply) => match &key {
                    Some(key) => return repeated(&state, key).await?.ok_or(reply),
                    None => return Err(reply),
                },
            };
            (NewRepository::Bundle { path, name, branch }, Some(upload))
        }
    };
    let new = NewSession {
        prompt: body.prompt,
        repository,
        agent: body.agent,
        environment: body.environment,
        image: body.image,
        key,
    };
    let accepted = state.sessions.create(new).await?;
    if let Some(upload) = upload {
        state.uploads.spend(&upload).await;
    }
    Ok((StatusCode::CREATED, Json(accepted.answer)))
}

async fn repeated(
    state: &AppState,
    key: &store::IdempotencyKey,
) -> Result<Option<(StatusCode, Json<SessionView>)>, Reply> {
    let Some(session) = state.store.accepted_session(key.clone()).await? else { return Ok(None) };
    Ok(Some((StatusCode::CREATED, Json(state.store.session(session).await?))))
}

/// One session as it is now.
#[utoipa::path(get, path = "/sessions/{session}", tag = "sessions", params(("session" = SessionId, Path)), responses(
    (status = 200, body = SessionView), (status = 404, body = Problem),
))]
pub(crate) async fn get_session(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<Json<SessionView>, Reply> {
    Ok(Json(state.store.session(session).await?))
}

/// Deletes a session with its log, blobs, repository and sandbox. Final, and hidden at once; what cannot be
/// removed now is removed within a minute.
#[utoipa::path(delete, path = "/sessions/{session}", tag = "sessions", params(("session" = SessionId, Path)), responses(
    (status = 204, description = "Gone"), (status = 404, body = Problem),
))]
pub(crate) async fn delete_session(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<StatusCode, Reply> {
    state.sessions.delete(session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hides a session and takes its sandbox down, or brings it back to the list.
#[utoipa::path(post, path = "/sessions/{session}/archive", tag = "sessions", params(("session" = SessionId, Path)),
    request_body = ArchiveSession, responses((status = 200, body = SessionView), (status = 404, body = Problem)))]
pub(crate) async fn archive_session(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Body(body): Body<ArchiveSession>,
) -> Result<Json<SessionView>, Reply> {
    state.sessions.handle(session).await?.archive(body.archived).await?;
    Ok(Json(state.store.session(session).await?))
}

/// Stops the turn, or the preparation and the prompts that wait for it.
#[utoipa::path(post, path = "/sessions/{session}/stop", tag = "sessions", params(("session" = SessionId, Path)), responses(
    (status = 202, description = "It stops, within 15 s", body = SessionView),
    (status = 409, description = "Nothing runs", body = Problem),
))]
pub(crate) async fn stop_session(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<(StatusCode, Json<SessionView>), Reply> {
    state.sessions.handle(session).await?.stop().await?;
    Ok((StatusCode::ACCEPTED, Json(state.store.session(session).await?)))
}

/// Tries a failed preparation again; the prompts that wait for it run then.
#[utoipa::path(post, path = "/sessions/{session}/retry", tag = "sessions", params(("session" = SessionId, Path)), responses(
    (status = 202, description = "It is prepared anew", body = SessionView),
    (status = 404, body = Problem),
    (status = 409, description = "It did not fail, or nothing waits", body = Problem),
))]
pub(crate) async fn retry_session(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<(StatusCode, Json<SessionView>), Reply> {
    state.sessions.handle(session).await?.retry().await?;
    Ok((StatusCode::ACCEPTED, Json(state.store.session(session).await?)))
}
