//! Making a session.

use std::path::PathBuf;

use git_proxy::{GitError, Imported, Remote};
use policy::push::PushRules;
use policy::repository::{RepositoryUrl, workspace_name};
use protocol::api::MAX_PROMPT_CHARS;
use protocol::environment::EnvironmentRef;
use protocol::event::{RepositoryOrigin, SessionCreated};
use protocol::ids::{PromptId, SessionId};
use protocol::prompt::{Delivery, QueuedPrompt};
use protocol::view::SessionView;
use store::{Accepted, IdempotencyKey};
use ulid::Ulid;

use crate::credentials::credential_for;
use crate::error::SessionError;
use crate::forges::ForgesError;
use crate::names;
use crate::registry::{Sessions, Shared};

/// What a new session starts with.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The first prompt.
    pub prompt: String,
    /// The code.
    pub repository: NewRepository,
    /// The agent; the default when left out.
    pub agent: Option<String>,
    /// The environment, by id or name; the default when left out.
    pub environment: Option<String>,
    /// The image; the environment's when left out.
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
        /// Work on that branch itself.
        on_branch: bool,
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
        let environment = self.resolve_environment(new.environment.as_deref()).await?;
        if new.environment.is_some() {
            self.check_image(&environment.settings.image).await?;
        }
        self.check_tier(&environment.settings).await?;
        let image = match &new.image {
            Some(image) => {
                self.check_image(image).await?;
                image.clone()
            }
            // The default one is found when it is used.
            None => environment.settings.image.clone(),
        };
        let environment = EnvironmentRef { id: environment.id, name: environment.settings.name };
        let id = SessionId::from(Ulid::generate());
        let made = self.create_with(id, new, agent, environment, image).await;
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

    async fn create_with(
        &self,
        id: SessionId,
        new: NewSession,
        agent: String,
        environment: EnvironmentRef,
        image: String,
    ) -> Result<Accepted<SessionView>, SessionError> {
        let existing_branch = matches!(new.repository, NewRepository::Url { on_branch: true, .. });
        self.check_branch(&new.repository).await?;
        let (origin, imported) = import(&self.shared, id, new.repository).await?;
        let title = names::title(&new.prompt);
        let branch = match imported.branch.clone().filter(|_| existing_branch) {
            Some(branch) => branch,
            None => names::branch(&title, id),
        };
        self.shared.repositories.start_branch(id, &branch, &imported.base).await?;
        let created = SessionCreated {
            title,
            agent,
            image,
            environment: Some(environment),
            repository: origin,
            head: imported.head,
            base: imported.base,
            branch,
            fork: None,
            existing_branch,
        };
        let prompt = PromptId::from(Ulid::generate());
        Ok(self.shared.store.create_session(id, created, prompt, new.prompt, new.key).await?)
    }

    /// Whether a session may work on a branch that is there already: it is named, and no rule of its forge
    /// keeps it, as far as the forge can be asked.
    async fn check_branch(&self, repository: &NewRepository) -> Result<(), SessionError> {
        let NewRepository::Url { url, branch, on_branch: true } = repository else { return Ok(()) };
        let branch = branch.as_deref().ok_or(SessionError::NoBranchNamed)?;
        let rules = &self.shared.config.fetch;
        let url = RepositoryUrl::parse(url, &rules.file_roots).map_err(GitError::from)?;
        let at = match self.shared.at_forge(&url).await {
            Ok(at) => at,
            // What is no forge keeps its branches by itself: it refuses the push.
            Err(_) => return Ok(()),
        };
        match at.github.branch(&at.name, branch).await.map_err(ForgesError::from)? {
            Some(there) if there.protected => Err(SessionError::ProtectedBranch {
                branch: branch.to_owned(),
                host: at.github.host().to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Queues a prompt in a session; durable when this returns.
    pub async fn prompt(
        &self,
        id: SessionId,
        text: String,
        delivery: Delivery,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted<(PromptId, u64)>, SessionError> {
        check_prompt(&text)?;
        self.handle(id).await?.prompt(text, delivery, key).await
    }

    /// Changes a prompt that waits; what is not given stays.
    pub async fn edit_prompt(
        &self,
        id: SessionId,
        prompt: PromptId,
        text: Option<String>,
        delivery: Option<Delivery>,
    ) -> Result<QueuedPrompt, SessionError> {
        text.as_deref().map_or(Ok(()), check_prompt)?;
        self.handle(id).await?.edit_prompt(prompt, text, delivery).await
    }
}

/// Brings the code into the repository of a session that is being made.
pub(crate) async fn import(
    shared: &Shared,
    id: SessionId,
    repository: NewRepository,
) -> Result<(RepositoryOrigin, Imported), SessionError> {
    match repository {
        NewRepository::Bundle { path, name, branch } => {
            let imported = shared.repositories.import_bundle(id, &path).await?;
            Ok((RepositoryOrigin { name: workspace_name(&name), url: None, branch }, imported))
        }
        NewRepository::Url { url, branch, on_branch: _ } => {
            let rules = &shared.config.fetch;
            let url = RepositoryUrl::parse(&url, &rules.file_roots).map_err(GitError::from)?;
            let allowed = shared.config.personal_tokens;
            let credential = credential_for(&shared.store, allowed, &url).await?;
            let remote = Remote { url: url.clone(), credential, push: PushRules::default() };
            let limit = shared.config.deadlines.fetch;
            let fetch = shared.repositories.import_url(id, &remote, branch.as_deref(), rules);
            let imported = tokio::time::timeout(limit, fetch).await;
            let imported =
                imported.unwrap_or(Err(GitError::Timeout { action: "fetch", seconds: limit.as_secs() }))?;
            let origin = RepositoryOrigin {
                name: url.name(),
                url: Some(url.to_string()),
                branch: imported.branch.clone(),
            };
            Ok((origin, imported))
        }
    }
}
