//! Environments: the named answer to "in what does a session work?".
//!
//! ```text
//!  EnvironmentSettings   what people edit          ─┐
//!  Environment           that, with id and facts   ─┴─▶ SandboxSpec · variables · setup script
//!  SetupCache            what a setup left for later sessions
//!  SetupTest             a setup script tried out in a sandbox of its own
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::RepositorySource;
use crate::ids::{EnvironmentId, SetupTestId};
use crate::network::Rendering;
use crate::sandbox_spec::{Limits, TierRequest, Unenforced};
use crate::secret::SecretBinding;

/// The longest name, in characters.
pub const MAX_ENVIRONMENT_NAME: usize = 60;

/// The longest text of variables, in bytes.
pub const MAX_VARIABLES_BYTES: usize = 64 * 1024;

/// The longest setup script, in bytes.
pub const MAX_SETUP_SCRIPT_BYTES: usize = 256 * 1024;

/// The most domains of a network level.
pub const MAX_DOMAINS: usize = 1_000;

/// What may be reached from a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "level", rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkLevel {
    // Empty rather than without fields, so that what does not belong to a level is refused.
    /// Nothing.
    None {},
    /// The included list: package registries and the like.
    Trusted {},
    /// Everything but private addresses.
    Full {},
    /// These domains.
    Custom {
        /// `example.org` is that host at the ports 80 and 443, `example.org:8443` at that one;
        /// `*.example.org` is every host below it. An address needs an entry of its own.
        domains: Vec<String>,
        /// The included list, too.
        #[serde(default)]
        include_default: bool,
    },
}

impl NetworkLevel {
    /// Its word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None {} => "none",
            Self::Trusted {} => "trusted",
            Self::Full {} => "full",
            Self::Custom { .. } => "custom",
        }
    }
}

/// What people decide about an environment; body of `POST /environments`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSettings {
    /// 1 to 60 characters, unique among those that are not archived.
    pub name: String,
    /// The image, `slim` when left out.
    #[serde(default = "default_image")]
    pub image: String,
    /// What may be reached.
    #[serde(default = "default_network")]
    pub network: NetworkLevel,
    /// How much of the included list may be written to.
    #[serde(default)]
    pub rendering: Rendering,
    /// `KEY=value`, one per line, values literal: quotes are part of the value. Lines that begin with
    /// `#` and empty ones are allowed. Visible to whoever can edit the environment, and to everything
    /// in the sandbox: no place for secrets.
    #[serde(default)]
    pub variables: String,
    /// Secrets that requests may carry without anything in the sandbox knowing them.
    #[serde(default)]
    pub secrets: Vec<SecretBinding>,
    /// Runs as root inside, in the workspace, before the agent; bash unless it says otherwise in its
    /// first line. Empty for none.
    #[serde(default)]
    pub setup_script: String,
    /// What a sandbox may use.
    #[serde(default)]
    pub limits: Limits,
    /// How strongly a sandbox is kept apart.
    #[serde(default)]
    pub tier: TierRequest,
    /// What is done about a limit that this host cannot enforce.
    #[serde(default)]
    pub unenforced: Unenforced,
    /// Whether containers may be made inside.
    #[serde(default)]
    pub nested_containers: bool,
    /// Whether the state after clone and setup is kept for later sessions.
    #[serde(default = "yes")]
    pub cache_setup: bool,
}

fn default_image() -> String {
    "slim".into()
}

fn default_network() -> NetworkLevel {
    NetworkLevel::Trusted {}
}

fn yes() -> bool {
    true
}

impl EnvironmentSettings {
    /// An environment of this name with everything else as usual.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            image: default_image(),
            network: default_network(),
            rendering: Rendering::default(),
            variables: String::new(),
            secrets: Vec::new(),
            setup_script: String::new(),
            limits: Limits::default(),
            tier: TierRequest::default(),
            unenforced: Unenforced::default(),
            nested_containers: false,
            cache_setup: true,
        }
    }
}

/// An environment as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// What people decided.
    pub settings: EnvironmentSettings,
    /// Whether sessions that name none get this one.
    pub default: bool,
    /// Hidden; sessions that have it go on, new ones cannot choose it.
    pub archived: bool,
    /// Counts from 1 with every change.
    pub revision: u64,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub updated_at: Timestamp,
    /// What is allowed but worth a second look, a sentence each.
    pub warnings: Vec<String>,
    /// What setups left for later sessions, the last used first.
    pub caches: Vec<SetupCache>,
}

/// The kept state after clone and setup of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupCache {
    /// The repository, for display.
    pub repository: String,
    /// The commit that it was made at.
    pub commit: String,
    /// Whether the script wrote into the workspace: then it serves the same commit only.
    pub wrote_workspace: bool,
    /// Bytes on the server's disk.
    pub bytes: u64,
    /// How long clone and setup took.
    pub duration_ms: u64,
    /// When it was made; it serves for 7 days.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When a session last began with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub used_at: Option<Timestamp>,
}

/// Which environment a session has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnvironmentRef {
    /// Its id.
    pub id: EnvironmentId,
    /// Its name when the session was made.
    pub name: String,
}

/// Answer of `GET /environments`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnvironmentList {
    /// The default first, then by name.
    pub environments: Vec<Environment>,
}

/// Body of `PUT /environments/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EditEnvironment {
    /// The revision that was edited; refused when it is not the newest any more.
    pub revision: u64,
    /// All settings as they shall be.
    pub settings: EnvironmentSettings,
}

/// Body of `POST /environments/{id}/archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ArchiveEnvironment {
    /// Hide, or bring back.
    pub archived: bool,
}

/// Body of `POST /environments/{id}/test-setup`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TestSetup {
    /// Settings that are not saved yet; the environment's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<EnvironmentSettings>,
    /// What the workspace holds; an empty repository when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositorySource>,
}

/// A setup script that is tried out. Kept for an hour after its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupTest {
    /// Its id, for `GET /setup-tests/{id}`.
    pub id: SetupTestId,
    /// The environment.
    pub environment: EnvironmentId,
    /// Where it is.
    pub state: SetupTestState,
    /// What it is doing, or how it ended, for people.
    pub message: String,
    /// What was printed, from byte `after` of the request on.
    pub output: String,
    /// Pass as `after` to get what comes next.
    pub next: u64,
    /// Whether output was left out because there was too much of it.
    pub truncated: bool,
    /// From the request to now, or to the end.
    pub duration_ms: u64,
}

/// Where a setup test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SetupTestState {
    /// Others run.
    Queued,
    /// The sandbox is made, or the script runs.
    Running,
    /// It ended with 0.
    Passed,
    /// It ended otherwise, was given up or could not be run.
    Failed,
}

impl SetupTestState {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Passed | Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_usual_and_what_is_unknown_is_refused() {
        let settings: EnvironmentSettings = serde_json::from_str(r#"{"name":"work"}"#).unwrap();
        assert_eq!(settings, EnvironmentSettings::named("work"));
        for text in [
            r#"{}"#,
            r#"{"name":"work","memory":1}"#,
            r#"{"name":"work","network":{"level":"open"}}"#,
            r#"{"name":"work","network":{"level":"none","domains":[]}}"#,
            r#"{"name":"work","limits":{"memory":1}}"#,
        ] {
            assert!(serde_json::from_str::<EnvironmentSettings>(text).is_err(), "{text}");
        }
    }
}
