//! Reviews of pull requests, and the threads at their lines.

use reqwest::Method;
use serde_json::json;

use crate::address::RepoName;
use crate::client::GitHub;
use crate::error::ForgeError;
use crate::issues::NewComment;
use crate::model::{Review, ReviewComment};

/// Pages that are looked at.
const PAGES: usize = 20;

/// How often a reply is sent that did not arrive.
const SENDS: usize = 2;

impl GitHub {
    /// The reviews of a pull request, the oldest first.
    pub async fn reviews(&self, of: &RepoName, number: u64) -> Result<Vec<Review>, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "pulls", &number.to_string(), "reviews"];
        let ask = self.get(&path, format!("read the reviews of pull request {number} of {of}"));
        let pages: Vec<Vec<Review>> = self.pages(ask, PAGES).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// The comments at lines of a pull request, the oldest first.
    pub async fn review_comments(
        &self,
        of: &RepoName,
        number: u64,
    ) -> Result<Vec<ReviewComment>, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "pulls", &number.to_string(), "comments"];
        let ask = self.get(&path, format!("read the review of pull request {number} of {of}"));
        let pages: Vec<Vec<ReviewComment>> = self.pages(ask, PAGES).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// Replies in the thread that a comment began, or finds the reply that an earlier try made.
    pub async fn reply(
        &self,
        of: &RepoName,
        (number, first): (u64, u64),
        new: &NewComment,
    ) -> Result<ReviewComment, ForgeError> {
        let (number_text, first_text) = (number.to_string(), first.to_string());
        let path = ["repos", &of.owner, &of.name, "pulls", &number_text, "comments", &first_text, "replies"];
        let wanted = format!("reply in the review of pull request {number} of {of}");
        let ask = self.send(Method::POST, &path, json!({ "body": new.body }), wanted);
        let mut sent = 0;
        loop {
            let all = self.review_comments(of, number).await?;
            if let Some(comment) = all.into_iter().find(|comment| comment.body.contains(&new.mark)) {
                return Ok(comment);
            }
            match self.write(&ask).await {
                Err(error) if error.is_uncertain() && sent < SENDS => sent += 1,
                other => return other,
            }
        }
    }
}
