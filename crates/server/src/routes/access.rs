//! Signing in and out.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use protocol::api::{LoginCode, NewToken};
use protocol::problem::Problem;
use store::Access;

use crate::auth::{COOKIE, Via, authorization, cookie};
use crate::reply::{Body, Reply};
use crate::state::AppState;

/// Thirty days, as long as the store keeps a browser session.
const COOKIE_SECONDS: u32 = 30 * 24 * 3600;

/// Exchanges a one-time code for a browser session.
#[utoipa::path(post, path = "/auth/login", tag = "access", request_body = LoginCode, responses(
    (status = 204, description = "Signed in; the session is in an HttpOnly cookie"),
    (status = 401, description = "The code is unknown, spent or over", body = Problem),
))]
pub(crate) async fn login(
    State(state): State<AppState>,
    Body(body): Body<LoginCode>,
) -> Result<Response, Reply> {
    let Some(secret) = state.store.exchange(&body.code, Access::Browser, "browser").await? else {
        return Err(spent());
    };
    let cookie = format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Exchanges a one-time code for a token.
#[utoipa::path(post, path = "/auth/token", tag = "access", request_body = LoginCode, responses(
    (status = 201, description = "The token, shown once", body = NewToken),
    (status = 401, description = "The code is unknown, spent or over", body = Problem),
))]
pub(crate) async fn token(
    State(state): State<AppState>,
    Body(body): Body<LoginCode>,
) -> Result<(StatusCode, Json<NewToken>), Reply> {
    let token = state.store.exchange(&body.code, Access::Token, "terminal").await?.ok_or_else(spent)?;
    Ok((StatusCode::CREATED, Json(NewToken { token })))
}

/// Ends the browser session, and the token where one is presented.
#[utoipa::path(post, path = "/auth/logout", tag = "access", responses((status = 204, description = "Signed out")))]
pub(crate) async fn logout(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, Reply> {
    if let Some(secret) = cookie(&headers) {
        state.store.revoke(secret).await?;
    }
    if let Some(secret) = authorization(&headers) {
        state.store.revoke(&secret).await?;
    }
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, gone)]).into_response())
}

/// Says how the request is signed in: `{"kind":"browser"}` or `{"kind":"token"}`.
#[utoipa::path(get, path = "/auth/me", tag = "access", responses(
    (status = 200, description = "Signed in"),
    (status = 401, description = "Not signed in", body = Problem),
))]
pub(crate) async fn me(Extension(via): Extension<Via>) -> Json<serde_json::Value> {
    let kind = match via {
        Via::Browser => "browser",
        Via::Token => "token",
    };
    Json(serde_json::json!({ "kind": kind }))
}

fn spent() -> Reply {
    let next = "a code is good once and for an hour; start `patchyard serve` again for a new one";
    Reply::new(401, "bad_code", "this code is unknown, was used before, or is over", next)
}
