//! Issues, and comments below issues and pull requests.

use reqwest::Method;
use serde_json::json;

use crate::address::RepoName;
use crate::client::GitHub;
use crate::error::ForgeError;
use crate::model::{Issue, IssueComment};

/// Pages of comments that are looked at.
const COMMENT_PAGES: usize = 20;

/// Pages of issues that are looked at.
const ISSUE_PAGES: usize = 5;

/// How often a comment is sent that did not arrive.
const SENDS: usize = 2;

/// A comment that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewComment {
    /// Markdown, the mark in it.
    pub body: String,
    /// A text that is in this comment alone: what was sent before is known by it.
    pub mark: String,
}

impl GitHub {
    /// The open issues of a repository, pull requests among them, the newest first; 500 at most.
    pub async fn issues(&self, of: &RepoName) -> Result<Vec<Issue>, ForgeError> {
        let ask = self.get(&["repos", &of.owner, &of.name, "issues"], format!("list the issues of {of}"));
        let pages: Vec<Vec<Issue>> = self.pages(ask.query(&[("state", "open")]), ISSUE_PAGES).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// An issue.
    pub async fn issue(&self, of: &RepoName, number: u64) -> Result<Issue, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "issues", &number.to_string()];
        self.json(&self.get(&path, format!("read issue {number} of {of}"))).await
    }

    /// The comments below an issue or a pull request, the oldest first.
    pub async fn comments(&self, of: &RepoName, number: u64) -> Result<Vec<IssueComment>, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "issues", &number.to_string(), "comments"];
        let ask = self.get(&path, format!("read the comments of {number} of {of}"));
        let pages: Vec<Vec<IssueComment>> = self.pages(ask, COMMENT_PAGES).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// Comments on an issue or a pull request, or finds the comment that an earlier try made.
    pub async fn comment(
        &self,
        of: &RepoName,
        number: u64,
        new: &NewComment,
    ) -> Result<IssueComment, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "issues", &number.to_string(), "comments"];
        let wanted = format!("comment on {number} of {of}");
        let ask = self.send(Method::POST, &path, json!({ "body": new.body }), wanted);
        let mut sent = 0;
        loop {
            if let Some(comment) = self.marked(of, number, new).await? {
                return Ok(comment);
            }
            match self.write(&ask).await {
                Err(error) if error.is_uncertain() && sent < SENDS => sent += 1,
                other => return other,
            }
        }
    }

    async fn marked(
        &self,
        of: &RepoName,
        number: u64,
        new: &NewComment,
    ) -> Result<Option<IssueComment>, ForgeError> {
        let marked =
            |comment: &IssueComment| comment.body.as_deref().is_some_and(|body| body.contains(&new.mark));
        Ok(self.comments(of, number).await?.into_iter().find(marked))
    }
}
