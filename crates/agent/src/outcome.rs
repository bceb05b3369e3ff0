//! What a tool gives back.

use protocol::event::{PlanEntry, ThreadEnded};
use protocol::hands::HandsError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An image that the model sees with a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Picture {
    /// `image/png` and the like.
    pub(crate) media_type: String,
    /// Base64.
    pub(crate) data: String,
}

/// The result of one call, before it is recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    /// What the model reads.
    pub(crate) content: String,
    /// Whether the tool failed.
    pub(crate) is_error: bool,
    /// Facts for the page.
    pub(crate) detail: Value,
    /// The whole output and whether even that was cut, where `content` holds a part of it.
    pub(crate) full_output: Option<(Vec<u8>, bool)>,
    /// The new todo list.
    pub(crate) plan: Option<Vec<PlanEntry>>,
    /// The end of the thread that it was.
    pub(crate) thread: Option<ThreadEnded>,
}

impl Outcome {
    /// A success.
    pub(crate) fn ok(content: impl Into<String>, detail: Value) -> Self {
        Self { content: content.into(), detail, ..Self::default() }
    }

    /// A failure of the tool's work.
    pub(crate) fn failed(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: true, ..Self::default() }
    }

    /// A call that could not even be tried.
    pub(crate) fn refused(reason: impl AsRef<str>) -> Self {
        Self::failed(format!("<tool_use_error>{}</tool_use_error>", reason.as_ref()))
    }

    /// What hands could not do.
    pub(crate) fn hands(error: &HandsError) -> Self {
        match error {
            HandsError::Gone(_) => Self::refused(format!(
                "{error}. No tool can run until the session has a new sandbox; end your turn and say so."
            )),
            _ => Self::failed(error.to_string()),
        }
    }
}
