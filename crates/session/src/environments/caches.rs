//! What setups leave for later sessions.
//!
//! ```text
//!  key = image · script · variables · network · nesting · repository · format
//!
//!  start: key known? ─ same commit ──────────────▶ on the layer
//!                    ─ another, nothing written ─▶ on the layer, then to the commit
//!                    ─ another, and written ─────▶ anew, and this one replaces it
//!  end of a setup:   quiet? ─▶ sealed ─▶ remembered, unless somebody was first
//! ```
//!
//! A layer serves for seven days. The first start after that has it once more, while it is built anew in
//! the background. The least recently used go when there are too many, or they are too large together.

use std::collections::HashSet;
use std::time::Duration;

use protocol::environment::EnvironmentSettings;
use protocol::ids::{EnvironmentId, LayerId};
use protocol::sandbox_host::SavedLayer;
use sha2::{Digest as _, Sha256};
use store::{NewSetupCache, StoredSetupCache};

use crate::registry::Shared;

/// Changes when what is kept is laid out in another way.
const FORMAT: &str = "1";

/// A clone that took longer is worth keeping without any setup script.
pub(crate) const SLOW_CLONE: Duration = Duration::from_secs(1);

/// What may be kept of all setups of a server.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Layers.
    pub entries: usize,
    /// Bytes on the host's disk.
    pub bytes: u64,
    /// How long one serves before it is built anew.
    pub valid: Duration,
}

impl Default for CacheLimits {
    /// 50 layers, 20 GB, seven days.
    fn default() -> Self {
        Self { entries: 50, bytes: 20_000_000_000, valid: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// The settings that the content of a layer depends on.
pub(super) fn depends_on(settings: &EnvironmentSettings) -> String {
    let EnvironmentSettings {
        image,
        network,
        rendering,
        variables,
        secrets,
        setup_script,
        nested_containers,
        cache_setup,
        ..
    } = settings;
    serde_json::json!([
        image,
        network,
        rendering,
        variables,
        secrets,
        setup_script,
        nested_containers,
        cache_setup
    ])
    .to_string()
}

/// Everything else that it depends on.
pub(crate) struct Ground<'a> {
    pub(crate) environment: EnvironmentId,
    pub(crate) settings: &'a EnvironmentSettings,
    /// Variables of the server, besides those of the environment.
    pub(crate) variables: &'a [(String, String)],
    /// What the image is, not only its name.
    pub(crate) image_id: &'a str,
    /// Which repository it is.
    pub(crate) repository: &'a str,
    /// Where it is inside.
    pub(crate) workspace: &'a str,
}

/// The digest that finds a layer.
pub(crate) fn key(ground: &Ground<'_>) -> Vec<u8> {
    let mut hasher = Sha256::new();
    let (environment, settings) = (ground.environment.to_string(), depends_on(ground.settings));
    let variables = serde_json::json!(ground.variables).to_string();
    let parts =
        [FORMAT, &environment, &settings, &variables, ground.image_id, ground.repository, ground.workspace];
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_vec()
}

/// What is to be done with a layer that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The session begins with it; an old one is built anew meanwhile.
    Use { cache: StoredSetupCache, old: bool },
    /// It is of no use for this commit; what is built now replaces it.
    Replace(LayerId),
    /// There is none.
    Nothing,
}

/// Looks for the layer of a key.
pub(crate) async fn find(shared: &Shared, key: &[u8], commit: &str) -> Found {
    let found = match shared.store.setup_cache(key.to_vec()).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "what was kept of setups could not be looked at");
            None
        }
    };
    let Some(cache) = found else { return Found::Nothing };
    if cache.facts.commit != commit && cache.facts.wrote_workspace {
        return Found::Replace(cache.layer);
    }
    let age = shared.store.clock().now().duration_since(cache.created_at);
    let old = age.unsigned_abs() > shared.config.caches.valid;
    Found::Use { cache, old }
}

