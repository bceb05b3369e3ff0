//! What is left of a deleted session in the data directory: nothing.
//!
//! The scanner is held against a store that seals nothing, where it has to find everything.

use std::path::{Path, PathBuf};

use store::{Clock, Store};

use crate::{Fixture, created, error, new_id, prompt_id, waiting};

const CANARY: &str = "canary-4f1d7c0e93";

/// The files below a folder that hold these bytes, or are named by them.
fn holding(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        let named = path.file_name().is_some_and(|name| name.as_encoded_bytes() == bytes);
        if named || content.windows(bytes.len()).any(|window| window == bytes) {
            found.push(path);
        }
    }
    found
}

/// Plants the canary: in a prompt, in events short and long, and in a blob.
async fn plant(store: &Store) -> protocol::ids::SessionId {
    let id = new_id();
    let mut first = created();
    first.title = format!("about {CANARY}");
    first.branch = format!("patchyard/{CANARY}");
    store.create_session(id, first, prompt_id(), format!("say {CANARY}"), None).await.unwrap();
    let epoch = store.claim(id).await.unwrap();
    store.queue_prompt(id, epoch, waiting(CANARY), None).await.unwrap();
    for number in 0..40 {
        let long = format!("{CANARY} {number} ").repeat(if number % 8 == 0 { 3_000 } else { 30 });
        store.append(id, epoch, None, None, vec![error(&long)]).await.unwrap();
    }
    store.put_blob(id, CANARY.repeat(1_000).into_bytes(), false).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scanner_finds_what_is_not_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_unsealed(dir.path(), Clock::system()).unwrap();
    plant(&store).await;
    let found = holding(dir.path(), CANARY.as_bytes());
    let is_there = |part: &str| found.iter().any(|path| path.to_string_lossy().contains(part));
    assert!(is_there("patchyard.db") && is_there("blobs"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_content_nor_key_of_a_deleted_session_is_left() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    // Others around it, so that pages are shared, split and joined.
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(fixture.session().await);
    }
    let id = plant(&fixture.store).await;
    for _ in 0..20 {
        others.push(fixture.session().await);
    }
    assert_eq!(holding(dir, CANARY.as_bytes()), Vec::<PathBuf>::new(), "sealed while it lives");
    let key = sealed_key(dir, &id.to_string());
    assert!(!holding(dir, &key).is_empty(), "the key is there while the session is");
    for other in others.iter().step_by(3) {
        fixture.store.delete_session(*other).await.unwrap();
    }

    fixture.store.delete_session(id).await.unwrap();
    fixture.store.erase(id).await.unwrap();
    assert_eq!(holding(dir, &key), Vec::<PathBuf>::new(), "neither in the database nor in its log");
    assert_eq!(holding(dir, id.to_string().as_bytes()), Vec::<PathBuf>::new(), "not even its name");
    assert!(!dir.join("blobs").join(id.to_string()).exists());
    assert!(fixture.store.session(id).await.is_err());
    assert!(fixture.store.put_blob(id, b"late".to_vec(), false).await.is_err(), "nothing can be written");
    for other in others.iter().skip(1).step_by(3) {
        assert_eq!(fixture.store.all_events(*other).await.unwrap().len(), 2, "others are whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_of_a_deletion_goes_with_the_next_start() {
    let fixture = Fixture::new();
    let id = plant(&fixture.store).await;
    let key = sealed_key(fixture.dir.path(), &id.to_string());
    // As far as the transaction, and not further.
    fixture.store.delete_session(id).await.unwrap();
    assert!(fixture.dir.path().join("blobs").join(id.to_string()).exists());
    let fixture = fixture.reopen();
    fixture.store.sweep().await.unwrap();
    let dir = fixture.dir.path();
    assert_eq!(holding(dir, &key), Vec::<PathBuf>::new());
    assert_eq!(holding(dir, id.to_string().as_bytes()), Vec::<PathBuf>::new());
    assert!(!dir.join("blobs").join(id.to_string()).exists());
}

/// The session's data key as its row has it.
fn sealed_key(dir: &Path, id: &str) -> Vec<u8> {
    let connection = rusqlite::Connection::open(dir.join("patchyard.db")).unwrap();
    connection.query_row("SELECT data_key FROM sessions WHERE id = ?1", [id], |row| row.get(0)).unwrap()
}
