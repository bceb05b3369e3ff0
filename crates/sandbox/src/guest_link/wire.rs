//! Frames on a socket.

use std::io;

use protocol::guest::{FrameError, FromGuest, decode, frame_length};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("its connection ended ({0})")]
    Socket(#[from] io::Error),
    #[error("it sent {0}")]
    Frame(#[from] FrameError),
    #[error("it broke the rules: {0}")]
    Rules(&'static str),
}

/// The next message.
pub(super) async fn receive(reader: &mut (impl AsyncRead + Unpin)) -> Result<FromGuest, LinkError> {
    let mut header = [0; 4];
    reader.read_exact(&mut header).await?;
    let mut content = vec![0; frame_length(header)?];
    reader.read_exact(&mut content).await?;
    Ok(decode(&content)?)
}