/// Remembers a sealed layer, and drops what is not needed any more. A layer of settings that were
/// changed meanwhile, or of an environment that was archived, is not remembered.
pub(crate) async fn keep(
    shared: &Shared,
    new: NewSetupCache,
    replaces: Option<LayerId>,
    built_with: &EnvironmentSettings,
) -> Result<(), String> {
    let layer = new.layer;
    let current = shared.store.environment(new.environment).await;
    let fits = current.is_ok_and(|now| !now.archived && depends_on(&now.settings) == depends_on(built_with));
    if !fits {
        drop_layer(shared, layer).await;
        return Err("the environment was changed meanwhile".into());
    }
    match shared.store.put_setup_cache(new, replaces).await {
        Ok(None) => {}
        Ok(Some(surplus)) => drop_layer(shared, surplus).await,
        Err(error) => {
            drop_layer(shared, layer).await;
            return Err(error.to_string());
        }
    }
    evict(shared).await;
    Ok(())
}

/// A session began with it.
pub(crate) async fn used(shared: &Shared, layer: LayerId) {
    if let Err(error) = shared.store.use_setup_cache(layer).await {
        tracing::warn!(%layer, %error, "the use of a kept setup could not be noted");
    }
}

/// Forgets a layer and removes it; sandboxes that stand on it keep it.
pub(crate) async fn forget(shared: &Shared, layer: LayerId) {
    if let Err(error) = shared.store.forget_setup_cache(layer).await {
        tracing::warn!(%layer, %error, "a kept setup could not be forgotten");
    }
    drop_layer(shared, layer).await;
}

/// Forgets all of one environment, or all.
pub(crate) async fn drop_all(shared: &Shared, environment: Option<EnvironmentId>) {
    match shared.store.setup_caches(environment).await {
        Ok(caches) => {
            for cache in caches {
                forget(shared, cache.layer).await;
            }
        }
        Err(error) => tracing::warn!(%error, "kept setups could not be listed"),
    }
}

/// Puts right what a crash left: layers that nobody remembers, and memories without a layer. To be
/// called before sessions start, who make layers before they are remembered.
pub(crate) async fn sweep(shared: &Shared, of_sessions: &HashSet<LayerId>) {
    let layers = match shared.host.layers().await {
        Ok(layers) => layers,
        Err(error) => {
            tracing::warn!(%error, "the kept layers could not be listed");
            return;
        }
    };
    let known = match shared.store.setup_caches(None).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "kept setups could not be listed");
            return;
        }
    };
    let (orphans, empty) = difference(&layers, &known);
    // The newest first: they stand on the older ones.
    for layer in orphans.into_iter().rev().filter(|layer| !of_sessions.contains(layer)) {
        drop_layer(shared, layer).await;
    }
    for layer in empty {
        forget(shared, layer).await;
    }
    evict(shared).await;
}

/// Layers without a memory, the oldest first, and memories without a layer.
fn difference(layers: &[SavedLayer], known: &[StoredSetupCache]) -> (Vec<LayerId>, Vec<LayerId>) {
    let there: HashSet<LayerId> = layers.iter().map(|saved| saved.layer).collect();
    let remembered: HashSet<LayerId> = known.iter().map(|cache| cache.layer).collect();
    let orphans = layers.iter().map(|saved| saved.layer).filter(|layer| !remembered.contains(layer));
    let mut orphans: Vec<LayerId> = orphans.collect();
    // They come as a folder lists them.
    orphans.sort_unstable();
    let empty = known.iter().map(|cache| cache.layer).filter(|layer| !there.contains(layer));
    (orphans, empty.collect())
}

async fn evict(shared: &Shared) {
    match shared.store.setup_caches(None).await {
        Ok(caches) => {
            for layer in surplus(&caches, shared.config.caches) {
                forget(shared, layer).await;
            }
        }
        Err(error) => tracing::warn!(%error, "kept setups could not be listed"),
    }
}

