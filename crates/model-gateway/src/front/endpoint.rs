//! What of the API is served.

use axum::http::{Method, Uri};

use super::refusal::Refusal;

/// The longest name of a model.
const MAX_MODEL: usize = 200;

/// The endpoints that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
    /// `GET /v1/models` and `GET /v1/models/{id}`.
    Models,
}

impl Endpoint {
    /// The endpoint of a request. Nothing of a path is decoded or guessed.
    pub(super) fn of(method: &Method, uri: &Uri) -> Result<Self, Refusal> {
        let path = uri.path();
        let (endpoint, wanted) = match path {
            "/v1/messages" => (Self::Messages, Method::POST),
            "/v1/messages/count_tokens" => (Self::CountTokens, Method::POST),
            "/v1/models" => (Self::Models, Method::GET),
            _ if path.strip_prefix("/v1/models/").is_some_and(is_model) => (Self::Models, Method::GET),
            _ => return Err(Refusal::NoEndpoint(shown(method, path))),
        };
        if *method == wanted { Ok(endpoint) } else { Err(Refusal::NoMethod(shown(method, path))) }
    }

    /// Whether its requests have a body that is looked into.
    pub(super) fn has_body(self) -> bool {
        self != Self::Models
    }

    /// Whether its answers cost tokens.
    pub(super) fn is_metered(self) -> bool {
        self == Self::Messages
    }
}

fn is_model(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'@');
    (1..=MAX_MODEL).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('.')
}

fn shown(method: &Method, path: &str) -> String {
    format!("{method} {path}").chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_served_by_any_spelling() {
        let of = |method: &str, path: &str| {
            Endpoint::of(&method.parse().unwrap(), &path.parse().unwrap()).map_err(|error| error.status())
        };
        for (method, path, wanted) in [
            ("POST", "/v1/messages", Ok(Endpoint::Messages)),
            ("POST", "/v1/messages?beta=true", Ok(Endpoint::Messages)),
            ("POST", "/v1/messages/count_tokens?beta=true", Ok(Endpoint::CountTokens)),
            ("GET", "/v1/models?limit=1000", Ok(Endpoint::Models)),
            ("GET", "/v1/models/claude-sonnet-5", Ok(Endpoint::Models)),
            ("GET", "/v1/messages", Err(405)),
            ("HEAD", "/v1/models", Err(405)),
            ("POST", "/v1/messages/", Err(404)),
            ("POST", "//v1/messages", Err(404)),
            ("POST", "/v1/Messages", Err(404)),
            ("POST", "/v1/messages%2fbatches", Err(404)),
            ("POST", "/v1/messages/../files", Err(404)),
            ("POST", "/v1/messages/batches", Err(404)),
            ("POST", "/v1/complete", Err(404)),
            ("GET", "/v1/files", Err(404)),
            ("GET", "/v1/models/", Err(404)),
            ("GET", "/v1/models/..", Err(404)),
            ("GET", "/v1/models/a%2f..%2ffiles", Err(404)),
            ("GET", "/v1/models/a/b", Err(404)),
            ("HEAD", "/", Err(404)),
            ("POST", "http://evil.test/v1/files", Err(404)),
            ("CONNECT", "evil.test:443", Err(404)),
            ("OPTIONS", "*", Err(404)),
        ] {
            assert_eq!(of(method, path), wanted, "{method} {path}");
        }
    }
}
