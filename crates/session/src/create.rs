//! Making a session.

use std::path::PathBuf;

use policy::repository::{RepositoryUrl, workspace_name};
use protocol::api::MAX_PROMPT_CHARS;
use protocol::event::{RepositoryOrigin, SessionCreated};
use protocol::ids::{PromptId, SessionId};
use protocol::view::SessionView;
use store::{Accepted, IdempotencyKey};
use ulid::Ulid;

use crate::error::SessionError;
use crate::names;
use crate::registry::Sessions;

/// What a new session starts with.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The first prompt.
    pub prompt: String,
    /// The code.
    pub repository: NewRepository,
    /// The agent; the default when left out.
    pub agent: Option<String>,
    /// The image; the default when left out.
    pub image: Option<String>,
    /// The client's key.
    pub key: Option<IdempotencyKey>,
}

/// Where the code comes from.
#[derive(Debug, Clone)]
pub enum NewRepository {
    /// An uploaded bundle.
    Bundle {
        /// The file.
        path: PathBuf,
        /// For display and the workspace folder.
        name: String,
        /// The branch that was checked out.
        branch: Option<String>,
    },
    /// An address to fetch.
    Url {
        /// The address.
        url: String,
        /// The branch; the remote's default when left out.
        branch: Option<String>,
    },
}

/// Checks a prompt's length.
pub(crate) fn check_prompt(prompt: &str) -> Result<(), SessionError> {
    let given = prompt.chars().count();
    if prompt.trim().is_empty() {
        Err(SessionError::EmptyPrompt)
    } else if given > MAX_PROMPT_CHARS {
        Err(SessionError::PromptTooLong { given, allowed: MAX_PROMPT_CHARS })
    } else {
        Ok(())
    }
}

impl Sessions {
    /// Makes a session: its repository, its log with the first prompt, its driver. The prompt is
    /// durable when this returns.
    ///
    /// Goes on to its end also when the caller goes away: half a session is worse than one too many.
    pub async fn create(&self, new: NewSession) -> Result<Accepted<SessionView>, SessionError> {
        let this = self.clone();
        let made = tokio::spawn(async move { this.create_whole(new).await }).await;
        made.unwrap_or(Err(SessionError::Stopping))
    }

    async fn create_whole(&self, new: NewSession) -> Result<Accepted<SessionView>, SessionError> {
        check_prompt(&new.prompt)?;
        let agent = self.shared.agents.resolve(new.agent.as_deref())?;
        let image = self.image(new.image.as_deref()).await?;
        let id = SessionId::from(Ulid::generate());
        let made = self.create_with(id, new, agent, image).await;
        let keep = matches!(&made, Ok(accepted) if !accepted.repeated);
        if !keep {
            self.shared.repositories.delete(id).await?;
        }
        let accepted = made?;
        if keep {
            self.handle(id).await?;
        }
        Ok(accepted)
    }

    /// The image that a session asks for, if there is one; the default is found when it is used.
    async fn image(&self, wanted: Option<&str>) -> Result<String, SessionError> {
        let Some(wanted) = wanted else { return Ok(self.shared.config.default_image.clone()) };
        match self.shared.host.images().await {
            Ok(known) if !known.iter().any(|image| image.name == wanted) => Err(SessionError::NoImage {
                wanted: wanted.chars().take(80).collect(),
                known: known.into_iter().map(|image| image.name).collect::<Vec<_>>().join(", "),
            }),
            _ => Ok(wanted.to_owned()),
        }
    }

    async fn create_with(
        &self,
        id: SessionId,
        new: NewSession,
        agent: String,
        image: String,
    ) -> Result<Accepted<SessionView>, SessionError> {
        let repositories = &self.shared.repositories;
        let (origin, imported) = match new.repository {
            NewRepository::Bundle { path, name, branch } => {
                let imported = repositories.import_bundle(id, &path).await?;
                (RepositoryOrigin { name: workspace_name(&name), url: None, branch }, imported)
            }
            NewRepository::Url { url, branch } => {
                let rules = &self.shared.config.fetch;
                let url = RepositoryUrl::parse(&url, &rules.file_roots).map_err(git_proxy::GitError::from)?;
                let imported = repositories.import_url(id, &url, branch.as_deref(), rules).await?;
                let origin = RepositoryOrigin {
                    name: url.name(),
                    url: Some(url.to_string()),
                    branch: imported.branch.clone(),
                };
                (origin, imported)
            }
        };
        let title = names::title(&new.prompt);
        let branch = names::branch(&title, id);
        repositories.start_branch(id, &branch, &imported.base).await?;
        let created = SessionCreated {
            title,
            agent,
            image,
            repository: origin,
            head: imported.head,
            base: imported.base,
            branch,
        };
        let prompt = PromptId::from(Ulid::generate());
        Ok(self.shared.store.create_session(id, created, prompt, new.prompt, new.key).await?)
    }

    /// Queues a prompt in a session; durable when this returns.
    pub async fn prompt(
        &self,
        id: SessionId,
        text: String,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted<(PromptId, u64)>, SessionError> {
        check_prompt(&text)?;
        self.handle(id).await?.prompt(text, key).await
    }
}
