//! Appending, reading, subscribing.

use protocol::view::SessionView;
use store::{IdempotencyKey, Notice, StoreError};

use crate::{Fixture, created, error, new_id, prompt_id, waiting};

#[tokio::test]
async fn a_log_is_dense_from_one_and_folds_to_the_stored_view() {
    let fixture = Fixture::new();
    let id = fixture.session().await;
    let epoch = fixture.store.claim(id).await.unwrap();
    let appends = (0..200).map(|n| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.append(id, epoch, None, None, vec![error(&n.to_string())]).await })
    });
    let mut seqs = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        seqs.push(append.await.unwrap().unwrap());
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (3..=202).collect::<Vec<_>>());

    let events = fixture.store.all_events(id).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=202).collect::<Vec<_>>());
    assert_eq!(SessionView::fold(&events).unwrap(), fixture.store.session(id).await.unwrap());
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart() {
    let fixture = Fixture::new();
    let id = fixture.session().await;
    let epoch = fixture.store.claim(id).await.unwrap();
    let long = "x".repeat(100_000);
    fixture.store.append(id, epoch, None, Some(2), vec![error("short"), error(&long)]).await.unwrap();
    let before = fixture.store.all_events(id).await.unwrap();

    let fixture = fixture.reopen();
    assert_eq!(fixture.store.all_events(id).await.unwrap(), before);
    assert_eq!(fixture.store.session(id).await.unwrap().last_seq, 4);
    assert!(fixture.store.claim(id).await.unwrap() > epoch);
}

#[tokio::test]
async fn an_older_writer_is_fenced_and_its_neighbours_are_not() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.session().await, fixture.session().await);
    let (earlier, later) = (fixture.store.clone(), fixture.store.clone());
    let old = earlier.claim(one).await.unwrap();
    let new = later.claim(one).await.unwrap();
    let other = fixture.store.claim(two).await.unwrap();
    let (stale, fresh, neighbour) = tokio::join!(
        earlier.append(one, old, None, None, vec![error("stale")]),
        later.append(one, new, None, None, vec![error("fresh")]),
        fixture.store.append(two, other, None, None, vec![error("neighbour")]),
    );
    assert!(matches!(stale, Err(StoreError::Fenced { newest, .. }) if newest == new), "{stale:?}");
    assert_eq!((fresh.unwrap(), neighbour.unwrap()), (3, 3));
    let queued = earlier.queue_prompt(one, old, waiting("too late"), None).await;
    assert!(matches!(queued, Err(StoreError::Fenced { .. })), "{queued:?}");
    assert_eq!(fixture.store.fenced_writes(), 2);
    assert_eq!(fixture.store.session(one).await.unwrap().queued_prompts, 1, "nothing of it is there");
}

#[tokio::test]
async fn a_subscriber_hears_of_an_event_before_its_writer_does() {
    let fixture = Fixture::new();
    let id = fixture.session().await;
    let epoch = fixture.store.claim(id).await.unwrap();
    let mut subscription = fixture.store.subscribe(id);
    fixture.store.append(id, epoch, None, None, vec![error("now")]).await.unwrap();
    let Ok(Some(Notice::Appended { events, view })) = subscription.next().await else { panic!("no notice") };
    assert_eq!((events[0].seq, view.last_seq), (3, 3));
}

#[tokio::test]
async fn a_slow_subscriber_is_told_to_read_again() {
    let fixture = Fixture::new();
    let id = fixture.session().await;
    let epoch = fixture.store.claim(id).await.unwrap();
    let mut slow = fixture.store.subscribe(id);
    for n in 0..400 {
        fixture.store.append(id, epoch, None, None, vec![error(&n.to_string())]).await.unwrap();
    }
    assert!(matches!(slow.next().await, Ok(None)), "the gap is announced");
}

#[tokio::test]
async fn a_key_accepts_a_request_once_and_refuses_another_one() {
    let fixture = Fixture::new();
    let key = |content: &str| {
        Some(IdempotencyKey {
            scope: "create".into(),
            key: "k1".into(),
            fingerprint: content.as_bytes().to_vec(),
        })
    };
    let make = |content| {
        fixture.store.create_session(new_id(), created(), prompt_id(), "fix it".into(), key(content))
    };
    let first = make("a").await.unwrap();
    let again = make("a").await.unwrap();
    assert!(!first.repeated && again.repeated);
    assert_eq!(first.answer.id, again.answer.id);
    assert!(matches!(make("b").await, Err(StoreError::KeyReused)));
    assert_eq!(fixture.store.sessions(false, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_eleventh_waiting_prompt_is_refused() {
    let fixture = Fixture::new();
    let id = fixture.session().await;
    let epoch = fixture.store.claim(id).await.unwrap();
    for _ in 0..9 {
        fixture.store.queue_prompt(id, epoch, waiting("more"), None).await.unwrap();
    }
    let refused = fixture.store.queue_prompt(id, epoch, waiting("one too many"), None).await;
    assert!(matches!(refused, Err(StoreError::QueueFull(10))), "{refused:?}");
    assert_eq!(fixture.store.session(id).await.unwrap().queued_prompts, 10);
}

#[tokio::test]
async fn a_deleted_session_leaves_nothing_to_read() {
    let fixture = Fixture::new();
    let id = fixture.session().await;
    let epoch = fixture.store.claim(id).await.unwrap();
    let blob = fixture.store.put_blob(id, b"output".to_vec(), false).await.unwrap();
    assert_eq!(fixture.store.blob(id, blob.blob.clone()).await.unwrap(), b"output");
    fixture.store.delete_session(id).await.unwrap();
    assert!(matches!(fixture.store.session(id).await, Err(StoreError::NoSession(_))));
    assert!(matches!(fixture.store.blob(id, blob.blob).await, Err(StoreError::NoSession(_))));
    let late = fixture.store.append(id, epoch, None, None, vec![error("late")]).await;
    assert!(matches!(late, Err(StoreError::NoSession(_))), "{late:?}");
    fixture.store.erase(id).await.unwrap();
    assert!(!fixture.dir.path().join("blobs").join(id.to_string()).exists());
}

#[tokio::test]
async fn what_a_crash_left_of_an_unknown_session_is_swept() {
    let fixture = Fixture::new();
    let known = fixture.session().await;
    fixture.store.put_blob(known, b"kept".to_vec(), false).await.unwrap();
    let blobs = fixture.dir.path().join("blobs");
    let unknown = blobs.join(new_id().to_string());
    std::fs::create_dir(&unknown).unwrap();
    std::fs::write(unknown.join("half"), "of a blob").unwrap();
    fixture.store.sweep().await.unwrap();
    assert!(!unknown.exists() && blobs.join(known.to_string()).exists());
}

#[tokio::test]
async fn content_is_sealed_on_disk() {
    let fixture = Fixture::new();
    let id = fixture.session().await;
    let epoch = fixture.store.claim(id).await.unwrap();
    fixture.store.append(id, epoch, None, None, vec![error("canary-in-a-row")]).await.unwrap();
    fixture.store.put_blob(id, b"canary-in-a-blob".to_vec(), false).await.unwrap();
    let mut found = Vec::new();
    let mut dirs = vec![fixture.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                for canary in [&b"canary"[..], b"Fix the clock", b"fix it"] {
                    if bytes.windows(canary.len()).any(|window| window == canary) {
                        found.push(path.clone());
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "content in the clear: {found:?}");
}
