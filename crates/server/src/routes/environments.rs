//! Environments, and setup scripts that are tried out.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use protocol::api::RepositorySource;
use protocol::environment::{
    ArchiveEnvironment, EditEnvironment, Environment, EnvironmentList, EnvironmentSettings, SetupTest,
    TestSetup,
};
use protocol::ids::{EnvironmentId, SetupTestId};
use protocol::network::{NetworkTest, TestNetwork};
use protocol::problem::Problem;
use protocol::secret::SetSecret;
use serde::Deserialize;
use session::NewRepository;

use super::idempotency;
use crate::reply::{Body, Id, Params, Reply};
use crate::state::AppState;

#[derive(Debug, Deserialize)]
pub(crate) struct ListParams {
    #[serde(default)]
    archived: bool,
}

/// Lists environments, the default first.
#[utoipa::path(get, path = "/environments", tag = "environments", params(
    ("archived" = Option<bool>, Query, description = "Archived ones instead of the others"),
), responses((status = 200, body = EnvironmentList)))]
pub(crate) async fn list_environments(
    State(state): State<AppState>,
    Params(params): Params<ListParams>,
) -> Result<Json<EnvironmentList>, Reply> {
    Ok(Json(state.sessions.environments(params.archived).await?))
}

/// Makes an environment.
#[utoipa::path(post, path = "/environments", tag = "environments", request_body = EnvironmentSettings, params(
    ("Idempotency-Key" = Option<String>, Header, description = "The same key makes one environment"),
), responses(
    (status = 201, body = Environment),
    (status = 400, description = "Something in the settings cannot be used", body = Problem),
    (status = 409, description = "The name is taken, or the key was used with other content", body = Problem),
))]
pub(crate) async fn create_environment(
    State(state): State<AppState>,
    headers: HeaderMap,
    Body(settings): Body<EnvironmentSettings>,
) -> Result<(StatusCode, Json<Environment>), Reply> {
    let key = idempotency(&headers, "environments", &settings)?;
    let accepted = state.sessions.create_environment(settings, key).await?;
    Ok((StatusCode::CREATED, Json(accepted.answer)))
}

/// One environment, with what its setups left for later sessions.
#[utoipa::path(get, path = "/environments/{environment}", tag = "environments",
    params(("environment" = EnvironmentId, Path)),
    responses((status = 200, body = Environment), (status = 404, body = Problem)))]
pub(crate) async fn get_environment(
    State(state): State<AppState>,
    Id(environment): Id<EnvironmentId>,
) -> Result<Json<Environment>, Reply> {
    Ok(Json(state.sessions.environment(environment).await?))
}

/// Replaces the settings. Running sessions get them with their next sandbox.
#[utoipa::path(put, path = "/environments/{environment}", tag = "environments", request_body = EditEnvironment,
    params(("environment" = EnvironmentId, Path)), responses(
    (status = 200, body = Environment),
    (status = 400, description = "Something in the settings cannot be used", body = Problem),
    (status = 404, body = Problem),
    (status = 409, description = "It was changed in between, is archived, or the name is taken", body = Problem),
))]
pub(crate) async fn edit_environment(
    State(state): State<AppState>,
    Id(environment): Id<EnvironmentId>,
    Body(edit): Body<EditEnvironment>,
) -> Result<Json<Environment>, Reply> {
    Ok(Json(state.sessions.edit_environment(environment, edit).await?))
}

/// Archives an environment: hidden, and its sessions go on.
#[utoipa::path(delete, path = "/environments/{environment}", tag = "environments",
    params(("environment" = EnvironmentId, Path)), responses(
    (status = 204, description = "Archived"),
    (status = 404, body = Problem),
    (status = 409, description = "It is the default", body = Problem),
))]
pub(crate) async fn delete_environment(
    State(state): State<AppState>,
    Id(environment): Id<EnvironmentId>,
) -> Result<StatusCode, Reply> {
    state.sessions.archive_environment(environment, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hides an environment, or brings it back.
#[utoipa::path(post, path = "/environments/{environment}/archive", tag = "environments",
    request_body = ArchiveEnvironment, params(("environment" = EnvironmentId, Path)), responses(
    (status = 200, body = Environment),
    (status = 404, body = Problem),
    (status = 409, description = "It is the default, or the name is taken by now", body = Problem),
))]
pub(crate) async fn archive_environment(
    State(state): State<AppState>,
    Id(environment): Id<EnvironmentId>,
    Body(body): Body<ArchiveEnvironment>,
) -> Result<Json<Environment>, Reply> {
    Ok(Json(state.sessions.archive_environment(environment, body.archived).await?))
}

/// Makes an environment the one of sessions that name none.
#[utoipa::path(post, path = "/environments/{environment}/default", tag = "environments",
    params(("environment" = EnvironmentId, Path)), responses(
    (status = 200, body = Environment),
    (status = 404, body = Problem),
    (status = 409, description = "It is archived", body = Problem),
))]
pub(crate) async fn make_default_environment(
    State(state): State<AppState>,
    Id(environment): Id<EnvironmentId>,
) -> Result<Json<Environment>, Reply> {
    Ok(Json(state.sessions.make_default_environment(environment).await?))
}

