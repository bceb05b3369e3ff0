//! What a session's sandboxes tried to reach.

use axum::Json;
use axum::extract::State;
use protocol::egress::NetworkPage;
use protocol::ids::SessionId;
use protocol::network::{DecideNetwork, NetworkTest};
use protocol::problem::Problem;
use serde::Deserialize;

use crate::reply::{Body, Id, Params, Reply};
use crate::state::AppState;

/// Records on one page at most.
const MAX_PAGE: usize = 1000;

#[derive(Debug, Deserialize)]
pub(crate) struct RecordParams {
    after: Option<u64>,
    limit: Option<usize>,
}

/// The audit records of a session's network, in order. Each is tied to the one before by its hash; the
/// answer says where that chain is broken.
#[utoipa::path(get, path = "/sessions/{session}/network", tag = "sessions", params(
    ("session" = SessionId, Path),
    ("after" = Option<u64>, Query, description = "Only records after this number"),
    ("limit" = Option<usize>, Query, description = "At most so many, 200 by default, 1000 at most"),
), responses((status = 200, body = NetworkPage), (status = 404, body = Problem)))]
pub(crate) async fn list_network_records(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Params(params): Params<RecordParams>,
) -> Result<Json<NetworkPage>, Reply> {
    let limit = params.limit.unwrap_or(200).clamp(1, MAX_PAGE);
    Ok(Json(state.sessions.network_records(session, params.after.unwrap_or(0), limit).await?))
}

/// Decides about something that the session's network refuses. The answer is what holds now for that
/// host and port. 409 where nobody can be asked: level `none`, a list of denials, a closed address.
#[utoipa::path(post, path = "/sessions/{session}/network", tag = "sessions", params(
    ("session" = SessionId, Path),
), request_body = DecideNetwork, responses(
    (status = 200, body = NetworkTest), (status = 400, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem),
))]
pub(crate) async fn decide_network(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Body(decide): Body<DecideNetwork>,
) -> Result<Json<NetworkTest>, Reply> {
    Ok(Json(state.sessions.decide_network(session, decide).await?))
}
