//! Errors of the API: `application/problem+json` (RFC 9457) with a stable code and a next step.

use serde::{Deserialize, Serialize};

/// One error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Always `about:blank`: the code below tells kinds apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP status.
    pub status: u16,
    /// What happened, one line.
    pub title: String,
    /// To what and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// A stable word for programs, such as `session_not_found`.
    pub code: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

impl Problem {
    /// A problem with its four words.
    #[must_use]
    pub fn new(status: u16, code: &str, title: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            status,
            title: title.into(),
            detail: String::new(),
            code: code.into(),
            next: next.into(),
        }
    }

    /// Adds to what and why.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}
