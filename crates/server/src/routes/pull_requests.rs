//! Pull requests of sessions, and what can be chosen from at forges.

use axum::Json;
use axum::extract::State;
use protocol::ids::SessionId;
use protocol::problem::Problem;
use protocol::pull_request::{CreatePullRequest, ForgeBranches, ForgeRepositories, SessionPullRequest};
use serde::Deserialize;

use crate::reply::{Body, Id, Params, Reply};
use crate::state::AppState;

#[derive(Debug, Deserialize)]
pub(crate) struct RepositoryParams {
    #[serde(default)]
    query: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BranchParams {
    url: String,
    #[serde(default)]
    query: String,
}

/// The pull request of a session as its forge tells of it now; or why there is none, and what one would say.
#[utoipa::path(get, path = "/sessions/{session}/pull-request", tag = "git", params(("session" = SessionId, Path)),
    responses((status = 200, body = SessionPullRequest), (status = 404, body = Problem)))]
pub(crate) async fn get_pull_request(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<Json<SessionPullRequest>, Reply> {
    Ok(Json(state.sessions.pull_request(session).await?))
}

/// Opens the pull request of a session: its branch is pushed, and the forge asked. Where one is open, that one
/// is answered, and nothing is done. With `compose` the branch is pushed and the forge's page is answered.
#[utoipa::path(post, path = "/sessions/{session}/pull-request", tag = "git", params(("session" = SessionId, Path)),
    request_body = CreatePullRequest, responses(
    (status = 200, body = SessionPullRequest),
    (status = 400, description = "The title, the text or the branch cannot be used", body = Problem),
    (status = 403, description = "The forge does not allow it", body = Problem),
    (status = 404, body = Problem),
    (status = 409, description = "There is nothing to propose, or nowhere", body = Problem),
    (status = 502, description = "The forge cannot be reached", body = Problem),
))]
pub(crate) async fn create_pull_request(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Body(wish): Body<CreatePullRequest>,
) -> Result<Json<SessionPullRequest>, Reply> {
    Ok(Json(state.sessions.create_pull_request(session, wish).await?))
}

/// Repositories of the forges that the server has tokens for.
#[utoipa::path(get, path = "/forge/repositories", tag = "git", params(
    ("query" = Option<String>, Query, description = "Only those whose name has this in it"),
), responses((status = 200, body = ForgeRepositories)))]
pub(crate) async fn list_forge_repositories(
    State(state): State<AppState>,
    Params(params): Params<RepositoryParams>,
) -> Result<Json<ForgeRepositories>, Reply> {
    Ok(Json(state.sessions.forge_repositories(&params.query).await?))
}

/// Branches of a repository of a forge that the server has a token for.
#[utoipa::path(get, path = "/forge/branches", tag = "git", params(
    ("url" = String, Query, description = "The repository's address"),
    ("query" = Option<String>, Query, description = "Only those whose name has this in it"),
), responses(
    (status = 200, body = ForgeBranches),
    (status = 400, description = "It is no repository of a forge", body = Problem),
    (status = 403, description = "The forge does not take the token", body = Problem),
    (status = 404, description = "The forge does not know it", body = Problem),
    (status = 502, description = "The forge cannot be reached", body = Problem),
))]
pub(crate) async fn list_forge_branches(
    State(state): State<AppState>,
    Params(params): Params<BranchParams>,
) -> Result<Json<ForgeBranches>, Reply> {
    Ok(Json(state.sessions.forge_branches(&params.url, &params.query).await?))
}
