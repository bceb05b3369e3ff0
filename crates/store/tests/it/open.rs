//! Opening data directories, good and bad.

use rusqlite::Connection;
use store::{Clock, Store, StoreError};

use crate::Fixture;

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let fixture = Fixture::new();
    let second = Store::open(fixture.dir.path(), Clock::system());
    assert!(matches!(second, Err(StoreError::InUse { .. })));
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("patchyard.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let Err(error) = Store::open(dir.path(), Clock::system()) else { panic!("opened") };
    assert!(error.to_string().contains("newer patchyard (schema 99"), "{error}");
    let version: i64 =
        Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[tokio::test]
async fn another_master_key_opens_nothing() {
    let fixture = Fixture::new();
    let id = fixture.session().await;
    std::fs::write(fixture.dir.path().join("master.key"), [7; 32]).unwrap();
    let fixture = fixture.reopen();
    assert!(matches!(fixture.store.session(id).await, Err(StoreError::Unsealable(_))));
}
