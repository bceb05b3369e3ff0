//! What the server is at hosts of repositories.
//!
//! ```text
//!   patchyard web-setup ─▶ sealed in the store ─▶ git-proxy: mirrors, fetches and pushes over TLS to that host
//! ```
//!
//! Nothing of it reaches a sandbox, a log or an answer of the API.

use git_proxy::{Credential, root};
use policy::repository::RepositoryUrl;
use protocol::git::{GitCredentialInfo, GitCredentialList, MAX_TOKEN_BYTES, SetGitCredential};
use store::{Store, StoreError};

use crate::error::SessionError;
use crate::registry::Sessions;

/// Why a credential is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The operator wants none.
    #[error(
        "this server takes no personal tokens: its operator switched them off (`personal_tokens` in [repositories])"
    )]
    Off,
    /// No host.
    #[error("`{0}` is no host of repositories; give one like github.com or git.example.org:8443")]
    Host(String),
    /// No user.
    #[error("a user has 1 to 200 visible characters without `:`")]
    User,
    /// No token.
    #[error(
        "a token has 8 to {MAX_TOKEN_BYTES} visible characters; give it alone, without its name or a line end"
    )]
    Token,
}

/// The host of an address as credentials know it; nothing for one that none is sent to.
pub(crate) fn host_of(url: &RepositoryUrl) -> Option<String> {
    Some(root(url)?.strip_prefix("https://")?.to_owned())
}

/// A host in its one form.
fn canonical(host: &str) -> Result<String, CredentialError> {
    let refused = || CredentialError::Host(host.chars().filter(|c| !c.is_control()).take(80).collect());
    let plain = |c: char| c.is_alphanumeric() || "-.:[]".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(refused());
    }
    let url = RepositoryUrl::parse(&format!("https://{host}/"), &[]).map_err(|_| refused())?;
    host_of(&url).ok_or_else(refused)
}

/// What a forge takes as the user beside a token.
fn usual_user(host: &str) -> &'static str {
    match host {
        host if host.contains("gitlab") => "oauth2",
        host if host.contains("bitbucket") => "x-token-auth",
        host if host.contains("github") => "x-access-token",
        _ => "git",
    }
}

/// The credential for an address, where there is one and it may be used.
pub(crate) async fn credential_for(
    store: &Store,
    allowed: bool,
    url: &RepositoryUrl,
) -> Result<Option<Credential>, StoreError> {
    let Some(host) = host_of(url).filter(|_| allowed) else { return Ok(None) };
    let found = store.git_credentials().await?.into_iter().find(|credential| credential.host == host);
    Ok(found.map(|credential| Credential::new(credential.user, credential.token)))
}

impl Sessions {
    /// Keeps a credential for a host, in place of an earlier one.
    pub async fn set_git_credential(&self, host: &str, set: SetGitCredential) -> Result<(), SessionError> {
        if !self.shared.config.personal_tokens {
            return Err(CredentialError::Off.into());
        }
        let host = canonical(host)?;
        let user = set.user.unwrap_or_else(|| usual_user(&host).to_owned());
        let visible = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if !(1..=200).contains(&user.len()) || user.contains(':') || !visible(&user) {
            return Err(CredentialError::User.into());
        }
        if !(8..=MAX_TOKEN_BYTES).contains(&set.token.len()) || !visible(&set.token) {
            return Err(CredentialError::Token.into());
        }
        Ok(self.shared.store.set_git_credential(host, user, set.token).await?)
    }

    /// Forgets the credential of a host; done also when there was none.
    pub async fn remove_git_credential(&self, host: &str) -> Result<(), SessionError> {
        self.shared.store.remove_git_credential(canonical(host)?).await?;
        Ok(())
    }

    /// The hosts that there are credentials for.
    pub async fn git_credentials(&self) -> Result<GitCredentialList, SessionError> {
        let all = self.shared.store.git_credentials().await?;
        let told = all.into_iter().map(|one| GitCredentialInfo {
            host: one.host,
            user: one.user,
            set_at: one.set_at,
        });
        Ok(GitCredentialList { credentials: told.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form_and_a_credential_goes_over_tls_alone() {
        for (given, wanted) in [
            ("GitHub.com", Some("github.com")),
            ("git.example.org:443", Some("git.example.org")),
            ("git.example.org:8443", Some("git.example.org:8443")),
            ("127.0.0.1:99", Some("127.0.0.1:99")),
            ("", None),
            ("a/b", None),
            ("u@h.test", None),
            ("h.test?x", None),
            ("https://h.test", None),
            ("h.test:x", None),
        ] {
            assert_eq!(canonical(given).ok().as_deref(), wanted, "{given}");
        }
        let host = |url: &str| host_of(&RepositoryUrl::parse(url, &[]).unwrap());
        assert_eq!(host("https://GitHub.com:443/o/r").as_deref(), Some("github.com"));
        assert_eq!(host("http://github.com/o/r"), None);
        assert_eq!(usual_user("ghe.github.example.org"), "x-access-token");
    }
}
