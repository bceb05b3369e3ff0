//! Calls of tools and what came of them, as the log holds them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Body of `tool.call`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ToolCall {
    /// The model's message that the call is part of.
    pub message: String,
    /// The model's id of the call, unique in the session.
    pub call: String,
    /// Tool name, such as `Bash`.
    pub name: String,
    /// One line for people: the command, the path.
    pub title: String,
    /// The input as the model sent it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input: Value,
}

/// Body of `tool.result`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ToolResult {
    /// The call.
    pub call: String,
    /// What the model reads.
    pub content: String,
    /// Whether the tool failed.
    pub is_error: bool,
    /// From start to end.
    pub duration_ms: u64,
    /// Facts for the page: exit code, patch, counts. `{"exit_code":0}`, `{"patch":"@@ …"}`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub detail: Value,
    /// The whole output, where `content` holds a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_output: Option<BlobRef>,
}

/// A stored blob of the session, read at `/api/v1/sessions/{id}/blobs/{blob}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlobRef {
    /// SHA-256 of the content in hex.
    pub blob: String,
    /// Bytes.
    pub size: u64,
    /// Whether the source was longer than the cap.
    #[serde(default)]
    pub truncated: bool,
}
