//! Pull requests of sessions, and what can be chosen from at forges.

use protocol::ids::SessionId;
use protocol::pull_request::{CreatePullRequest, ForgeBranches, ForgeRepositories, SessionPullRequest};
use reqwest::Method;

use crate::client::{Client, LONG};
use crate::error::ClientError;

impl Client {
    /// The pull request of a session as it is now, or why there is none.
    pub async fn pull_request(&self, session: SessionId) -> Result<SessionPullRequest, ClientError> {
        let path = format!("/sessions/{session}/pull-request");
        self.json(self.request(Method::GET, &path).timeout(LONG)).await
    }

    /// Opens the pull request of a session, or gives the one that is open.
    pub async fn create_pull_request(
        &self,
        session: SessionId,
        wish: &CreatePullRequest,
    ) -> Result<SessionPullRequest, ClientError> {
        self.post(&format!("/sessions/{session}/pull-request"), wish).await
    }

    /// Repositories whose name has `query` in it.
    pub async fn forge_repositories(&self, query: &str) -> Result<ForgeRepositories, ClientError> {
        let request = self.request(Method::GET, "/forge/repositories").timeout(LONG);
        self.json(request.query(&[("query", query)])).await
    }

    /// Branches of a repository whose name has `query` in it.
    pub async fn forge_branches(&self, url: &str, query: &str) -> Result<ForgeBranches, ClientError> {
        let request = self.request(Method::GET, "/forge/branches").timeout(LONG);
        self.json(request.query(&[("url", url), ("query", query)])).await
    }
}