/// What goes, of caches that stand the last used first.
fn surplus(caches: &[StoredSetupCache], limits: CacheLimits) -> Vec<LayerId> {
    let mut bytes = 0u64;
    let mut gone = Vec::new();
    for (index, cache) in caches.iter().enumerate() {
        bytes = bytes.saturating_add(cache.bytes);
        if index >= limits.entries || bytes > limits.bytes {
            gone.push(cache.layer);
            bytes = bytes.saturating_sub(cache.bytes);
        }
    }
    gone
}

/// Removes a layer.
pub(crate) async fn drop_layer(shared: &Shared, layer: LayerId) {
    if let Err(error) = shared.host.drop_layer(layer).await {
        tracing::warn!(%layer, %error, "a kept layer could not be removed; the next start tries again");
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use store::SetupCacheFacts;

    use super::*;

    fn cache(number: u128, bytes: u64) -> StoredSetupCache {
        let facts = SetupCacheFacts {
            repository: "clock".into(),
            commit: "a".repeat(40),
            wrote_workspace: false,
            workspace_state: String::new(),
            ran_script: true,
            duration_ms: 1,
        };
        StoredSetupCache {
            layer: LayerId::from_parts(1, number),
            environment: EnvironmentId::from_parts(1, 1),
            bytes,
            created_at: Timestamp::UNIX_EPOCH,
            used_at: Timestamp::UNIX_EPOCH,
            facts,
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let caches = [cache(1, 40), cache(2, 70), cache(3, 50), cache(4, 10)];
        let gone = |entries, bytes| -> Vec<LayerId> {
            surplus(&caches, CacheLimits { entries, bytes, ..CacheLimits::default() })
        };
        assert_eq!(gone(4, 1000), []);
        assert_eq!(gone(2, 1000), [caches[2].layer, caches[3].layer]);
        assert_eq!(gone(4, 100), [caches[1].layer]);
        assert_eq!(gone(4, 0), caches.iter().map(|cache| cache.layer).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_crash_left_is_found_on_both_sides() {
        let layers: Vec<SavedLayer> =
            [4, 2, 1].map(|n| SavedLayer { layer: LayerId::from_parts(1, n), bytes: 1 }).into();
        let (orphans, empty) = difference(&layers, &[cache(2, 1), cache(3, 1)]);
        let in_order = [1, 4].map(|n| LayerId::from_parts(1, n)).to_vec();
        assert_eq!((orphans, empty), (in_order, vec![LayerId::from_parts(1, 3)]));
    }

    #[test]
    fn a_key_depends_on_everything_that_the_content_does() {
        let settings = EnvironmentSettings::named("work");
        let with = |change: &dyn Fn(&mut EnvironmentSettings), image_id, repository, workspace| {
            let mut settings = settings.clone();
            change(&mut settings);
            let environment = EnvironmentId::from_parts(1, 1);
            key(&Ground { environment, settings: &settings, variables: &[], image_id, repository, workspace })
        };
        let plain = with(&|_| {}, "1", "url", "/w");
        assert_eq!(plain, with(&|settings| settings.name = "other".into(), "1", "url", "/w"));
        assert_eq!(plain, with(&|settings| settings.limits.pids = 99, "1", "url", "/w"));
        let others = [
            with(&|_| {}, "2", "url", "/w"),
            with(&|_| {}, "1", "ur", "l/w"),
            with(&|settings| settings.setup_script = "true".into(), "1", "url", "/w"),
            with(&|settings| settings.variables = "A=1".into(), "1", "url", "/w"),
            with(&|settings| settings.nested_containers = true, "1", "url", "/w"),
            with(
                &|settings| settings.network = protocol::environment::NetworkLevel::None {},
                "1",
                "url",
                "/w",
            ),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(plain, *other, "{index}");
        }
    }
}
