//! Credentials for hosts of repositories.

use protocol::git::{GitCredentialList, SetGitCredential};
use reqwest::Method;

use crate::client::{Client, SHORT};
use crate::error::ClientError;

impl Client {
    /// The hosts that the server has credentials for.
    pub async fn git_credentials(&self) -> Result<GitCredentialList, ClientError> {
        self.json(self.request(Method::GET, "/git/credentials").timeout(SHORT)).await
    }

    /// Sets the credential of a host.
    pub async fn set_git_credential(&self, host: &str, set: &SetGitCredential) -> Result<(), ClientError> {
        let path = format!("/git/credentials/{host}");
        self.send(self.request(Method::PUT, &path).json(set).timeout(SHORT)).await.map(drop)
    }

    /// Forgets the credential of a host.
    pub async fn remove_git_credential(&self, host: &str) -> Result<(), ClientError> {
        let path = format!("/git/credentials/{host}");
        self.send(self.request(Method::DELETE, &path).timeout(SHORT)).await.map(drop)
    }
}
