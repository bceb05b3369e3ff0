//! Environments and what setups leave.

use protocol::environment::EnvironmentSettings;
use protocol::ids::{EnvironmentId, LayerId};
use store::{NewSetupCache, SetupCacheFacts, StoreError};

use crate::Fixture;

fn named(name: &str) -> EnvironmentSettings {
    EnvironmentSettings { variables: "CANARY=v4lue".into(), ..EnvironmentSettings::named(name) }
}

fn id(number: u128) -> EnvironmentId {
    EnvironmentId::from_parts(1, number)
}

#[tokio::test]
async fn changes_know_what_they_change_and_one_is_the_default() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let first = store.create_environment(id(1), named("One"), None).await.unwrap().answer;
    let second = store.create_environment(id(2), named("two"), None).await.unwrap().answer;
    assert_eq!((first.default, second.default, second.revision), (true, false, 1));
    assert!(matches!(
        store.create_environment(id(3), named("TWO"), None).await,
        Err(StoreError::NameTaken(name)) if name == "TWO"
    ));
    let edited = store.edit_environment(id(2), 1, named("zwei")).await.unwrap();
    assert_eq!((edited.revision, edited.settings.name.as_str()), (2, "zwei"));
    let stale = store.edit_environment(id(2), 1, named("deux")).await;
    assert!(matches!(stale, Err(StoreError::Stale { given: 1, newest: 2 })));
    assert!(matches!(store.archive_environment(id(1), true).await, Err(StoreError::ArchivesDefault)));
    store.make_default_environment(id(2)).await.unwrap();
    store.archive_environment(id(1), true).await.unwrap();
    // The name is free now, and then taken for who comes back.
    store.create_environment(id(4), named("one"), None).await.unwrap();
    assert!(matches!(store.archive_environment(id(1), false).await, Err(StoreError::NameTaken(_))));
    assert!(matches!(store.edit_environment(id(1), 2, named("x")).await, Err(StoreError::Archived)));
    assert!(matches!(store.environment(id(9)).await, Err(StoreError::NoEnvironment(_))));

    let again = fixture.reopen();
    let names = |all: Vec<store::StoredEnvironment>| -> Vec<String> {
        all.into_iter().map(|environment| environment.settings.name).collect()
    };
    assert_eq!(names(again.store.environments(false).await.unwrap()), ["zwei", "one"]);
    assert_eq!(names(again.store.environments(true).await.unwrap()), ["One"]);
    let file = std::fs::read(again.dir.path().join("patchyard.db")).unwrap();
    assert!(!file.windows(6).any(|window| window == b"v4lue\""), "what was typed is sealed");
}

#[tokio::test]
async fn of_two_setups_with_one_key_the_first_stays_unless_it_is_replaced() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    store.create_environment(id(1), named("one"), None).await.unwrap();
    let layer = |number| LayerId::from_parts(1, number);
    let cache = |number: u128, key: &[u8]| NewSetupCache {
        layer: layer(number),
        environment: id(1),
        key: key.to_vec(),
        bytes: 7,
        facts: SetupCacheFacts {
            repository: "clock".into(),
            commit: "a".repeat(40),
            wrote_workspace: true,
            workspace_state: "s".into(),
            ran_script: true,
            duration_ms: 5,
        },
    };
    assert_eq!(store.put_setup_cache(cache(1, b"k"), None).await.unwrap(), None);
    assert_eq!(store.put_setup_cache(cache(2, b"k"), None).await.unwrap(), Some(layer(2)));
    assert_eq!(store.setup_cache(b"k".to_vec()).await.unwrap().unwrap().layer, layer(1));
    assert_eq!(store.put_setup_cache(cache(3, b"k"), Some(layer(1))).await.unwrap(), Some(layer(1)));
    assert_eq!(store.put_setup_cache(cache(4, b"l"), None).await.unwrap(), None);
    store.use_setup_cache(layer(3)).await.unwrap();
    let all = store.setup_caches(Some(id(1))).await.unwrap();
    let used = all.iter().find(|cache| cache.layer == layer(3)).unwrap();
    assert_eq!((all.len(), used.facts.clone()), (2, cache(3, b"k").facts));
    assert!(used.used_at >= used.created_at);
    assert_eq!(store.setup_caches(Some(id(2))).await.unwrap(), []);
    store.forget_setup_cache(layer(3)).await.unwrap();
    assert_eq!(store.setup_cache(b"k".to_vec()).await.unwrap(), None);
}
