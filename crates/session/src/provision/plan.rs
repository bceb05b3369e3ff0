//! What a sandbox of a session is to be, decided before it is made.

use policy::variables;
use protocol::egress::MODEL_PORT;
use protocol::environment::{EnvironmentSettings, NetworkLevel};
use protocol::ids::LayerId;
use protocol::sandbox_spec::SandboxSpec;
use protocol::view::SessionView;
use store::{StoreError, StoredEnvironment, StoredSetupCache};

use super::workspace::{Wanted, short};
use super::workspace_path;
use crate::environments::caches::{self, Found, Ground};
use crate::environments::sandbox_spec;
use crate::provision::trust;
use crate::registry::Shared;
use crate::secrets;

/// What stands for a key where clients want one.
const MODEL_KEY: &str = "set-by-the-model-gateway";

/// A sandbox to be, and what happens in it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) environment: StoredEnvironment,
    pub(crate) spec: SandboxSpec,
    pub(crate) workspace: Wanted,
    /// Whether the sandbox stands on what the session's last one wrote: the workspace is in it.
    pub(crate) saved: bool,
    /// The kept setup that the sandbox stands on, and whether it is too old to be used again.
    pub(crate) reused: Option<(StoredSetupCache, bool)>,
    /// Where what is built now may be kept.
    pub(crate) keep: Option<Keep>,
}

/// That a setup may be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// What it takes the place of.
    pub(crate) replaces: Option<LayerId>,
}

impl Plan {
    /// Whether there is a setup script.
    pub(crate) fn runs_script(&self) -> bool {
        !self.environment.settings.setup_script.trim().is_empty()
    }

    /// What is told of a start that reused something.
    pub(crate) fn reuse_detail(&self, now: jiff::Timestamp) -> Option<String> {
        let (cache, old) = self.reused.as_ref()?;
        let age = now.duration_since(cache.created_at).as_secs();
        let what = if cache.facts.ran_script { "setup" } else { "checkout" };
        let mut text = format!(
            "reused the {what} of {} at {}, built {} ago, saved {}",
            cache.facts.repository,
            short(&cache.facts.commit),
            ago(age),
            seconds(cache.facts.duration_ms)
        );
        if *old {
            text.push_str("; it is old, and is built anew meanwhile");
        }
        Some(text)
    }
}

/// The environment of a session; the default one for a session that has none.
pub(crate) async fn settings(shared: &Shared, facts: &SessionView) -> Result<StoredEnvironment, String> {
    let store = &shared.store;
    let found = match &facts.environment {
        Some(environment) => store.environment(environment.id).await.map(Some),
        None => store.default_environment().await,
    };
    match found {
        Ok(Some(environment)) => Ok(environment),
        Ok(None) => Err("this server has no default environment; choose one with `patchyard environments \
                         default`"
            .into()),
        Err(error @ StoreError::NoEnvironment(_)) => Err(error.to_string()),
        Err(error) => Err(format!("the environment could not be read: {error}")),
    }
}

/// The way to the proxy, the variables of the server, then those of the environment, and what stands for
/// its secrets; names of ours are left out.
pub(crate) fn own_variables(shared: &Shared, settings: &EnvironmentSettings) -> Vec<(String, String)> {
    let read = variables::parse(&settings.variables).map(|read| read.pairs).unwrap_or_default();
    let theirs = shared.config.environment.iter().cloned().chain(read);
    let all = proxy_variables(settings).into_iter().chain(theirs).chain(secrets::variables(settings));
    all.filter(|(name, _)| !variables::is_ours(name)).collect()
}

/// The variables by which agents in the sandbox find the model. Who sets one of them means another model,
/// and has to mean all of it: a key of theirs must not go to ours, nor ours be asked by their names.
pub(super) fn model_variables(theirs: &[(String, String)]) -> Vec<(String, String)> {
    let names = ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"];
    if theirs.iter().any(|(name, _)| names.contains(&name.as_str())) {
        return Vec::new();
    }
    let url = format!("http://127.0.0.1:{MODEL_PORT}");
    vec![(names[0].to_owned(), url), (names[1].to_owned(), MODEL_KEY.to_owned())]
}

