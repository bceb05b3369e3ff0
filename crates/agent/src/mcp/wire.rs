//! Bytes between a server and the protocol.
//!
//! ```text
//!   command in the sandbox ═ Pump (counts, keeps the last words, watches `kill`) ═ a stream of ours ═ protocol
//! ```
//!
//! A server that speaks on its standard streams is the command itself; one that speaks HTTP has a command per
//! connection that carries it out of the sandbox.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::hands::{ExecEvent, ExecSignal, Execution};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::names::plain;
use crate::tools::lock;

/// What a server may send between two of our requests. The protocol reads ahead, so that this is also the most
/// of one server's that we can come to hold.
const MAX_SAID: u64 = 64 * 1024 * 1024;

/// What is kept of standard error, to say why it ended.
const MAX_STDERR: usize = 8 * 1024;

/// Characters of its words that are passed on.
const MAX_WORDS: usize = 300;

/// Bytes that are carried at a time.
const BUFFER: usize = 64 * 1024;

/// How long a server whose input was closed has to end by itself.
const LAST_WORK: Duration = Duration::from_millis(500);

/// What is known of the bytes of one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wire {
    /// Cancelled to end it.
    pub(super) kill: CancellationToken,
    /// Cancelled when it has ended.
    pub(super) gone: CancellationToken,
    stderr: Arc<Mutex<Vec<u8>>>,
    said: Arc<AtomicU64>,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            kill: CancellationToken::new(),
            gone: CancellationToken::new(),
            stderr: Arc::default(),
            said: Arc::default(),
        }
    }

    /// Ends the server when it is dropped.
    pub(super) fn guard(&self) -> DropGuard {
        self.kill.clone().drop_guard()
    }

    /// A request of ours: it may answer as much again, and what it said before is not about this one.
    pub(super) fn ask(&self) {
        lock(&self.stderr).clear();
        self.said.store(0, Ordering::Relaxed);
    }

    /// The last thing that it said on standard error, or why it was ended.
    pub(super) fn last_words(&self) -> Option<String> {
        let bytes = lock(&self.stderr);
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(plain(line, MAX_WORDS))
    }

    /// Notes why something did not work, as if the server had said it.
    pub(super) fn note(&self, words: &str) {
        self.keep(format!("\n{words}\n").as_bytes());
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = lock(&self.stderr);
        kept.extend_from_slice(bytes);
        let surplus = kept.len().saturating_sub(MAX_STDERR);
        kept.drain(..surplus);
    }

    fn hears(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let said = self.said.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if said > MAX_SAID {
            self.note("it was ended because it sent more than 64 MB for one request");
        }
        said <= MAX_SAID
    }
}

/// Carries bytes between a command's standard streams and a stream of ours.
pub(super) struct Pump<S> {
    pub(super) execution: Box<dyn Execution>,
    pub(super) stream: S,
    pub(super) wire: Wire,
}

/// Why carrying ended.
enum Over {
    /// The command ended.
    Ended,
    /// Our side has nothing more to say.
    Closed,
    /// It is to be ended.
    Broken,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Pump<S> {
    /// Carries until one side is done, and sees to it that the command ends.
    pub(super) async fn run(mut self) {
        let kill = self.wire.kill.clone();
        // Around all of it: a server that does not read makes every write wait.
        let over = tokio::select! {
            biased;
            () = kill.cancelled() => Over::Broken,
            over = self.carry() => over,
        };
        if matches!(over, Over::Closed) {
            let _ = timeout(LAST_WORK, self.drain()).await;
        }
        if !matches!(over, Over::Ended) {
            let _ = self.execution.signal(ExecSignal::Kill).await;
        }
        let _ = self.stream.shutdown().await;
    }

    async fn carry(&mut self) -> Over {
        let mut buffer = vec![0; BUFFER];
        loop {
            tokio::select! {
                biased;
                read = self.stream.read(&mut buffer) => match read {
                    Ok(length) if length > 0 => {
                        // It may have said why it does not listen.
                        if self.execution.write_stdin(&buffer[..length]).await.is_err() {
                            return Over::Closed;
                        }
                    }
                    _ => return Over::Closed,
                },
                event = self.execution.next() => match event {
                    Ok(ExecEvent::Stdout(bytes)) => {
                        if !self.wire.hears(bytes.len()) {
                            self.wire.kill.cancel();
                            return Over::Broken;
                        }
                        if self.stream.write_all(&bytes).await.is_err() {
                            return Over::Closed;
                        }
                    }
                    Ok(ExecEvent::Stderr(bytes)) => self.wire.keep(&bytes),
                    Ok(ExecEvent::Exited(_)) | Err(_) => return Over::Ended,
                },
            }
        }
    }

    /// Tells the command that nothing more comes, and waits for its end.
    async fn drain(&mut self) {
        let _ = self.execution.close_stdin().await;
        while let Ok(event) = self.execution.next().await {
            match event {
                ExecEvent::Exited(_) => return,
                ExecEvent::Stderr(bytes) => self.wire.keep(&bytes),
                ExecEvent::Stdout(_) => {}
            }
        }
    }
}
