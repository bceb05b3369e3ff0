//! Secrets that a session can use and not read.
//!
//! ```text
//!   environment: SecretBinding ─ name, hosts, methods, paths ─┐
//!   server: sealed value, file, variable, command ────────────┴─▶ SecretUse ─▶ the egress process
//!   sandbox: $NAME = placeholder ─ in a header of a request to one of the hosts ─▶ the value, outside
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most secrets of one environment.
pub const MAX_SECRETS: usize = 32;

/// The longest value, in bytes.
pub const MAX_SECRET_BYTES: usize = 16 * 1024;

/// The shortest value, in bytes: a shorter one could not be told from what is sent anyway.
pub const MIN_SECRET_BYTES: usize = 8;

/// Whether a text can be a secret's value, or anything else that is looked for in what is sent.
#[must_use]
pub fn can_be_looked_for(text: &str) -> bool {
    (MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Where a secret may be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretBinding {
    /// The variable inside, whose value is the placeholder.
    pub name: String,
    /// `host` or `host:port`, 443 where none is given; no patterns. They have to be allowed besides.
    pub hosts: Vec<String>,
    /// Only requests with these methods; every one where the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Only paths that are one of these or lie below it; every one where the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Where the value comes from.
    #[serde(default)]
    pub source: SecretSource,
}

/// Where the value of a secret comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// The environment's own value, kept sealed; set by `PUT /environments/{id}/secrets/{name}`.
    #[default]
    Sealed,
    /// An entry of the operator's configuration: a file, a variable of the server, or a command.
    Operator(String),
}

/// Body of `PUT /environments/{id}/secrets/{name}`. There is no way to read it again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// 8 to 16,384 bytes without line ends and other control characters.
    pub value: String,
}

impl fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetSecret(…)")
    }
}

/// A secret with its value, as `egress` gets it. Nothing that crosses to a sandbox holds one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Where it may be used.
    pub binding: SecretBinding,
    /// What stands for it inside.
    pub placeholder: String,
    /// What stands outside.
    pub value: String,
}

impl fmt::Debug for SecretUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretUse").field("binding", &self.binding).finish_non_exhaustive()
    }
}
