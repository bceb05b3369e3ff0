//! Tokens, browser sessions, codes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use store::{Access, Clock, Store};

use crate::{Fixture, at};

#[tokio::test]
async fn a_code_is_good_once() {
    let fixture = Fixture::new();
    let code = fixture.store.grant(Access::Code, "login").await.unwrap();
    let token = fixture.store.exchange(&code, Access::Token, "laptop").await.unwrap().unwrap();
    assert_eq!(fixture.store.exchange(&code, Access::Token, "thief").await.unwrap(), None);
    let identity = fixture.store.identify(Access::Token, &token).await.unwrap().unwrap();
    assert_eq!(identity.name, "laptop");
    assert_eq!(fixture.store.identify(Access::Browser, &token).await.unwrap(), None);
    fixture.store.revoke(&token).await.unwrap();
    assert_eq!(fixture.store.identify(Access::Token, &token).await.unwrap(), None);
}

#[tokio::test]
async fn a_code_and_a_browser_session_end_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_790_000_000));
    let clock = {
        let now = Arc::clone(&now);
        Clock::new(move || at(now.load(Ordering::SeqCst)))
    };
    let store = Store::open(dir.path(), clock).unwrap();
    let code = store.grant(Access::Code, "login").await.unwrap();
    let browser = store.grant(Access::Browser, "browser").await.unwrap();
    assert!(store.identify(Access::Browser, &browser).await.unwrap().is_some());
    now.fetch_add(3601, Ordering::SeqCst);
    assert_eq!(store.exchange(&code, Access::Browser, "late").await.unwrap(), None);
    now.fetch_add(31 * 24 * 3600, Ordering::SeqCst);
    assert_eq!(store.identify(Access::Browser, &browser).await.unwrap(), None);
}