/// The variables by which programs find the proxy, and the authority of what it opens. Those that do not
/// look at them are captured, and find it among the image's own authorities.
fn proxy_variables(settings: &EnvironmentSettings) -> Vec<(String, String)> {
    if matches!(settings.network, NetworkLevel::None {}) {
        return Vec::new();
    }
    let mut all = variables::of_the_proxy();
    all.extend(
        policy::variables::OF_AUTHORITIES.map(|name| (name.to_owned(), trust::AUTHORITIES.to_owned())),
    );
    all.push(variables::of_java(trust::KEY_STORE));
    all
}

/// Decides what the next sandbox of a session is to be. With `fresh` nothing that was kept is used, and
/// nothing is kept.
pub(crate) async fn of_session(
    shared: &Shared,
    facts: &SessionView,
    tip: &str,
    fresh: bool,
) -> Result<Plan, String> {
    let environment = settings(shared, facts).await?;
    let spec = sandbox_spec(&environment.settings, &facts.image);
    let workspace = Wanted::of(facts, tip);
    let mut plan = Plan { environment, spec, workspace, saved: false, reused: None, keep: None };
    if fresh || !plan.environment.settings.cache_setup {
        return Ok(plan);
    }
    let found = find(shared, facts, &plan.environment, tip).await;
    // What a session itself committed is of no use to others.
    let may_keep = tip == facts.base;
    let replaces = match found {
        Found::Use { cache, old } => {
            plan.spec.layer = Some(cache.layer);
            plan.reused = Some((cache, old));
            return Ok(plan);
        }
        Found::Replace(layer) => Some(layer),
        Found::Nothing => None,
    };
    plan.keep = may_keep.then_some(Keep { replaces });
    Ok(plan)
}

/// The kept setup that a session may begin with. Where nothing is kept nothing is worked out.
async fn find(shared: &Shared, facts: &SessionView, environment: &StoredEnvironment, tip: &str) -> Found {
    match shared.store.setup_caches(Some(environment.id)).await {
        Ok(kept) if kept.is_empty() => return Found::Nothing,
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "what was kept of setups could not be looked at");
            return Found::Nothing;
        }
    }
    match key(shared, facts, environment).await {
        Some(key) => caches::find(shared, &key, tip).await,
        None => Found::Nothing,
    }
}

/// The key of a session's setup; none when what it depends on cannot be found out now.
pub(crate) async fn key(
    shared: &Shared,
    facts: &SessionView,
    environment: &StoredEnvironment,
) -> Option<Vec<u8>> {
    let images = shared.host.images().await.ok()?;
    let image_id = images.into_iter().find(|image| image.name == facts.image)?.id;
    let repository = match &facts.repository.url {
        Some(url) => url.clone(),
        None => {
            let roots = shared.repositories.roots(facts.id, &facts.base).await.ok()?;
            format!("{} {}", facts.repository.name, roots.join(" "))
        }
    };
    Some(caches::key(&Ground {
        environment: environment.id,
        settings: &environment.settings,
        variables: &own_variables(shared, &environment.settings),
        image_id: &image_id,
        repository: &repository,
        workspace: &workspace_path(facts),
    }))
}

fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn seconds(millis: u64) -> String {
    if millis < 1000 { format!("{millis} ms") } else { format!("{} s", millis / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_inside_find_the_model_unless_somebody_names_another() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let ours = [
            pair("ANTHROPIC_BASE_URL", "http://127.0.0.1:3130"),
            pair("ANTHROPIC_API_KEY", "set-by-the-model-gateway"),
        ];
        assert_eq!(model_variables(&[pair("TZ", "UTC")]), ours);
        for name in ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"] {
            assert_eq!(model_variables(&[pair(name, "theirs")]), []);
        }
    }

    #[test]
    fn times_are_told_in_one_unit() {
        let told: Vec<String> = [-5, 59, 60, 7_300, 200_000].map(ago).into();
        assert_eq!(told, ["0 s", "59 s", "1 min", "2 h", "2 days"]);
        assert_eq!((seconds(999), seconds(34_900)), ("999 ms".into(), "34 s".into()));
    }
}
