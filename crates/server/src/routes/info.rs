//! The server about itself.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, Uri};
use protocol::api::ServerInfo;
use protocol::sandbox_host::HostReport;

use crate::reply::Reply;
use crate::state::AppState;

/// What a new session can choose from, and what is missing.
#[utoipa::path(get, path = "/server", tag = "server", responses((status = 200, body = ServerInfo)))]
pub(crate) async fn server(State(state): State<AppState>) -> Json<ServerInfo> {
    let default = state.settings.default_image.clone();
    let mut missing = state.settings.missing.clone();
    let images = match state.host.probe(false).await {
        Ok(report) => {
            missing.extend(no_runtime(&report));
            if !report.images.iter().any(|image| image.name == default) {
                missing.push(format!("There is no image `{default}`: run scripts/setup, or `patchyard image import {default} PATH`."));
            }
            let others = report.images.into_iter().map(|image| image.name).filter(|name| *name != default);
            std::iter::once(default.clone()).chain(others).collect()
        }
        Err(error) => {
            missing.push(format!("No sandbox can be made: {error}. `patchyard doctor` says more."));
            vec![default]
        }
    };
    Json(ServerInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        agents: state.sessions.agent_names(),
        images,
        model: state.settings.model.clone(),
        missing,
    })
}

/// Why no runtime works, where none does.
fn no_runtime(report: &HostReport) -> Option<String> {
    if report.runtimes.iter().any(|runtime| runtime.chosen) {
        return None;
    }
    let reasons =
        report.runtimes.iter().filter_map(|runtime| Some((&runtime.name, runtime.why_not.as_ref()?)));
    let reasons: Vec<String> = reasons.map(|(name, reason)| format!("{name}: {reason}")).collect();
    Some(format!("No sandbox runtime works here: {}. `patchyard doctor` says more.", reasons.join("; ")))
}

/// This API, as OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses((status = 200, description = "OpenAPI 3.1")))]
pub(crate) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(crate::openapi::document())
}

/// Everything else below `/api/v1`.
pub(crate) async fn not_found(uri: Uri) -> Reply {
    let reply = Reply::new(404, "not_found", "there is nothing at this address", "see /api/v1/openapi.json");
    reply.detail(uri.path())
}

/// Something below `/api/v1`, asked for in a way that it does not have.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Reply {
    let title = format!("{method} is not for this address");
    let next = "see /api/v1/openapi.json, or the Allow header, for what is";
    Reply::new(405, "method_not_allowed", title, next).detail(uri.path())
}
