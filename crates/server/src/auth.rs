//! Who may ask, and from where.
//!
//! ```text
//!  Host not ours ─────────────▶ 421   a page of another name that resolves to us (DNS rebinding)
//!  Origin not ours, and a write ▶ 403   a page elsewhere that uses the browser's cookie
//!  no valid secret ───────────▶ 401
//! ```
//!
//! Secrets: `Authorization: Bearer` for terminals, Basic with the token as password for git, an
//! HttpOnly cookie for browsers.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use store::Access;

use crate::reply::Reply;
use crate::state::AppState;

/// The cookie of a browser session.
pub(crate) const COOKIE: &str = "patchyard_session";

/// How a request showed who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Browser,
    Token,
}

/// Refuses requests for other hosts and writes from other origins.
pub(crate) async fn check_host(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let ours = state.settings.hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
    if !ours {
        let next = "use the address that `patchyard serve` printed, or add this name to [server] hosts";
        return Reply::new(421, "wrong_host", "this name is not one of this server's", next).into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && !same_origin(headers, host)
    {
        let next = "do this from patchyard's own page";
        return Reply::new(403, "wrong_origin", "another site's page may not do this", next).into_response();
    }
    next.run(request).await
}

/// Whether a write comes from our own page, or from no page at all.
pub(crate) fn same_origin(headers: &HeaderMap, host: &str) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return false;
    }
    match text(header::ORIGIN) {
        // Browsers send it with every write; a terminal has none and cannot be tricked by a page.
        None => !headers.contains_key(header::COOKIE),
        Some(origin) => {
            let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        }
    }
}

/// Refuses requests without a valid secret.
pub(crate) async fn require(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    match identify(&state, request.headers()).await {
        Ok(Some(via)) => {
            request.extensions_mut().insert(via);
            next.run(request).await
        }
        Ok(None) => {
            let next = "open the one-time URL that `patchyard serve` printed, or run `patchyard login`";
            Reply::new(401, "not_signed_in", "you are not signed in", next).into_response()
        }
        Err(reply) => reply.into_response(),
    }
}

/// The same for git, which sends its password only after it was asked for it.
pub(crate) async fn require_for_git(state: State<AppState>, request: Request, next: Next) -> Response {
    let mut response = require(state, request, next).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        let ask = HeaderValue::from_static("Basic realm=\"patchyard\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
    }
    response
}

async fn identify(state: &AppState, headers: &HeaderMap) -> Result<Option<Via>, Reply> {
    if let Some(secret) = authorization(headers) {
        let known = state.store.identify(Access::Token, &secret).await?;
        return Ok(known.map(|_| Via::Token));
    }
    if let Some(secret) = cookie(headers) {
        let known = state.store.identify(Access::Browser, secret).await?;
        return Ok(known.map(|_| Via::Browser));
    }
    Ok(None)
}

/// The token of a Bearer or Basic header.
pub(crate) fn authorization(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let plain = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        return plain.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

/// The browser session's secret.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_write_needs_our_own_origin_or_no_browser_at_all() {
        let host = "127.0.0.1:7878";
        for (pairs, wanted) in [
            (vec![], true),
            (vec![("origin", "http://127.0.0.1:7878")], true),
            (vec![("origin", "http://127.0.0.1:7878"), ("sec-fetch-site", "same-origin")], true),
            (vec![("origin", "http://127.0.0.1:9999")], false),
            (vec![("origin", "null")], false),
            (vec![("origin", "https://evil.example")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("cookie", "patchyard_session=x")], false),
        ] {
            assert_eq!(same_origin(&headers(&pairs), host), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn secrets_are_found_in_each_of_their_places() {
        assert_eq!(authorization(&headers(&[("authorization", "Bearer pyt_a")])).unwrap(), "pyt_a");
        let basic = format!("Basic {}", STANDARD.encode("me:pyt_b"));
        assert_eq!(authorization(&headers(&[("authorization", &basic)])).unwrap(), "pyt_b");
        assert_eq!(cookie(&headers(&[("cookie", "a=b; patchyard_session=pyb_c")])).unwrap(), "pyb_c");
        assert_eq!(cookie(&headers(&[("cookie", "patchyard_sessionx=pyb_c")])), None);
    }
}
