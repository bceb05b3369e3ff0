//! Shells in a session's sandbox, over a WebSocket.

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use protocol::ids::{SessionId, ShellId};
use protocol::problem::Problem;
use protocol::shell::{OpenShell, Shell, ShellControl, ShellList};
use session::{ShellOutput, ShellViewer};
use tokio_util::sync::CancellationToken;

use crate::auth::same_origin;
use crate::reply::{Body, Id, Reply};
use crate::state::AppState;

/// The longest message of a viewer: a paste.
const MAX_INPUT: usize = 64 * 1024;

/// Opens a shell.
#[utoipa::path(post, path = "/sessions/{session}/shells", tag = "shells", request_body = OpenShell,
    params(("session" = String, Path)), responses(
    (status = 201, body = Shell),
    (status = 409, description = "The session has no sandbox now", body = Problem),
    (status = 429, description = "Too many shells", body = Problem),
))]
pub(crate) async fn open_shell(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    Body(body): Body<OpenShell>,
) -> Result<(StatusCode, Json<Shell>), Reply> {
    Ok((StatusCode::CREATED, Json(state.sessions.open_shell(session, body).await?)))
}

/// The shells that run.
#[utoipa::path(get, path = "/sessions/{session}/shells", tag = "shells",
    params(("session" = String, Path)), responses((status = 200, body = ShellList)))]
pub(crate) async fn list_shells(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<Json<ShellList>, Reply> {
    Ok(Json(ShellList { shells: state.sessions.shells(session).await? }))
}

/// Ends a shell and what runs in it.
#[utoipa::path(delete, path = "/sessions/{session}/shells/{shell}", tag = "shells",
    params(("session" = String, Path), ("shell" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn close_shell(
    State(state): State<AppState>,
    Id((session, shell)): Id<(SessionId, ShellId)>,
) -> Result<StatusCode, Reply> {
    state.sessions.close_shell(session, shell).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks at a shell and types: binary frames are the terminal's bytes both ways, text frames are JSON
/// (`resize` to the server, `ended` and `behind` from it). Closing the socket leaves the shell running.
#[utoipa::path(get, path = "/sessions/{session}/shells/{shell}/socket", tag = "shells",
    params(("session" = String, Path), ("shell" = String, Path)),
    responses((status = 101), (status = 404, body = Problem)))]
pub(crate) async fn shell_socket(
    State(state): State<AppState>,
    Id((session, shell)): Id<(SessionId, ShellId)>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Reply> {
    // A socket is a write, but browsers open it with a read.
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !same_origin(&headers, host) {
        let next = "do this from patchyard's own page";
        return Err(Reply::new(403, "wrong_origin", "another site's page may not do this", next));
    }
    let viewer = state.sessions.watch_shell(session, shell).await?;
    let stopping = state.stopping.clone();
    let upgrade = upgrade.max_message_size(MAX_INPUT).max_frame_size(MAX_INPUT);
    Ok(upgrade.on_upgrade(move |socket| carry(socket, viewer, stopping)))
}

async fn carry(mut socket: WebSocket, mut viewer: ShellViewer, stopping: CancellationToken) {
    loop {
        tokio::select! {
            output = viewer.next() => {
                let message = match output {
                    Some(ShellOutput::Bytes(bytes)) => Message::Binary(bytes.into()),
                    Some(ShellOutput::Notice(notice)) => {
                        Message::Text(serde_json::to_string(&notice).unwrap_or_default().into())
                    }
                    None => break,
                };
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Binary(bytes))) => viewer.input(bytes.to_vec()).await,
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(ShellControl::Resize(size)) => viewer.resize(size).await,
                    // A newer client's wish.
                    Err(_) => {}
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            () = stopping.cancelled() => break,
        }
    }
    let _ = socket.send(Message::Close(None)).await;
}
