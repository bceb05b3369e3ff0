//! Pull requests of sessions, and what can be chosen from at a forge.
//!
//! ```text
//!   planned ─▶ claimed ─▶ done · failed          `pr.create`: in the log before anything goes out
//!                              └─▶ open · draft · merged · closed, with its checks     `pr.state`
//! ```

use serde::{Deserialize, Serialize};

/// Body of `pr.create`: the newest one of a session says how its pull request stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullRequestCreate {
    /// Names this wish and no other one, also at the forge.
    pub effect: String,
    /// The forge, `github.com`.
    pub host: String,
    /// `owner/name`, as it was called then.
    pub repository: String,
    /// The branch that is proposed.
    pub head: String,
    /// The commit that it had.
    pub commit: String,
    /// The branch where it is to go.
    pub base: String,
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: String,
    /// Not to be merged yet.
    pub draft: bool,
    /// What became of it.
    pub outcome: PullRequestOutcome,
    /// Its number, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Its page, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why it is not there, a sentence with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of the wish for a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PullRequestOutcome {
    /// It is wanted; nothing went out.
    Planned,
    /// Its branch is there, and the forge is being asked for it.
    Claimed,
    /// It is there.
    Done,
    /// It is not.
    Failed,
}

/// Body of `pr.state`: a pull request as the forge told of it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullRequestState {
    /// Its number.
    pub number: u64,
    /// Its page.
    pub url: String,
    /// Its title.
    pub title: String,
    /// Where it is.
    pub phase: PullRequestPhase,
    /// The branch where it is to go.
    pub base: String,
    /// The commit that it has.
    pub commit: String,
    /// What checks say of that commit.
    pub checks: CheckCounts,
}

/// Where a pull request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PullRequestPhase {
    /// Open.
    Open,
    /// Open, and not to be merged yet.
    Draft,
    /// Merged.
    Merged,
    /// Closed without that.
    Closed,
}

/// How the checks of a commit stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckCounts {
    /// Went well, or need not be looked at.
    pub passed: u64,
    /// Did not.
    pub failed: u64,
    /// Are not over.
    pub pending: u64,
    /// The names of those that failed, ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<String>,
}

/// Body of `POST /sessions/{id}/pull-request`: what is left out is made from the session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreatePullRequest {
    /// One line, at most 250 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Markdown, at most 60,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The branch where it is to go; left out, the one that the session began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Not to be merged yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draft: bool,
    /// Only push the branch, and give the page of the forge where a person opens it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compose: bool,
}

/// Answer of `GET` and `POST /sessions/{id}/pull-request`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionPullRequest {
    /// The pull request of the session, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequestState>,
    /// Why none can be made now, a sentence with what to do; nothing where one can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What one would say, where one can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<PullRequestProposal>,
    /// The forge's page to open one on; after a `POST` with `compose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<String>,
    /// Why the forge could not be asked, and `pull_request` is what it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
}

/// What a pull request would say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullRequestProposal {
    /// `owner/name`.
    pub repository: String,
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: String,
    /// The branch where it would go.
    pub base: String,
    /// The branch that it proposes.
    pub head: String,
}

/// Answer of `GET /forge/repositories`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForgeRepositories {
    /// Those that the server's tokens may see, the newest pushed first; 100 at most.
    pub repositories: Vec<ForgeRepository>,
    /// Why a forge could not be asked, a sentence each.
    pub problems: Vec<String>,
}

/// A repository that a session can begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForgeRepository {
    /// The forge.
    pub host: String,
    /// `owner/name`.
    pub name: String,
    /// What a session is made with.
    pub url: String,
    /// Not for everybody.
    pub private: bool,
    /// Where a session begins without another word.
    pub default_branch: String,
    /// Whether the token may push there.
    pub push: bool,
}

/// Answer of `GET /forge/branches`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForgeBranches {
    /// Where a session begins without another word.
    pub default_branch: String,
    /// The default one first, then by name; 200 at most.
    pub branches: Vec<ForgeBranch>,
}

/// A branch that a session can begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForgeBranch {
    /// Its name, `main`.
    pub name: String,
    /// Rules of the forge keep it; no session works on it itself.
    pub protected: bool,
}

impl PullRequestCreate {
    /// Whether nobody knows yet how it ends.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.outcome, PullRequestOutcome::Planned | PullRequestOutcome::Claimed)
    }
}
