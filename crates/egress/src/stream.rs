//! A connection of a sandbox, and what of it was read already.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::relay::Counts;

/// How long the other side may take to read what it was told last.
const LINGER: Duration = Duration::from_secs(2);

/// Writes something; whether it could be.
pub(crate) async fn tell(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok()
}

/// Writes something and ends the connection. Who does not read it loses only that.
pub(crate) async fn last_words(stream: &mut TcpStream, bytes: &[u8]) {
    if tell(stream, bytes).await {
        end(stream).await;
    }
}

/// Ends a connection so that what was written arrives: whatever still comes is read and thrown away. Closed
/// with something unread, a connection takes what it was told along.
pub(crate) async fn end(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let mut buffer = vec![0; 16 * 1024];
    let rest = async { while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// A connection whose beginning is read once more, by somebody else, with its bytes counted.
#[derive(Debug)]
pub(crate) struct Replayed {
    stream: TcpStream,
    read: Vec<u8>,
    counts: Arc<Counts>,
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.read.is_empty() {
            let part = this.read.len().min(buffer.remaining());
            buffer.put_slice(&this.read[..part]);
            this.read.drain(..part);
            this.counts.add_up(part)?;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.counts.add_up(buffer.filled().len() - before)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.counts.add_down(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A connection whose beginning was read.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) stream: TcpStream,
    /// Read, and passed on to nobody yet.
    pub(crate) read: Vec<u8>,
    /// By when its beginning has to be whole.
    until: Instant,
}

impl Begun {
    /// One of which nothing was read; its beginning has to come within this time.
    pub(crate) fn new(stream: TcpStream, within: Duration) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream, read: Vec::new(), until: Instant::now() + within }
    }

    /// Gives it more time for its next beginning.
    pub(crate) fn extend(&mut self, within: Duration) {
        self.until = Instant::now() + within;
    }

    /// Reads some more; an error at the end of the stream, at the end of its time, and over the limit.
    pub(crate) async fn more(&mut self, limit: usize) -> io::Result<()> {
        let room = limit.saturating_sub(self.read.len());
        if room == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let before = self.read.len();
        self.read.resize(before + room.min(4096), 0);
        let outcome = timeout_at(self.until, self.stream.read(&mut self.read[before..])).await;
        let outcome = outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.read.truncate(before + outcome.as_ref().copied().unwrap_or(0));
        match outcome? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// For somebody who reads it from its beginning.
    pub(crate) fn replayed(self, counts: Arc<Counts>) -> Replayed {
        Replayed { stream: self.stream, read: self.read, counts }
    }

    /// Takes this much of what was read.
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.read.split_off(length);
        std::mem::replace(&mut self.read, rest)
    }
}
