//! Pull requests.
//!
//! ```text
//!   open_pull ─▶ is one open for this branch? ─▶ that one
//!                │ no
//!                ▼
//!              sent ─┬─ made
//!                    ├─ "already exists", no answer ─▶ asked for it again, by branch and mark
//!                    └─ refused
//! ```

use reqwest::Method;
use serde_json::json;

use crate::address::RepoName;
use crate::client::GitHub;
use crate::error::ForgeError;
use crate::model::{File, Pull};

/// How often a pull request is sent that did not arrive.
const SENDS: usize = 2;

/// Pages of changed files: a forge tells of 3000 at most.
const FILE_PAGES: usize = 30;

/// The longest title and text in the address of a compose page, in bytes.
const COMPOSED: usize = 4000;

/// A pull request that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPull {
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: String,
    /// The branch that is proposed, of the same repository.
    pub head: String,
    /// The branch where it is to go.
    pub base: String,
    /// Not to be merged yet.
    pub draft: bool,
    /// A text that is in the body of this one alone: what was sent before is known by it.
    pub mark: String,
}

/// What is changed of a pull request; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EditPull {
    /// One line.
    pub title: Option<String>,
    /// Markdown.
    pub body: Option<String>,
    /// Another branch where it is to go.
    pub base: Option<String>,
    /// Whether it is open.
    pub open: Option<bool>,
}

impl GitHub {
    /// Opens a pull request, or finds the one that is open for the branch or was opened by an earlier try.
    /// However often it is called, and whatever is lost on the way: there is one.
    pub async fn open_pull(&self, of: &RepoName, new: &NewPull) -> Result<Pull, ForgeError> {
        if let Some(pull) = self.pull_of(of, new).await? {
            return Ok(pull);
        }
        let wanted = format!("open a pull request in {of}");
        let body = json!({
            "title": new.title, "body": new.body, "head": new.head, "base": new.base, "draft": new.draft,
        });
        let ask = self.send(Method::POST, &["repos", &of.owner, &of.name, "pulls"], body, wanted);
        let mut sent = 1;
        loop {
            let error = match self.write(&ask).await {
                Ok(pull) => return Ok(pull),
                Err(error) => error,
            };
            // One that made it, or that somebody else opened meanwhile.
            if (error.is_uncertain() || matches!(error, ForgeError::Refused { .. }))
                && let Some(pull) = self.pull_of(of, new).await?
            {
                return Ok(pull);
            }
            if !error.is_uncertain() || sent == SENDS {
                return Err(error);
            }
            sent += 1;
        }
    }

    /// The pull request that is open for a branch, or was opened by an earlier try and is closed by now.
    async fn pull_of(&self, of: &RepoName, new: &NewPull) -> Result<Option<Pull>, ForgeError> {
        let head = format!("{}:{}", of.owner, new.head);
        let ask = self
            .get(&["repos", &of.owner, &of.name, "pulls"], format!("list the pull requests of {of}"))
            .query(&[("head", &head), ("state", "all"), ("per_page", "100")]);
        let all: Vec<Pull> = self.json(&ask).await?;
        let of_branch = |pull: &&Pull| pull.head.branch == new.head;
        let marked = |pull: &&Pull| pull.body.as_deref().is_some_and(|body| body.contains(&new.mark));
        let found = all
            .iter()
            .filter(of_branch)
            .find(|pull| pull.state == "open")
            .or_else(|| all.iter().filter(of_branch).find(marked));
        Ok(found.cloned())
    }

    /// The pull request that is open for a branch of the same repository.
    pub async fn pull_for(&self, of: &RepoName, branch: &str) -> Result<Option<Pull>, ForgeError> {
        let head = format!("{}:{branch}", of.owner);
        let ask = self
            .get(&["repos", &of.owner, &of.name, "pulls"], format!("list the pull requests of {of}"))
            .query(&[("head", &head), ("state", "open")]);
        let all: Vec<Pull> = self.json(&ask).await?;
        Ok(all.into_iter().find(|pull| pull.head.branch == branch))
    }

    /// A pull request.
    pub async fn pull(&self, of: &RepoName, number: u64) -> Result<Pull, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "pulls", &number.to_string()];
        self.json(&self.get(&path, format!("read pull request {number} of {of}"))).await
    }

    /// Changes a pull request. The same change twice is one.
    pub async fn edit_pull(&self, of: &RepoName, number: u64, edit: &EditPull) -> Result<Pull, ForgeError> {
        let mut body = serde_json::Map::new();
        let state = edit.open.map(|open| if open { "open" } else { "closed" }.to_owned());
        for (name, value) in
            [("title", &edit.title), ("body", &edit.body), ("base", &edit.base), ("state", &state)]
        {
            if let Some(value) = value {
                body.insert(name.into(), value.clone().into());
            }
        }
        let path = ["repos", &of.owner, &of.name, "pulls", &number.to_string()];
        let wanted = format!("change pull request {number} of {of}");
        self.write(&self.send(Method::PATCH, &path, body.into(), wanted)).await
    }

    /// The changed files of a pull request.
    pub async fn pull_files(&self, of: &RepoName, number: u64) -> Result<Vec<File>, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "pulls", &number.to_string(), "files"];
        let ask = self.get(&path, format!("read the files of pull request {number} of {of}"));
        let pages: Vec<Vec<File>> = self.pages(ask, FILE_PAGES).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// The change of a pull request as a patch; hostile text.
    pub async fn pull_diff(&self, of: &RepoName, number: u64) -> Result<String, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "pulls", &number.to_string()];
        let ask = self
            .get(&path, format!("read the diff of pull request {number} of {of}"))
            .accept("application/vnd.github.diff");
        Ok(String::from_utf8_lossy(&self.read(&ask).await?.body).into_owned())
    }

    /// The page where a person opens a pull request, filled in as far as an address has room.
    #[must_use]
    pub fn compose_page(&self, of: &RepoName, new: &NewPull) -> Option<String> {
        let range = format!("{}...{}", new.base, new.head);
        let mut page = self.address.page(&[&of.owner, &of.name, "compare", &range])?;
        let body: String = new
            .body
            .chars()
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= COMPOSED).then_some(c)
            })
            .collect();
        page.query_pairs_mut().extend_pairs([("expand", "1"), ("title", &new.title), ("body", &body)]);
        Some(page.into())
    }
}
