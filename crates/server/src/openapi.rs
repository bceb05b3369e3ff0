//! The API's description: served, and committed as `docs/openapi.json`.

use utoipa::OpenApi as _;

use crate::routes::{
    access, blobs, checkpoints, credentials, diff, environments, events, files, info, network, prompts,
    pull_requests, sessions, shells, stream, uploads,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "patchyard", description = "Sessions of coding agents in isolated sandboxes."),
    servers((url = "/api/v1")),
    paths(
        access::login, access::token, access::logout, access::me,
        info::server, info::openapi,
        environments::list_environments, environments::create_environment, environments::get_environment,
        environments::edit_environment, environments::delete_environment, environments::archive_environment,
        environments::make_default_environment, environments::refresh_environment,
        environments::test_setup, environments::test_network, environments::set_secret, environments::remove_secret, environments::get_setup_test, environments::stop_setup_test,
        credentials::list_git_credentials, credentials::set_git_credential, credentials::remove_git_credential,
        pull_requests::get_pull_request, pull_requests::create_pull_request,
        pull_requests::list_forge_repositories, pull_requests::list_forge_branches,
        uploads::create_upload,
        sessions::list_sessions, sessions::create_session, sessions::get_session, sessions::delete_session,
        sessions::archive_session, sessions::stop_session, sessions::retry_session,
        checkpoints::list_checkpoints, checkpoints::rewind_session, checkpoints::fork_session,
        prompts::create_prompt, prompts::list_prompts, prompts::edit_prompt, prompts::cancel_prompt,
        prompts::answer_question,
        events::list_events, network::list_network_records, network::decide_network, stream::stream,
        diff::get_diff, diff::get_file_diff,
        blobs::get_blob,
        files::get_files, files::put_files,
        shells::list_shells, shells::open_shell, shells::close_shell, shells::shell_socket,
    ),
    components(schemas(
        protocol::event::Event, protocol::event::LiveDelta, protocol::problem::Problem,
        protocol::api::SessionGone, protocol::view::SessionView,
    ))
)]
struct Api;

/// The document, OpenAPI 3.1.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Api::openapi()
}
