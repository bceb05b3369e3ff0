//! Why the model did not answer.

use std::time::Duration;

use crate::response::Response;

/// Why a request to the model came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// 401 or 403.
    #[error(
        "the model endpoint {url} refused the key ({status}): {message}; check that the key is complete and \
         still valid, and that the base URL is the one that it belongs to"
    )]
    Auth { status: u16, url: String, message: String },
    /// 404 in the API's own words.
    #[error("the model endpoint {url} does not know the model `{model}`: {message}; check the model's name")]
    NoSuchModel { url: String, model: String, message: String },
    /// The conversation is longer than the model takes.
    #[error("the conversation is too long for the model: {message}; start a new session for the rest")]
    PromptTooLong { message: String },
    /// Another 4xx: the request is wrong, and would be again.
    #[error("the model endpoint refused the request ({status}): {message}")]
    BadRequest { status: u16, message: String },
    /// What answers does not speak the Messages API.
    #[error("{url} does not answer like a model endpoint: {what}; check the base URL")]
    NotAnEndpoint { url: String, what: String },
    /// 408, 409, 429, 5xx or 529; `retry_after` is what the server asked for.
    #[error("the model endpoint answered {status}: {message}")]
    Busy { status: u16, message: String, retry_after: Option<Duration> },
    /// An `error` event in a stream that had begun with 200.
    #[error("the model endpoint broke off with {kind}: {message}")]
    InStream { kind: String, message: String },
    /// No connection, or it broke before an answer.
    #[error("the model endpoint {url} could not be reached; check the base URL and the network")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The stream ended before the message did.
    #[error("the model's answer was cut off after {bytes} bytes")]
    Cut { bytes: u64 },
    /// Nothing came for too long.
    #[error("the model endpoint was silent for {} s", .0.as_secs_f32())]
    Idle(Duration),
    /// The stream broke the protocol.
    #[error("the model endpoint sent what is no message stream: {0}")]
    Malformed(String),
    /// The configuration cannot be turned into a request.
    #[error("the model cannot be asked: {0}")]
    Config(String),
    /// Every try failed.
    #[error("the model did not answer in {attempts} tries; the last one: {last}")]
    Exhausted {
        attempts: u32,
        #[source]
        last: Box<ModelError>,
    },
    /// The caller's token was cancelled. Holds what had come until then.
    #[error("the request was stopped")]
    Stopped { partial: Box<Response> },
}

impl ModelError {
    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::Cut { .. }
            | Self::Idle(_)
            | Self::Malformed(_) => true,
            Self::InStream { kind, .. } => !matches!(
                kind.as_str(),
                "invalid_request_error" | "authentication_error" | "permission_error"
            ),
            Self::Auth { .. }
            | Self::NoSuchModel { .. }
            | Self::PromptTooLong { .. }
            | Self::BadRequest { .. }
            | Self::NotAnEndpoint { .. }
            | Self::Config(_)
            | Self::Exhausted { .. }
            | Self::Stopped { .. } => false,
        }
    }

    /// How long the server asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A stable word for events and programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Auth { .. } => "model_auth",
            Self::NoSuchModel { .. } => "model_unknown",
            Self::PromptTooLong { .. } => "model_prompt_too_long",
            Self::BadRequest { .. } => "model_bad_request",
            Self::NotAnEndpoint { .. } => "model_not_an_endpoint",
            Self::Busy { status: 429, .. } => "model_rate_limited",
            Self::Busy { status: 529, .. } => "model_overloaded",
            Self::InStream { kind, .. } if kind == "overloaded_error" => "model_overloaded",
            Self::InStream { kind, .. } if kind == "rate_limit_error" => "model_rate_limited",
            Self::Busy { .. } | Self::InStream { .. } => "model_error",
            Self::Unreachable { .. } => "model_unreachable",
            Self::Cut { .. } => "model_stream_cut",
            Self::Idle(_) => "model_stream_idle",
            Self::Malformed(_) => "model_stream_malformed",
            Self::Config(_) => "model_config",
            Self::Exhausted { last, .. } => last.code(),
            Self::Stopped { .. } => "stopped",
        }
    }

    /// The error with the words of its causes, for a person: `Display` alone leaves the causes out.
    #[must_use]
    pub fn explain(&self) -> String {
        let cause = match self {
            // Its text already ends with the last error's own.
            Self::Exhausted { last, .. } => std::error::Error::source(last.as_ref()),
            other => std::error::Error::source(other),
        };
        with_causes(self.to_string(), cause)
    }
}

/// A text with the words of an error and its causes behind it: `a: b: c`.
pub(crate) fn with_causes(mut text: String, mut cause: Option<&dyn std::error::Error>) -> String {
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
