//! The client against servers that are not as they should be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use client::Client;
use protocol::ids::SessionId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn session() -> SessionId {
    SessionId::from(ulid::Ulid::generate())
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_not_asked_in_a_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
    let mut follow = client.follow(session(), 0);
    let following = tokio::spawn(async move { follow.next().await.map(drop) });
    let mut first = None;
    for _ in 0..4 {
        let (mut stream, _) = listener.accept().await.unwrap();
        first.get_or_insert_with(Instant::now);
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    assert!(first.unwrap().elapsed() >= Duration::from_millis(700), "{:?}", first.unwrap().elapsed());
    following.abort();
}

#[tokio::test]
async fn who_is_away_is_named_once_with_the_cause_first() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = format!("http://{free}");
    let words = Client::new(&server, None).unwrap().session(session()).await.unwrap_err().to_string();
    assert_eq!(words.matches(&server).count(), 1, "{words}");
    let (cause, next) = (words.find("refused").unwrap(), words.find("patchyard serve").unwrap());
    assert!(cause < next, "{words}");
}
