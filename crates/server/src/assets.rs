//! The page, carried in the binary.
//!
//! Files with a hash in their name never change and are kept by browsers; `index.html` is asked for
//! each time and answers for every route of the app.

use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

struct File {
    path: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
}

mod page {
    use super::File;
    include!(concat!(env!("OUT_DIR"), "/page.rs"));
}

/// What is served by a binary that was built without the page.
const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>patchyard</title>\
    <h1>patchyard</h1><p>This binary was built without the page. Build it with <code>make build</code>. \
    The API and the terminal work.</p></html>";

/// A short name of this build of the page: a client that sees another one offers to reload.
pub(crate) fn build() -> &'static str {
    static BUILD: OnceLock<String> = OnceLock::new();
    BUILD.get_or_init(|| match find("/index.html") {
        Some(index) => Sha256::digest(index.plain).iter().take(6).map(|byte| format!("{byte:02x}")).collect(),
        None => "none".to_owned(),
    })
}

/// A file of the page, or the app itself for its routes.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    if let Some(file) = find(uri.path()).filter(|file| file.path != "/index.html") {
        return answer(file, &headers, file.path.starts_with("/assets/"));
    }
    // A missing script must not be answered with the app's page.
    let looks_like_file = uri.path().rsplit('/').next().is_some_and(|name| name.contains('.'));
    if looks_like_file && uri.path() != "/index.html" {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    }
    match find("/index.html") {
        Some(index) => answer(index, &headers, false),
        None => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], MISSING).into_response(),
    }
}

fn find(path: &str) -> Option<&'static File> {
    page::FILES.iter().find(|file| file.path == path)
}

fn answer(file: &'static File, headers: &HeaderMap, immutable: bool) -> Response {
    let accepts =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let takes_brotli = accepts.split(',').any(|coding| coding.trim().split(';').next() == Some("br"));
    let compressed = file.brotli.filter(|_| takes_brotli);
    let mut response = compressed.unwrap_or(file.plain).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(file.path)));
    let cache = if immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if compressed.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("json" | "webmanifest") => "application/json",
        _ => "application/octet-stream",
    }
}
