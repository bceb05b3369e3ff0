//! What goes wrong with servers, in words for people and the model.
//!
//! Addresses and headers may hold secrets, and are not part of any of them.

use std::error::Error;
use std::time::Duration;

use rmcp::service::ClientInitializeError;
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::names::plain;

/// Characters of what a server says about itself.
const MAX_WORDS: usize = 500;

/// Why something of a server did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServerError {
    /// It answered with an error.
    #[error("the server answered with an error: {0}")]
    Answered(String),
    /// It went away.
    #[error("the server went away: {0}")]
    Gone(String),
    /// It took too long.
    #[error("the server did not answer within {} s", .0.as_secs_f64())]
    Late(Duration),
    /// What it said is no answer to what was asked.
    #[error("the server's answer is none: {0}")]
    Strange(String),
    /// The turn was stopped.
    #[error("interrupted by the user")]
    Stopped,
}

/// Words of a server, short enough to pass on.
pub(super) fn in_words(text: &str) -> String {
    plain(text, MAX_WORDS)
}

/// Why a server could not be begun with.
pub(super) fn of_start(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::TransportError { error, .. } => of_transport(error),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => of_start(fallback),
        ClientInitializeError::ConnectionClosed(_) => "the connection was closed".into(),
        ClientInitializeError::JsonRpcError(error) => format!("it answered: {}", in_words(&error.message)),
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            "it speaks no version of the protocol that is spoken here".into()
        }
        error => in_words(&error.to_string()),
    }
}

/// Why nothing could be sent to it, or heard from it.
pub(super) fn of_transport(error: &DynamicTransportError) -> String {
    let error: &(dyn Error + 'static) = &*error.error;
    match error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        Some(StreamableHttpError::Client(error)) => in_words(&root(error).to_string()),
        Some(StreamableHttpError::AuthRequired(_) | StreamableHttpError::InsufficientScope(_)) => {
            "it asks who is there, and OAuth is not; a header of its entry may say so".into()
        }
        Some(error) => in_words(&error.to_string()),
        None => in_words(&root(error).to_string()),
    }
}

/// What is at the bottom of an error.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}
