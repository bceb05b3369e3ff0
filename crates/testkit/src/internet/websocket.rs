//! The WebSocket of a host: says every message back, and to `token` the field `X-Token` of its request.

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

/// Whether a request asks for one.
pub(crate) fn is_asked_for(request: &str) -> bool {
    field(request, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Answers, and goes on with what comes until the other side ends it.
pub(crate) async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) {
    let accept = derive_accept_key(field(request, "sec-websocket-key").unwrap_or_default().as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let said = match text.as_str() {
            "token" => field(request, "x-token").unwrap_or_default().to_owned(),
            text => format!("{text} back"),
        };
        if socket.send(Message::text(said)).await.is_err() {
            return;
        }
    }
}

fn field<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
