//! The forges of a server: which hosts are some, who the server is there, and what can be chosen from.
//!
//! ```text
//!   host of an address ─┬─ named by the operator, [[forges]] ─┐
//!                       ├─ github.com, *.ghe.com ─────────────┼─▶ token of that host ─▶ forge::GitHub
//!                       └─ any other: no forge                ┘
//! ```

use forge::{ForgeAddress, ForgeError, GitHub, RepoName, Token};
use policy::repository::{RepositoryUrl, RepositoryUrlError};
use protocol::pull_request::{ForgeBranch, ForgeBranches, ForgeRepositories, ForgeRepository};
use store::StoreError;

use crate::credentials::host_of;
use crate::error::SessionError;
use crate::registry::{Sessions, Shared};

/// Repositories that are offered at once.
const MAX_REPOSITORIES: usize = 100;

/// Branches that are offered at once.
const MAX_BRANCHES: usize = 200;

/// Why nothing can be asked of a forge.
#[derive(Debug, thiserror::Error)]
pub enum ForgesError {
    /// It is no forge, as far as the server knows.
    #[error(
        "{0} is no forge that this server can ask; for GitHub Enterprise Server its operator adds [[forges]] with \
         host = \"{0}\" to the configuration"
    )]
    NoForge(String),
    /// The address names no repository of a forge.
    #[error("{0} names no repository of a forge; an address is like https://github.com/owner/name.git")]
    NoRepository(String),
    /// The address.
    #[error(transparent)]
    Url(#[from] RepositoryUrlError),
    /// The forge.
    #[error(transparent)]
    Forge(#[from] ForgeError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A repository at a forge, and who the server is there.
pub(crate) struct At {
    pub(crate) github: GitHub,
    pub(crate) name: RepoName,
}

impl Shared {
    fn forge_at(&self, host: &str) -> Option<ForgeAddress> {
        let named = self.config.forges.iter().find(|forge| forge.host() == host).cloned();
        named.or_else(|| ForgeAddress::known(host))
    }

    /// The repository of an address, where it is one of a forge that the server has a token for.
    pub(crate) async fn at_forge(&self, url: &RepositoryUrl) -> Result<At, ForgesError> {
        let Some(host) = host_of(url) else { return Err(ForgesError::NoRepository(url.to_string())) };
        let address = self.forge_at(&host).ok_or_else(|| ForgesError::NoForge(host.clone()))?;
        let name = RepoName::of(url).ok_or_else(|| ForgesError::NoRepository(url.to_string()))?;
        let stored = match self.config.personal_tokens {
            true => self.store.git_credentials().await?,
            false => Vec::new(),
        };
        let token = stored.into_iter().find(|one| one.host == host);
        let token = token.ok_or(ForgeError::NoToken { host })?;
        Ok(At { github: self.forges.at(address, Some(Token::new(token.token))), name })
    }
}

impl Sessions {
    /// The repositories that the server's tokens may see and whose name has `query` in it.
    pub async fn forge_repositories(&self, query: &str) -> Result<ForgeRepositories, SessionError> {
        let shared = &self.shared;
        let (mut repositories, mut problems) = (Vec::new(), Vec::new());
        let stored = match shared.config.personal_tokens {
            true => shared.store.git_credentials().await?,
            false => Vec::new(),
        };
        let query = query.to_lowercase();
        for credential in stored {
            let Some(address) = shared.forge_at(&credential.host) else { continue };
            let host = credential.host;
            let all = shared.forges.at(address, Some(Token::new(credential.token))).repositories().await;
            match all {
                Ok(all) => repositories.extend(
                    all.into_iter()
                        .filter(|one| !one.archived && one.full_name.to_lowercase().contains(&query))
                        .map(|one| ForgeRepository {
                            host: host.clone(),
                            name: one.full_name,
                            url: one.clone_url,
                            private: one.private,
                            default_branch: one.default_branch,
                            push: one.permissions.is_some_and(|may| may.push),
                        }),
                ),
                Err(error) => problems.push(error.to_string()),
            }
        }
        repositories.truncate(MAX_REPOSITORIES);
        Ok(ForgeRepositories { repositories, problems })
    }

    /// The branches of a repository whose name has `query` in it, the default one first.
    pub async fn forge_branches(&self, url: &str, query: &str) -> Result<ForgeBranches, SessionError> {
        let url = RepositoryUrl::parse(url, &[]).map_err(ForgesError::from)?;
        let At { github, name } = self.shared.at_forge(&url).await?;
        let repository = github.repository(&name).await.map_err(ForgesError::from)?;
        let name = RepoName::parse(&repository.full_name).unwrap_or(name);
        let all = github.branches(&name).await.map_err(ForgesError::from)?;
        let query = query.to_lowercase();
        let wanted = all.into_iter().filter(|branch| branch.name.to_lowercase().contains(&query));
        let mut branches: Vec<ForgeBranch> =
            wanted.map(|one| ForgeBranch { name: one.name, protected: one.protected }).collect();
        let default_branch = repository.default_branch;
        branches.sort_by(|one, other| {
            let key = |branch: &ForgeBranch| (branch.name != default_branch, branch.name.clone());
            key(one).cmp(&key(other))
        });
        branches.truncate(MAX_BRANCHES);
        Ok(ForgeBranches { default_branch, branches })
    }
}
