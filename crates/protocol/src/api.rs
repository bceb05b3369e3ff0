//! Bodies of `/api/v1`.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::ids::{PromptId, Seq, SessionId};
use crate::prompt::{Delivery, QueuedPrompt};
use crate::usage::DiffStat;
use crate::view::SessionView;

/// The longest prompt, in characters.
pub const MAX_PROMPT_CHARS: usize = 64_000;

/// The most prompts that wait in one session.
pub const MAX_QUEUED_PROMPTS: usize = 10;

/// The largest repository bundle: 100 MB, as Claude Code on the web takes it.
pub const MAX_BUNDLE_BYTES: u64 = 100 * 1000 * 1000;

/// The ref of an uploaded bundle that says what the user's branch points at.
pub const UPLOAD_HEAD_REF: &str = "refs/patchyard/upload/head";

/// The ref of an uploaded bundle with the uncommitted changes to tracked files, where there are any.
pub const UPLOAD_WIP_REF: &str = "refs/patchyard/upload/wip";

/// Body of `POST /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// The first prompt, 1 to 64,000 characters.
    pub prompt: String,
    /// Where the code comes from.
    pub repository: RepositorySource,
    /// The agent, `patchyard` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The environment, by id or name; the default one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The image, the environment's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Where a new session's code comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum RepositorySource {
    /// A git bundle that was uploaded to `POST /uploads`. It holds `refs/patchyard/upload/head`
    /// and, with uncommitted changes, `refs/patchyard/upload/wip`.
    Bundle {
        /// The upload's name.
        upload: String,
        /// The repository's name for display and the workspace folder.
        name: String,
        /// The branch that was checked out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        branch: Option<String>,
    },
    /// A repository that the server fetches: http, https, or file where the operator allows it.
    Url {
        /// Its URL.
        url: String,
        /// The branch, the remote's default when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        branch: Option<String>,
        /// Work on that branch itself, and push to it; without, on a branch of the session's own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        on_branch: bool,
    },
}

/// Answer of `POST /uploads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Upload {
    /// The name to create a session with; good for one session and one hour.
    pub upload: String,
    /// Bytes that arrived.
    pub size: u64,
}

/// Answer of `GET /sessions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// Newest first.
    pub sessions: Vec<SessionView>,
    /// Pass as `before` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SessionId>,
}

/// Body of `POST /sessions/{id}/prompts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreatePrompt {
    /// 1 to 64,000 characters.
    pub text: String,
    /// When it is handed over while a turn runs.
    #[serde(default, skip_serializing_if = "Delivery::is_next")]
    pub delivery: Delivery,
}

/// Body of `PATCH /sessions/{id}/prompts/{prompt}`: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EditPrompt {
    /// 1 to 64,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it is handed over while a turn runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// Answer of `GET /sessions/{id}/prompts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueuedPrompts {
    /// In the order in which turns begin with them.
    pub prompts: Vec<QueuedPrompt>,
}

/// Answer of `POST /sessions/{id}/prompts`: durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromptAccepted {
    /// The prompt.
    pub prompt: PromptId,
    /// Its `prompt.queued` event.
    pub seq: Seq,
}

/// Answer of `GET /sessions/{id}/events` as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventPage {
    /// In order of `seq`.
    pub events: Vec<Event>,
    /// The newest event of the session when the page was read.
    pub last_seq: Seq,
}

/// Body of `POST /sessions/{id}/questions/{question}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AnswerQuestion {
    /// The chosen option's id.
    pub option: String,
}

/// Body of `POST /sessions/{id}/archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ArchiveSession {
    /// Hide, or bring back.
    pub archived: bool,
}

/// Answer of `PUT /sessions/{id}/files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FilesTaken {
    /// Bytes of the archive.
    pub bytes: u64,
    /// What was left out, a line each.
    pub remarks: String,
}

/// Answer of `GET /sessions/{id}/diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diff {
    /// The commit that it starts from.
    pub base: String,
    /// The checkpoint that it leads to; equal to `base` before the first.
    pub commit: String,
    /// Totals.
    pub stat: DiffStat,
    /// Changed files, by path.
    pub files: Vec<DiffFile>,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffFile {
    /// Its path now, or before where it was deleted. Bytes that are no UTF-8 are replaced.
    pub path: String,
    /// Its path before, where it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// What happened to it.
    pub status: FileStatus,
    /// Added lines.
    pub additions: u64,
    /// Deleted lines.
    pub deletions: u64,
    /// Whether git takes it for binary.
    pub binary: bool,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// New.
    Added,
    /// Gone.
    Deleted,
    /// Changed in place, its mode included.
    Modified,
    /// Moved, changed or not.
    Renamed,
}

/// Answer of `GET /sessions/{id}/diff/file`: the rows of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDiff {
    /// The file.
    pub path: String,
    /// Rows in order; at most 200,000.
    pub rows: Vec<DiffRow>,
    /// Whether rows were left out.
    pub truncated: bool,
}

/// One row of a file's diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffRow {
    /// What it is.
    pub kind: DiffRowKind,
    /// Line number before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<u32>,
    /// Line number after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<u32>,
    /// The line without its sign, or the hunk's heading.
    pub text: String,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiffRowKind {
    /// The heading of a hunk.
    Hunk,
    /// In both.
    Context,
    /// Only after.
    Added,
    /// Only before.
    Deleted,
    /// A remark of git, such as a missing newline at the end.
    Note,
}

/// Body of `POST /auth/login` and `POST /auth/token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginCode {
    /// The one-time code that `serve` printed.
    pub code: String,
}

/// Answer of `POST /auth/token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    /// The token; shown once, stored hashed.
    pub token: String,
}

/// Answer of `GET /server`: what a new session can choose from and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerInfo {
    /// The version of patchyard.
    pub version: String,
    /// Agents by name, the default first.
    pub agents: Vec<String>,
    /// Images by name, the default first.
    pub images: Vec<String>,
    /// The model, where one is configured; `scripted` for the demo's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What is missing for sessions to work, one sentence each with what to do.
    pub missing: Vec<String>,
}

/// Data of a `gone` frame of the page's stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionGone {
    /// The deleted session.
    pub session: SessionId,
}
