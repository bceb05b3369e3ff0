//! Recorded states of a session: the list, going back to one, and going on from one elsewhere.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use protocol::event::Rewound;
use protocol::ids::SessionId;
use protocol::problem::Problem;
use protocol::rewind::{CHECKPOINT_KINDS, CheckpointList, ForkSession, RewindSession, checkpoints};
use protocol::view::SessionView;

use super::idempotency;
use crate::reply::{Body, Id, Reply};
use crate::state::AppState;

/// The checkpoints of a session, oldest first.
#[utoipa::path(get, path = "/sessions/{session}/checkpoints", tag = "checkpoints", params(("session" = SessionId, Path)),
    responses((status = 200, body = CheckpointList), (status = 404, body = Problem)))]
pub(crate) async fn list_checkpoints(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<Json<CheckpointList>, Reply> {
    state.store.session(session).await?;
    let events = state.store.events_of_kinds(session, &CHECKPOINT_KINDS).await?;
    Ok(Json(CheckpointList { checkpoints: checkpoints(&events) }))
}

/// Goes back to a checkpoint: the files, the conversation, or both. What there is now is recorded first, and
/// background commands of the agent are ended. The branch moves forward: the files come as a new commit.
#[utoipa::path(post, path = "/sessions/{session}/rewind", tag = "checkpoints", params(("session" = SessionId, Path)),
    request_body = RewindSession, responses(
    (status = 200, body = SessionView),
    (status = 404, description = "No such session or checkpoint", body = Problem),
    (status = 409, description = "It is at work, or cannot go back", body = Problem),
))]
pub(crate) async fn rewind_session(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Body(body): Body<RewindSession>,
) -> Result<Json<SessionView>, Reply> {
    let RewindSession { to, files, conversation } = body;
    state.sessions.handle(session).await?.rewind(Rewound { to, files, conversation }).await?;
    Ok(Json(state.store.session(session).await?))
}

/// Makes a session that goes on from a checkpoint of this one, with files and conversation of then.
#[utoipa::path(post, path = "/sessions/{session}/fork", tag = "checkpoints", request_body = ForkSession, params(
    ("session" = SessionId, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "The same key makes one session"),
), responses(
    (status = 201, body = SessionView),
    (status = 404, description = "No such session or checkpoint", body = Problem),
    (status = 409, description = "The key was used with other content", body = Problem),
))]
pub(crate) async fn fork_session(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    headers: HeaderMap,
    Body(body): Body<ForkSession>,
) -> Result<(StatusCode, Json<SessionView>), Reply> {
    let key = idempotency(&headers, &format!("fork {session}"), &body)?;
    let accepted = state.sessions.fork(session, body.at, body.prompt, key).await?;
    Ok((StatusCode::CREATED, Json(accepted.answer)))
}
