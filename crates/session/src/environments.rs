//! Environments: made, edited, archived, chosen, tried out.
//!
//! ```text
//!  settings ─ check ─▶ store ─┬─▶ resolve: which one a new session gets
//!                             ├─▶ provision: image, limits, variables, setup script
//!                             └─▶ caches: what a setup left for later sessions
//! ```
//!
//! A session has an environment by its id: an edit reaches it with its next sandbox, and archiving
//! takes nothing away from it.

pub(crate) mod caches;
mod check;
pub(crate) mod rebuild;
pub(crate) mod setup_tests;

use protocol::environment::{EditEnvironment, Environment, EnvironmentList, EnvironmentSettings, SetupCache};
use protocol::ids::{EnvironmentId, SetupTestId};
use protocol::sandbox_spec::SandboxSpec;
use protocol::secret::MAX_SECRETS;
use store::{Accepted, IdempotencyKey, StoreError, StoredEnvironment, StoredSetupCache};
use ulid::Ulid;

use crate::error::SessionError;
use crate::registry::Sessions;

/// What an environment cannot be, or cannot do now.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The name says nothing, or too much.
    #[error("an environment's name has 1 to 60 characters, and no control characters")]
    Name,
    /// A text is too long.
    #[error("the {what} has {given} bytes, {allowed} are allowed")]
    TooLong { what: &'static str, given: usize, allowed: usize },
    /// The variables cannot be read.
    #[error(transparent)]
    Variables(#[from] policy::variables::VariablesError),
    /// A domain is none.
    #[error(transparent)]
    Domain(#[from] policy::pattern::PatternError),
    /// The network's rules cannot be used together.
    #[error("the network's rules cannot be used: {0}")]
    Network(#[source] policy::network::PolicyError),
    /// Too many domains.
    #[error("{0} domains are too many; 1,000 are allowed")]
    TooManyDomains(usize),
    /// A limit that makes no sense.
    #[error("the limit `{name}` must be {least} to {most}")]
    Limit { name: &'static str, least: u64, most: u64 },
    /// The script cannot be stored or run.
    #[error("the setup script holds a NUL character")]
    Script,
    /// A secret's binding.
    #[error("the secret `{name}` {why}")]
    Secret { name: String, why: String },
    /// Too many secrets.
    #[error("{0} secrets are too many; {MAX_SECRETS} are allowed")]
    TooManySecrets(usize),
    /// No such image.
    #[error("there is no image `{wanted}`; this server has {known}")]
    NoImage { wanted: String, known: String },
    /// The tier cannot be had.
    #[error("no sandbox of the tier {wanted} can be had here: {why}")]
    NoTier { wanted: String, why: String },
    /// No such environment.
    #[error("there is no environment `{wanted}`; this server has {known}")]
    Unknown { wanted: String, known: String },
    /// It is archived.
    #[error("the environment `{0}` is archived; bring it back, or choose another one")]
    Archived(String),
    /// Somebody else changed it in between.
    #[error(
        "the environment was changed in between: it is at revision {newest} now, and {given} was edited; it differs from what was sent in {differs}"
    )]
    Stale { given: u64, newest: u64, differs: String },
    /// There is no such test, or no more.
    #[error("there is no setup test {0}; it is kept for an hour after its end")]
    NoTest(SetupTestId),
    /// Too many tests wait.
    #[error("{0} setup tests already wait or run")]
    TooManyTests(usize),
}

impl Sessions {
    /// Makes the default environment where there is none yet: what the configuration says at the first
    /// start stands until somebody edits it.
    pub async fn ensure_default_environment(
        &self,
        settings: EnvironmentSettings,
    ) -> Result<(), SessionError> {
        if self.shared.store.default_environment().await?.is_none() {
            let id = EnvironmentId::from(Ulid::generate());
            self.shared.store.create_environment(id, settings, None).await?;
        }
        Ok(())
    }

    /// All that are archived, or all others.
    pub async fn environments(&self, archived: bool) -> Result<EnvironmentList, SessionError> {
        let mut environments = Vec::new();
        for stored in self.shared.store.environments(archived).await? {
            environments.push(self.shown(stored).await?);
        }
        Ok(EnvironmentList { environments })
    }

    /// One environment.
    pub async fn environment(&self, id: EnvironmentId) -> Result<Environment, SessionError> {
        let stored = self.shared.store.environment(id).await?;
        self.shown(stored).await
    }

    /// Makes an environment.
    pub async fn create_environment(
        &self,
        settings: EnvironmentSettings,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted<Environment>, SessionError> {
        let settings = self.checked(settings).await?;
        let id = EnvironmentId::from(Ulid::generate());
        let Accepted { answer, repeated } = self.shared.store.create_environment(id, settings, key).await?;
        Ok(Accepted { answer: self.shown(answer).await?, repeated })
    }

    /// Replaces the settings. Running sessions get them with their next sandbox, but the network's at
    /// once; what was kept of setups goes when it would be another one now.
    pub async fn edit_environment(
        &self,
        id: EnvironmentId,
        edit: EditEnvironment,
    ) -> Result<Environment, SessionError> {
        let settings = self.checked(edit.settings).await?;
        let before = self.shared.store.environment(id).await?;
        match self.shared.store.edit_environment(id, edit.revision, settings.clone()).await {
            Ok(stored) => {
                if caches::depends_on(&before.settings) != caches::depends_on(&stored.settings) {
                    caches::drop_all(&self.shared, Some(id)).await;
                }
                self.shared.networks.edited(id).await;
                self.shown(stored).await
            }
            Err(StoreError::Stale { given, newest }) => {
                let now = self.shared.store.environment(id).await?;
                let differs = check::differences(&now.settings, &settings);
                Err(EnvironmentError::Stale { given, newest, differs }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Hides an environment, or brings it back. What was kept of its setups goes.
    pub async fn archive_environment(
        &self,
        id: EnvironmentId,
        archived: bool,
    ) -> Result<Environment, SessionError> {
        let stored = self.shared.store.archive_environment(id, archived).await?;
        if archived {
            caches::drop_all(&self.shared, Some(id)).await;
        }
        self.shown(stored).await
    }

    /// Makes an environment the default.
    pub async fn make_default_environment(&self, id: EnvironmentId) -> Result<Environment, SessionError> {
        let stored = self.shared.store.make_default_environment(id).await?;
        self.shown(stored).await
    }

    /// Forgets what setups left: the next session runs its setup anew.
    pub async fn refresh_environment(&self, id: EnvironmentId) -> Result<Environment, SessionError> {
        let stored = self.shared.store.environment(id).await?;
        caches::drop_all(&self.shared, Some(id)).await;
        self.shown(stored).await
    }

    /// The environment that a new session asks for, by id or name; the default without a word.
    pub(crate) async fn resolve_environment(
        &self,
        wanted: Option<&str>,
    ) -> Result<StoredEnvironment, SessionError> {
        let store = &self.shared.store;
        let usable = store.environments(false).await?;
        let Some(wanted) = wanted else {
            let default = usable.into_iter().find(|environment| environment.default);
            return default.ok_or_else(|| unknown("the default", &[]).into());
        };
        let is_it = |environment: &&StoredEnvironment| {
            environment.id.to_string() == wanted || environment.settings.name.eq_ignore_ascii_case(wanted)
        };
        if let Some(found) = usable.iter().find(is_it) {
            return Ok(found.clone());
        }
        if let Some(archived) = store.environments(true).await?.iter().find(is_it) {
            return Err(EnvironmentError::Archived(archived.settings.name.clone()).into());
        }
        Err(unknown(wanted, &usable).into())
    }

    async fn checked(&self, settings: EnvironmentSettings) -> Result<EnvironmentSettings, SessionError> {
        let settings = check::settings(settings)?;
        self.check_image(&settings.image).await?;
        Ok(settings)
    }

    /// Whether there is such an image; a host that cannot be asked now says so when it is used.
    pub(crate) async fn check_image(&self, wanted: &str) -> Result<(), EnvironmentError> {
        match self.shared.host.images().await {
            Ok(known) if !known.iter().any(|image| image.name == wanted) => Err(EnvironmentError::NoImage {
                wanted: wanted.chars().take(80).collect(),
                known: known.into_iter().map(|image| image.name).collect::<Vec<_>>().join(", "),
            }),
            _ => Ok(()),
        }
    }

    /// Whether a sandbox of the wanted tier can be had; the same.
    pub(crate) async fn check_tier(&self, settings: &EnvironmentSettings) -> Result<(), EnvironmentError> {
        match self.shared.host.probe(false).await {
            Ok(report) => check::tier(settings.tier, &report.tiers),
            Err(_) => Ok(()),
        }
    }

    async fn shown(&self, stored: StoredEnvironment) -> Result<Environment, SessionError> {
        let caches = self.shared.store.setup_caches(Some(stored.id)).await?;
        let mut warnings = check::warnings(&stored.settings);
        warnings.extend(self.secret_warnings(stored.id, &stored.settings).await?);
        if let Err(error) = self.check_tier(&stored.settings).await {
            warnings.push(format!("{error}; sessions in this environment are refused"));
        }
        Ok(Environment {
            id: stored.id,
            warnings,
            settings: stored.settings,
            default: stored.default,
            archived: stored.archived,
            revision: stored.revision,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            caches: caches.into_iter().map(shown_cache).collect(),
        })
    }
}

fn unknown(wanted: &str, known: &[StoredEnvironment]) -> EnvironmentError {
    let known: Vec<&str> = known.iter().map(|environment| environment.settings.name.as_str()).collect();
    EnvironmentError::Unknown { wanted: wanted.chars().take(80).collect(), known: known.join(", ") }
}

fn shown_cache(stored: StoredSetupCache) -> SetupCache {
    SetupCache {
        repository: stored.facts.repository,
        commit: stored.facts.commit,
        wrote_workspace: stored.facts.wrote_workspace,
        bytes: stored.bytes,
        duration_ms: stored.facts.duration_ms,
        used_at: Some(stored.used_at).filter(|used| *used != stored.created_at),
        created_at: stored.created_at,
    }
}

/// The sandbox that an environment asks for.
pub(crate) fn sandbox_spec(settings: &EnvironmentSettings, image: &str) -> SandboxSpec {
    SandboxSpec {
        image: image.to_owned(),
        tier: settings.tier,
        limits: settings.limits,
        unenforced: settings.unenforced,
        nested: settings.nested_containers,
        layer: None,
    }
}
