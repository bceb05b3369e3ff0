//! A client that does not give up: it asks again while the server is away.

use std::time::{Duration, Instant};

use protocol::api::Upload;
use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::status::SessionStatus;
use protocol::view::SessionView;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use testkit::harness::{Repo, TestServer};
use ulid::Ulid;

/// How long a killed process may take to be back and answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer that is not the server's own trouble.
pub(crate) async fn insist(request: impl Fn() -> RequestBuilder) -> (u16, String) {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = match request().send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                response.text().await.map(|text| (status, text)).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok((status, text)) if status < 500 => return (status, text),
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes a session. Who gets no answer asks again with the same key, and gets the same session. An upload
/// that a dying server had taken already, without a session to show for it, is made again.
pub(crate) async fn create(server: &TestServer, repo: &Repo, prompt: &str) -> SessionId {
    loop {
        let upload = || server.request(Method::POST, "/uploads").body(repo.bundle());
        let (status, text) = insist(upload).await;
        assert_eq!(status, 201, "{text}");
        let Upload { upload, .. } = serde_json::from_str(&text).unwrap();
        let key = Ulid::generate().to_string();
        let source = json!({ "type": "bundle", "upload": upload, "name": repo.name(), "branch": "main" });
        let body = json!({ "prompt": prompt, "repository": source });
        let request =
            || server.request(Method::POST, "/sessions").json(&body).header("idempotency-key", &key);
        match insist(request).await {
            (200 | 201, text) => return serde_json::from_str::<SessionView>(&text).unwrap().id,
            (400, text) if text.contains("upload_not_found") => {}
            (status, text) => panic!("{status}: {text}"),
        }
    }
}

/// Waits until so many turns are over and the session rests. A sandbox whose making was cut off fails its
/// session, in words, and keeps the prompt: whoever asked tries again.
pub(crate) async fn settle(server: &TestServer, session: SessionId, turns: usize) {
    let is_end = |event: &&Event| matches!(event.body, EventBody::TurnEnded(_));
    let has_ended = |events: &[Event]| events.iter().filter(is_end).count() >= turns;
    let fails = |events: &[Event]| {
        let failed = |event: &&Event| matches!(&event.body, EventBody::SessionStatus(change) if change.status == SessionStatus::Failed);
        events.iter().filter(failed).count()
    };
    for tries in 0..5 {
        let events = server.until(session, |events| has_ended(events) || fails(events) > tries).await;
        if has_ended(&events) {
            server.until_rest(session, turns).await;
            return;
        }
        let path = format!("/sessions/{session}/retry");
        let (status, text) = insist(|| server.request(Method::POST, &path)).await;
        assert!(status < 300 || status == 409, "{status}: {text}");
    }
    panic!("{session} cannot be made");
}

/// Takes a session away; it may be gone already when the answer was lost.
pub(crate) async fn delete(server: &TestServer, session: SessionId) {
    let path = format!("/sessions/{session}");
    let (status, text) = insist(|| server.request(Method::DELETE, &path)).await;
    assert!(matches!(status, 204 | 404), "{status}: {text}");
}
