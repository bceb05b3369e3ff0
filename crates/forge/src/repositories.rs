//! Repositories and their branches.

use crate::address::RepoName;
use crate::client::GitHub;
use crate::error::ForgeError;
use crate::model::{Branch, Repository, User};

/// Pages of repositories that are looked at.
const REPOSITORY_PAGES: usize = 5;

/// Pages of branches that are looked at.
const BRANCH_PAGES: usize = 10;

impl GitHub {
    /// Who the token is.
    pub async fn user(&self) -> Result<User, ForgeError> {
        self.json(&self.get(&["user"], "see who the token is".into())).await
    }

    /// The repositories that the token may see, the newest pushed first; 500 at most.
    pub async fn repositories(&self) -> Result<Vec<Repository>, ForgeError> {
        let ask = self.get(&["user", "repos"], "list repositories".into()).query(&[("sort", "pushed")]);
        let pages: Vec<Vec<Repository>> = self.pages(ask, REPOSITORY_PAGES).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// A repository, also where it has another name by now.
    pub async fn repository(&self, name: &RepoName) -> Result<Repository, ForgeError> {
        self.json(&self.get(&["repos", &name.owner, &name.name], format!("read repository {name}"))).await
    }

    /// The branches of a repository; 1000 at most.
    pub async fn branches(&self, of: &RepoName) -> Result<Vec<Branch>, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "branches"];
        let ask = self.get(&path, format!("list the branches of {of}"));
        let pages: Vec<Vec<Branch>> = self.pages(ask, BRANCH_PAGES).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// A branch; nothing where there is none.
    pub async fn branch(&self, of: &RepoName, branch: &str) -> Result<Option<Branch>, ForgeError> {
        let path = ["repos", &of.owner, &of.name, "branches", branch];
        match self.json(&self.get(&path, format!("read branch {branch} of {of}"))).await {
            Ok(branch) => Ok(Some(branch)),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
