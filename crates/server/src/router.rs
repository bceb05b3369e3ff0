//! The router: the table of contents of the API.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, patch, post, put};

use crate::routes::{
    access, blobs, checkpoints, credentials, diff, environments, events, files, git, health, info, metrics,
    network, prompts, pull_requests, sessions, shells, stream, uploads,
};
use crate::state::AppState;
use crate::{assets, auth};

/// JSON bodies at most; a prompt has its own, lower limit with its own words.
const MAX_JSON: usize = 4 * 1024 * 1024;

/// The page may load nothing from elsewhere, run nothing inline, and be framed by nobody.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types ui svelte-trusted-html";

pub(crate) fn router(state: AppState) -> Router {
    let signed_in = Router::new()
        .route("/auth/me", get(access::me))
        .route("/auth/logout", post(access::logout))
        .route("/server", get(info::server))
        .route("/environments", get(environments::list_environments).post(environments::create_environment))
        .route(
            "/environments/{environment}",
            get(environments::get_environment)
                .put(environments::edit_environment)
                .delete(environments::delete_environment),
        )
        .route("/environments/{environment}/archive", post(environments::archive_environment))
        .route("/environments/{environment}/default", post(environments::make_default_environment))
        .route("/environments/{environment}/cache/refresh", post(environments::refresh_environment))
        .route("/environments/{environment}/test-setup", post(environments::test_setup))
        .route("/environments/{environment}/network-test", post(environments::test_network))
        .route(
            "/environments/{environment}/secrets/{name}",
            put(environments::set_secret).delete(environments::remove_secret),
        )
        .route("/setup-tests/{test}", get(environments::get_setup_test).delete(environments::stop_setup_test))
        .route("/git/credentials", get(credentials::list_git_credentials))
        .route(
            "/git/credentials/{host}",
            put(credentials::set_git_credential).delete(credentials::remove_git_credential),
        )
        .route("/forge/repositories", get(pull_requests::list_forge_repositories))
        .route("/forge/branches", get(pull_requests::list_forge_branches))
        .route(
            "/sessions/{session}/pull-request",
            get(pull_requests::get_pull_request).post(pull_requests::create_pull_request),
        )
        .route("/uploads", post(uploads::create_upload).layer(DefaultBodyLimit::disable()))
        .route("/sessions", get(sessions::list_sessions).post(sessions::create_session))
        .route("/sessions/{session}", get(sessions::get_session).delete(sessions::delete_session))
        .route("/sessions/{session}/archive", post(sessions::archive_session))
        .route("/sessions/{session}/stop", post(sessions::stop_session))
        .route("/sessions/{session}/retry", post(sessions::retry_session))
        .route("/sessions/{session}/checkpoints", get(checkpoints::list_checkpoints))
        .route("/sessions/{session}/rewind", post(checkpoints::rewind_session))
        .route("/sessions/{session}/fork", post(checkpoints::fork_session))
        .route("/sessions/{session}/prompts", get(prompts::list_prompts).post(prompts::create_prompt))
        .route(
            "/sessions/{session}/prompts/{prompt}",
            patch(prompts::edit_prompt).delete(prompts::cancel_prompt),
        )
        .route("/sessions/{session}/questions/{question}", post(prompts::answer_question))
        .route("/sessions/{session}/events", get(events::list_events))
        .route(
            "/sessions/{session}/network",
            get(network::list_network_records).post(network::decide_network),
        )
        .route("/sessions/{session}/diff", get(diff::get_diff))
        .route("/sessions/{session}/diff/file", get(diff::get_file_diff))
        .route("/sessions/{session}/blobs/{blob}", get(blobs::get_blob))
        .route(
            "/sessions/{session}/files",
            get(files::get_files).put(files::put_files).layer(DefaultBodyLimit::disable()),
        )
        .route("/sessions/{session}/shells", get(shells::list_shells).post(shells::open_shell))
        .route("/sessions/{session}/shells/{shell}", delete(shells::close_shell))
        .route("/sessions/{session}/shells/{shell}/socket", get(shells::shell_socket))
        .route("/stream", get(stream::stream))
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::require));
    let open = Router::new()
        .route("/auth/login", post(access::login))
        .route("/auth/token", post(access::token))
        .route("/openapi.json", get(info::openapi));
    let repositories = Router::new()
        .route("/{repository}/info/refs", get(git::info_refs))
        .route("/{repository}/git-upload-pack", post(git::upload_pack).layer(DefaultBodyLimit::max(64 << 20)))
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::require_for_git));
    let counters = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::require));
    Router::new()
        .merge(counters)
        .nest(
            "/api/v1",
            signed_in
                .merge(open)
                .fallback(info::not_found)
                .method_not_allowed_fallback(info::method_not_allowed),
        )
        .nest("/git", repositories.fallback(git::not_found))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(assets::serve)
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .layer(middleware::from_fn_with_state(state.clone(), auth::check_host))
        .layer(middleware::from_fn(security_headers))
        .with_state(state)
}

async fn security_headers(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=(), usb=()"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
