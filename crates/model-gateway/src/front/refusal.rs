//! What the front says no with, in the shape of the API's errors.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::needs::Need;

/// Why a request is not passed on, or its answer not handed back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// No such path.
    #[error(
        "the model gateway of this sandbox has no `{0}`; it serves POST /v1/messages, POST \
         /v1/messages/count_tokens, GET /v1/models and GET /v1/models/{{id}}"
    )]
    NoEndpoint(String),
    /// The path, but not like this.
    #[error(
        "the model gateway of this sandbox does not serve `{0}`; messages are posted, models are asked for \
         by GET"
    )]
    NoMethod(String),
    /// The body is longer than what the API takes.
    #[error("the request is longer than 32 MiB; send less")]
    TooLarge,
    /// The body did not come.
    #[error("the body of the request did not come in time or broke off; send it again")]
    Unsent,
    /// The body cannot be looked into.
    #[error("the body of the request has a `content-encoding`; send it as plain JSON")]
    Encoded,
    /// The body is no request.
    #[error("the body of the request is not what the model gateway can read: {0}")]
    NotReadable(serde_json::Error),
    /// Something in the body that is not allowed.
    #[error(
        "the model gateway of this sandbox does not pass on {}; leave it out, or have the operator of this \
         server allow it (`allow` in [model])", listed(.0)
    )]
    NotAllowed(Vec<Need>),
    /// The session used up its tokens.
    #[error(
        "this session has used {used} tokens, and its agents may use {most} \
         (`max_tokens_per_session` in [model] of the server); begin a new session or have that raised"
    )]
    UsedUp {
        /// So many.
        used: u64,
        /// The most.
        most: u64,
    },
    /// Too much at once.
    #[error("this sandbox asks the model for too much at the same time; wait for answers and try again")]
    Busy,
    /// There is no way to a model.
    #[error(
        "this server has no key for a model: its operator sets ANTHROPIC_API_KEY or `api_key_file` in [model] \
         and starts it again"
    )]
    NoModel,
    /// What the session used is not known, or cannot be written down.
    #[error("the usage of this session cannot be kept now; try again")]
    NoAccount,
    /// The model's endpoint is not there.
    #[error("the model endpoint of this server cannot be reached; try again, or see the server's log")]
    Unreachable,
    /// It said nothing.
    #[error("the model endpoint of this server did not answer for ten minutes; try again")]
    Silent,
    /// Its answer cannot be counted or handed on.
    #[error("the answer of this server's model endpoint cannot be handed on: {0}")]
    Unusable(&'static str),
}

fn listed(needs: &[Need]) -> String {
    needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Refusal {
    /// Status, and the word of the API for this kind of error.
    fn kind(&self) -> (u16, &'static str) {
        match self {
            Self::NoEndpoint(_) => (404, "not_found_error"),
            Self::NoMethod(_) => (405, "invalid_request_error"),
            Self::TooLarge => (413, "request_too_large"),
            Self::Unsent => (408, "timeout_error"),
            Self::Encoded | Self::NotReadable(_) => (400, "invalid_request_error"),
            Self::NotAllowed(_) | Self::UsedUp { .. } | Self::NoModel => (403, "permission_error"),
            Self::Busy => (429, "rate_limit_error"),
            Self::NoAccount => (503, "api_error"),
            Self::Unreachable | Self::Unusable(_) => (502, "api_error"),
            Self::Silent => (504, "timeout_error"),
        }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> u16 {
        self.kind().0
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind) = self.kind();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let body = json!({ "type": "error", "error": { "type": kind, "message": self.to_string() } });
        let mut response = (status, [("content-type", "application/json")], body.to_string()).into_response();
        if matches!(self, Self::Busy) {
            response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
        }
        response
    }
}
