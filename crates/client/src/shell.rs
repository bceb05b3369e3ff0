//! One look at a shell in a sandbox.

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use protocol::hands::TerminalSize;
use protocol::shell::{ShellControl, ShellNotice};
use reqwest::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::error::ClientError;

/// A WebSocket to a shell.
#[derive(Debug)]
pub struct ShellSocket {
    output: SplitStream<WebSocketStream<Upgraded>>,
    input: SplitSink<WebSocketStream<Upgraded>, Message>,
    server: String,
}

/// What comes from a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellFrame {
    /// Bytes for the terminal.
    Output(Bytes),
    /// Something about the shell.
    Notice(ShellNotice),
}

impl ShellSocket {
    pub(crate) async fn over(stream: Upgraded, server: &str) -> Self {
        let (input, output) = WebSocketStream::from_raw_socket(stream, Role::Client, None).await.split();
        Self { output, input, server: server.to_owned() }
    }

    /// The next thing; nothing when the server closed the socket.
    pub async fn next(&mut self) -> Result<Option<ShellFrame>, ClientError> {
        loop {
            match self.output.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(Some(ShellFrame::Output(bytes))),
                Some(Ok(Message::Text(text))) => {
                    // A notice of a newer server says nothing to us.
                    if let Ok(notice) = serde_json::from_str(&text) {
                        return Ok(Some(ShellFrame::Notice(notice)));
                    }
                }
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.broken(&error)),
            }
        }
    }

    /// Types.
    pub async fn send(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        let sent = self.input.send(Message::Binary(bytes.into())).await;
        sent.map_err(|error| self.broken(&error))
    }

    /// Says how large the terminal is.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), ClientError> {
        let text = serde_json::to_string(&ShellControl::Resize(size)).unwrap_or_default();
        let sent = self.input.send(Message::Text(text.into())).await;
        sent.map_err(|error| self.broken(&error))
    }

    /// Stops looking; the shell goes on.
    pub async fn detach(mut self) {
        let _ = self.input.send(Message::Close(None)).await;
    }

    fn broken(&self, error: &tokio_tungstenite::tungstenite::Error) -> ClientError {
        ClientError::Unreachable { server: self.server.clone(), cause: error.to_string() }
    }
}
