//! What the server is at hosts of repositories.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use protocol::git::{GitCredentialList, SetGitCredential};
use protocol::problem::Problem;

use crate::reply::{Body, Reply};
use crate::state::AppState;

/// The hosts that the server has credentials for; never what they are.
#[utoipa::path(get, path = "/git/credentials", tag = "git", responses((status = 200, body = GitCredentialList)))]
pub(crate) async fn list_git_credentials(
    State(state): State<AppState>,
) -> Result<Json<GitCredentialList>, Reply> {
    Ok(Json(state.sessions.git_credentials().await?))
}

/// Sets the credential of a host, in place of an earlier one. Nobody can read it again; the server clones,
/// fetches and pushes with it over TLS, and no sandbox sees it.
#[utoipa::path(put, path = "/git/credentials/{host}", tag = "git", request_body = SetGitCredential,
    params(("host" = String, Path, description = "`host`, or `host:port` where the port is not 443")), responses(
    (status = 204),
    (status = 400, description = "It is no host, user or token", body = Problem),
    (status = 403, description = "The operator switched personal tokens off", body = Problem),
))]
pub(crate) async fn set_git_credential(
    State(state): State<AppState>,
    Path(host): Path<String>,
    Body(set): Body<SetGitCredential>,
) -> Result<StatusCode, Reply> {
    state.sessions.set_git_credential(&host, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets the credential of a host; done also when there was none.
#[utoipa::path(delete, path = "/git/credentials/{host}", tag = "git", params(("host" = String, Path)),
    responses((status = 204), (status = 400, body = Problem)))]
pub(crate) async fn remove_git_credential(
    State(state): State<AppState>,
    Path(host): Path<String>,
) -> Result<StatusCode, Reply> {
    state.sessions.remove_git_credential(&host).await?;
    Ok(StatusCode::NO_CONTENT)
}
