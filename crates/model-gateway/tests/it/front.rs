//! The front for agents in sandboxes, without a sandbox.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use model_gateway::front::{Account, Allowed, ModelDoor, ModelGateway};
use model_gateway::{Auth, ModelConfig, Secret};
use protocol::usage::Usage;
use serde_json::{Value, json};
use testkit::model::{Gate, Upstream};

/// What was used, or a book that nobody can write in.
#[derive(Default)]
struct Book(Mutex<Vec<Usage>>, bool);

#[async_trait]
impl Account for Book {
    async fn used(&self) -> Result<u64, String> {
        Ok(self.0.lock().unwrap().iter().map(|usage| usage.output_tokens).sum())
    }

    async fn record(&self, _: String, usage: Usage) -> Result<(), String> {
        if self.1 {
            return Err("the disk is full".into());
        }
        self.0.lock().unwrap().push(usage);
        Ok(())
    }
}

fn door(base_url: &str, book: &Arc<Book>) -> ModelDoor {
    let config = ModelConfig::new(base_url, Auth::Bearer(Secret::new("sk-0123456789abcdef")), "m");
    let gateway = ModelGateway::new(Some(&config), Allowed::default(), Some(100)).unwrap();
    assert!(gateway.has_model());
    gateway.door(Arc::clone(book) as Arc<dyn Account>)
}

fn messages(body: impl Into<Body>) -> Request {
    Request::post("/v1/messages").body(body.into()).unwrap()
}

fn asked(model: &str, stream: bool) -> Request {
    messages(json!({ "model": model, "stream": stream, "messages": [] }).to_string())
}

/// Status and words of an answer.
async fn answered(door: &ModelDoor, request: Request) -> (u16, String) {
    let answer = door.answer(request).await;
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn kind(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["error"]["type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn so_many_requests_are_under_way_and_their_places_come_back() {
    let gate = Gate::closed();
    let upstream = Upstream::start(&gate).await;
    let door = door(upstream.base_url(), &Arc::default());
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(door.answer(asked("held", true)).await);
    }
    let (status, body) = answered(&door, asked("plain", false)).await;
    assert_eq!((status, kind(&body).as_str()), (429, "rate_limit_error"));
    gate.open();
    for answer in held {
        let text = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        assert!(text.ends_with(b"{\"type\":\"message_stop\"}\n\n"));
    }
    // A place is free a moment after its answer is over.
    while answered(&door, Request::get("/v1/models").body(Body::empty()).unwrap()).await.0 == 429 {
        tokio::task::yield_now().await;
    }
    let last = upstream.requests().pop().unwrap();
    assert_eq!(
        (last.line.as_str(), last.headers["authorization"].as_bytes()),
        ("GET /v1/models", &b"Bearer sk-0123456789abcdef"[..])
    );
}

#[tokio::test]
async fn bodies_of_a_sandbox_share_a_room_of_64_mib() {
    let upstream = Upstream::start(&Gate::closed()).await;
    let door = Arc::new(door(upstream.base_url(), &Arc::default()));
    // Two that never end take the whole room between them.
    let mib = || futures::stream::iter((0..32).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024 * 1024])));
    let (taken, mut is_taken) = tokio::sync::mpsc::unbounded_channel();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let (door, taken) = (Arc::clone(&door), taken.clone());
        let rest = futures::stream::once(async move {
            taken.send(()).unwrap();
            std::future::pending::<std::io::Result<Vec<u8>>>().await
        });
        let body = Body::from_stream(futures::StreamExt::chain(mib(), rest));
        waiting.push(tokio::spawn(async move { door.answer(messages(body)).await }));
    }
    for _ in 0..2 {
        is_taken.recv().await.unwrap();
    }
    assert_eq!(answered(&door, asked("plain", false)).await.0, 429);
    for task in waiting {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!(answered(&door, asked("plain", false)).await.0, 200, "the room came back");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn without_an_endpoint_or_a_book_the_answer_is_an_error_in_words() {
    let nowhere = door("http://127.0.0.1:1", &Arc::default());
    let (status, body) = answered(&nowhere, asked("plain", false)).await;
    assert_eq!((status, kind(&body).as_str()), (502, "api_error"));
    assert!(!body.contains("127.0.0.1"), "{body}");

    let none = ModelGateway::new(None, Allowed::default(), None).unwrap();
    let none = none.door(Arc::new(Book::default()));
    let (status, body) = answered(&none, asked("plain", false)).await;
    assert_eq!((status, kind(&body).as_str()), (403, "permission_error"));
    assert!(body.contains("ANTHROPIC_API_KEY"), "{body}");

    let upstream = Upstream::start(&Gate::closed()).await;
    let full = door(upstream.base_url(), &Arc::new(Book(Mutex::default(), true)));
    let (status, body) = answered(&full, asked("plain", false)).await;
    assert_eq!((status, kind(&body).as_str()), (503, "api_error"));
    // A stream whose end cannot be counted does not end well.
    let stream = full.answer(asked("plain", true)).await;
    assert_eq!(stream.status(), 200);
    assert!(to_bytes(stream.into_body(), usize::MAX).await.is_err());
}