/// Forgets what setups left: the next session of each repository runs the setup script anew.
#[utoipa::path(post, path = "/environments/{environment}/cache/refresh", tag = "environments",
    params(("environment" = EnvironmentId, Path)),
    responses((status = 200, body = Environment), (status = 404, body = Problem)))]
pub(crate) async fn refresh_environment(
    State(state): State<AppState>,
    Id(environment): Id<EnvironmentId>,
) -> Result<Json<Environment>, Reply> {
    Ok(Json(state.sessions.refresh_environment(environment).await?))
}

/// Tries a setup script out in a sandbox of its own, which goes afterwards. Read on with
/// `GET /setup-tests/{test}`.
#[utoipa::path(post, path = "/environments/{environment}/test-setup", tag = "environments",
    request_body = TestSetup, params(("environment" = EnvironmentId, Path)), responses(
    (status = 202, body = SetupTest),
    (status = 400, description = "Something in the settings cannot be used", body = Problem),
    (status = 404, body = Problem),
    (status = 429, description = "Eight tests wait or run", body = Problem),
))]
pub(crate) async fn test_setup(
    State(state): State<AppState>,
    Id(environment): Id<EnvironmentId>,
    Body(body): Body<TestSetup>,
) -> Result<(StatusCode, Json<SetupTest>), Reply> {
    let repository = match body.repository {
        None => None,
        Some(RepositorySource::Url { url, branch, on_branch }) => {
            Some(NewRepository::Url { url, branch, on_branch })
        }
        Some(RepositorySource::Bundle { upload, name, branch }) => {
            Some(NewRepository::Bundle { path: state.uploads.find(&upload).await?, name, branch })
        }
    };
    let test = state.sessions.test_setup(environment, body.settings, repository).await?;
    Ok((StatusCode::ACCEPTED, Json(test)))
}

/// Whether a session of the environment could connect to a host, and by which rule. Nothing is resolved
/// and nothing is sent.
#[utoipa::path(post, path = "/environments/{environment}/network-test", tag = "environments",
    request_body = TestNetwork, params(("environment" = EnvironmentId, Path)), responses(
    (status = 200, body = NetworkTest),
    (status = 400, description = "Something in the settings cannot be used", body = Problem),
    (status = 404, body = Problem),
))]
pub(crate) async fn test_network(
    State(state): State<AppState>,
    Id(environment): Id<EnvironmentId>,
    Body(test): Body<TestNetwork>,
) -> Result<Json<NetworkTest>, Reply> {
    Ok(Json(state.sessions.test_network(environment, test).await?))
}

/// Sets the value of a secret that the environment binds. Nobody can read it again; sandboxes use it at once.
#[utoipa::path(put, path = "/environments/{environment}/secrets/{name}", tag = "environments",
    request_body = SetSecret, params(("environment" = EnvironmentId, Path), ("name" = String, Path)), responses(
    (status = 204),
    (status = 400, description = "It is no value for a secret", body = Problem),
    (status = 404, body = Problem),
    (status = 409, description = "The environment binds no such secret", body = Problem),
))]
pub(crate) async fn set_secret(
    State(state): State<AppState>,
    Path((environment, name)): Path<(EnvironmentId, String)>,
    Body(set): Body<SetSecret>,
) -> Result<StatusCode, Reply> {
    state.sessions.set_secret(environment, &name, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets the value of a secret; done also when there was none.
#[utoipa::path(delete, path = "/environments/{environment}/secrets/{name}", tag = "environments",
    params(("environment" = EnvironmentId, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn remove_secret(
    State(state): State<AppState>,
    Path((environment, name)): Path<(EnvironmentId, String)>,
) -> Result<StatusCode, Reply> {
    state.sessions.remove_secret(environment, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(crate) struct TestParams {
    #[serde(default)]
    after: u64,
}

/// A setup test as it is. Answers at once when there is output after byte `after`, or when it is over;
/// else as soon as there is, or after 20 s.
#[utoipa::path(get, path = "/setup-tests/{test}", tag = "environments", params(
    ("test" = SetupTestId, Path),
    ("after" = Option<u64>, Query, description = "Only output after this byte: `next` of the last answer"),
), responses((status = 200, body = SetupTest), (status = 404, body = Problem)))]
pub(crate) async fn get_setup_test(
    State(state): State<AppState>,
    Id(test): Id<SetupTestId>,
    Params(params): Params<TestParams>,
) -> Result<Json<SetupTest>, Reply> {
    let waiting = state.sessions.setup_test(test, params.after);
    let shown = tokio::select! {
        shown = waiting => shown?,
        () = state.stopping.cancelled() => return Err(session::SessionError::Stopping.into()),
    };
    Ok(Json(shown))
}

/// Stops a setup test.
#[utoipa::path(delete, path = "/setup-tests/{test}", tag = "environments", params(("test" = SetupTestId, Path)),
    responses((status = 204, description = "It stops"), (status = 404, body = Problem)))]
pub(crate) async fn stop_setup_test(
    State(state): State<AppState>,
    Id(test): Id<SetupTestId>,
) -> Result<StatusCode, Reply> {
    state.sessions.cancel_setup_test(test)?;
    Ok(StatusCode::NO_CONTENT)
}
