//! Pushes to the repository that a session came from, and what the server may use there.
//!
//! ```text
//!   planned ─▶ done · rejected (by its server) · failed (nothing is known to have changed)
//!   refused (by us: it never went out)
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::SessionId;

/// Body of `git.push`: the newest one of a session says how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitPush {
    /// The address of the repository, without user and password.
    pub repository: String,
    /// Who pushes.
    pub by: PushedBy,
    /// What became of it.
    pub outcome: PushOutcome,
    /// What was asked for, ref by ref; empty where that could not be read.
    pub refs: Vec<PushedRef>,
    /// What its server said to people, or why there is no answer; at most some lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// Who pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PushedBy {
    /// A git in the sandbox.
    Sandbox,
    /// The server, at the end of a turn.
    Server,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PushOutcome {
    /// It is about to go out; what follows says how it ended.
    Planned,
    /// The repository has it.
    Done,
    /// The rules of the session do not allow it; nothing went out.
    Refused,
    /// The repository's server did not take it, or not all of it.
    Rejected,
    /// It broke off, or could not be begun.
    Failed,
}

/// One ref of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushedRef {
    /// Its whole name, one line, cut.
    pub name: String,
    /// What it was, as the client believed; nothing where it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it was to be; nothing where it was to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One line of a session's audit record of pushes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRecord {
    /// When.
    pub at: jiff::Timestamp,
    /// Counts from 1 within a session.
    pub seq: u64,
    /// SHA-256 of the line before, in hex; empty for the first.
    pub previous: String,
    /// Whose.
    pub session: SessionId,
    /// What happened.
    pub push: GitPush,
}

/// The longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// Body of `PUT /git/credentials/{host}`. There is no way to read the token again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetGitCredential {
    /// The user; left out, what the host takes with a token: `x-access-token` at GitHub, `oauth2` at GitLab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The token or password, without line ends and other control characters.
    pub token: String,
}

impl fmt::Debug for SetGitCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetGitCredential").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A host for which the server has a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitCredentialInfo {
    /// `host`, or `host:port` where the port is not 443.
    pub host: String,
    /// The user.
    pub user: String,
    /// When it was set.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub set_at: jiff::Timestamp,
}

/// Answer of `GET /git/credentials`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitCredentialList {
    /// By host.
    pub credentials: Vec<GitCredentialInfo>,
}
