//! What forges say, as much of it as is used. What may be left out may be left out.

use serde::Deserialize;

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct User {
    /// The name to sign in with.
    pub login: String,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Repository {
    /// Stays when it is renamed.
    pub id: u64,
    /// `owner/name`.
    pub full_name: String,
    /// Not for everybody.
    #[serde(default)]
    pub private: bool,
    /// Read only for all.
    #[serde(default)]
    pub archived: bool,
    /// The branch that pull requests go to without another word.
    pub default_branch: String,
    /// Where git finds it.
    pub clone_url: String,
    /// Its page.
    pub html_url: String,
    /// When somebody pushed last.
    #[serde(default)]
    pub pushed_at: Option<String>,
    /// What the token may do.
    #[serde(default)]
    pub permissions: Option<Permissions>,
}

/// What a token may do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Permissions {
    /// Whether it may push.
    #[serde(default)]
    pub push: bool,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Branch {
    /// Its name, `main`.
    pub name: String,
    /// Whether rules hold for it that others do not have.
    #[serde(default)]
    pub protected: bool,
    /// Where it points.
    pub commit: Commit,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Commit {
    /// Its name.
    pub sha: String,
}

/// One side of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PullEnd {
    /// The branch.
    #[serde(rename = "ref")]
    pub branch: String,
    /// Where it points.
    pub sha: String,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pull {
    /// Within the repository.
    pub number: u64,
    /// Its page.
    pub html_url: String,
    /// Its title.
    pub title: String,
    /// What it says.
    #[serde(default)]
    pub body: Option<String>,
    /// `open` or `closed`.
    pub state: String,
    /// Not to be merged yet.
    #[serde(default)]
    pub draft: bool,
    /// When it was merged, if it was.
    #[serde(default)]
    pub merged_at: Option<String>,
    /// What is proposed.
    pub head: PullEnd,
    /// Where it is to go.
    pub base: PullEnd,
}

/// A changed file of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct File {
    /// Its path.
    pub filename: String,
    /// `added`, `modified`, `removed`, `renamed` …
    pub status: String,
    /// Added lines.
    #[serde(default)]
    pub additions: u64,
    /// Deleted lines.
    #[serde(default)]
    pub deletions: u64,
}

/// An issue, or a pull request seen as one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Issue {
    /// Within the repository.
    pub number: u64,
    /// Its page.
    pub html_url: String,
    /// Its title.
    pub title: String,
    /// What it says.
    #[serde(default)]
    pub body: Option<String>,
    /// `open` or `closed`.
    pub state: String,
    /// Who opened it; nobody who is there any more.
    #[serde(default)]
    pub user: Option<User>,
}

/// A comment below an issue or a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IssueComment {
    /// Its id.
    pub id: u64,
    /// What it says.
    #[serde(default)]
    pub body: Option<String>,
    /// Whose.
    #[serde(default)]
    pub user: Option<User>,
    /// Its page.
    pub html_url: String,
    /// What its author is to the repository: `OWNER`, `MEMBER`, `NONE` …
    #[serde(default)]
    pub author_association: Option<String>,
}

/// A review.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Review {
    /// Its id.
    pub id: u64,
    /// `APPROVED`, `CHANGES_REQUESTED`, `COMMENTED` …
    pub state: String,
    /// What it says.
    #[serde(default)]
    pub body: Option<String>,
    /// Whose.
    #[serde(default)]
    pub user: Option<User>,
}

/// A comment at a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReviewComment {
    /// Its id.
    pub id: u64,
    /// The comment that began the thread, where it is a reply.
    #[serde(default)]
    pub in_reply_to_id: Option<u64>,
    /// The file.
    pub path: String,
    /// The line; none where the line is gone.
    #[serde(default)]
    pub line: Option<u64>,
    /// What it says.
    pub body: String,
    /// Whose.
    #[serde(default)]
    pub user: Option<User>,
}

/// A check of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CheckRun {
    /// Its id; that of the job, where Actions runs it.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `queued`, `in_progress`, `completed` …
    pub status: String,
    /// `success`, `failure`, `neutral`, `cancelled`, `skipped`, `timed_out`, `action_required`, once it is
    /// completed.
    #[serde(default)]
    pub conclusion: Option<String>,
    /// Its page.
    #[serde(default)]
    pub html_url: Option<String>,
}

/// A remark of a check at a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Annotation {
    /// The file.
    pub path: String,
    /// The first line.
    pub start_line: u64,
    /// `notice`, `warning` or `failure`.
    #[serde(default)]
    pub annotation_level: Option<String>,
    /// What it says.
    #[serde(default)]
    pub message: Option<String>,
}

/// A status of a commit, as older services set it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CommitStatus {
    /// Its name.
    pub context: String,
    /// `error`, `failure`, `pending` or `success`.
    pub state: String,
    /// Its page.
    #[serde(default)]
    pub target_url: Option<String>,
}
