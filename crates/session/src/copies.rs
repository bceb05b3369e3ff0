//! Files of people, into a sandbox and out of it.
//!
//! ```text
//!   out: guest packs ── tar, within the credit ──▶ whoever takes it
//!   in:  whoever gives it ── tar ──▶ guest unpacks
//! ```
//!
//! The guest's own program does both inside, so that neither the image's tar nor a link is followed.

use protocol::event::{CopyDirection, EventBody};
use protocol::hands::{ExecEvent, ExecSignal, ExecSpec, Execution, Hands as _, HandsError};
use protocol::ids::{ExecId, SessionId};
use protocol::sandbox_host::GUEST_BIN;
use ulid::Ulid;

use crate::driver::{Handle, Look};
use crate::error::SessionError;
use crate::registry::Sessions;

/// The most of the guest's own words that is passed on.
const MAX_WORDS: usize = 2_000;

/// A copy on its way, in either direction.
pub struct Copy {
    handle: Handle,
    execution: Box<dyn Execution>,
    path: String,
    direction: CopyDirection,
    bytes: u64,
    /// What came before it was asked for.
    first: Option<Vec<u8>>,
    said: Vec<u8>,
}

impl Sessions {
    /// Begins to copy a file or folder out of a session's sandbox. An error that shows before the first
    /// byte is given here.
    pub async fn copy_out(&self, session: SessionId, path: &str) -> Result<Copy, SessionError> {
        let mut copy = self.begin(session, path, CopyDirection::Out).await?;
        copy.first = copy.next().await?;
        Ok(copy)
    }

    /// Begins to copy an archive into a session's sandbox.
    pub async fn copy_in(&self, session: SessionId, path: &str) -> Result<Copy, SessionError> {
        self.begin(session, path, CopyDirection::In).await
    }

    async fn begin(
        &self,
        session: SessionId,
        path: &str,
        direction: CopyDirection,
    ) -> Result<Copy, SessionError> {
        let handle = self.handle(session).await?;
        let look = handle.look().await?;
        let path = absolute(&look, path);
        let order = match direction {
            CopyDirection::Out => "pack",
            CopyDirection::In => "unpack",
        };
        let argv = vec![format!("{GUEST_BIN}/patchyard-guest"), order.to_owned(), path.clone()];
        let exec = ExecId::from(Ulid::generate());
        let spec = ExecSpec { stdin: direction == CopyDirection::In, ..ExecSpec::new(exec, argv, "/") };
        let execution = look.link.start(spec).await?;
        Ok(Copy { handle, execution, path, direction, bytes: 0, first: None, said: Vec::new() })
    }
}

/// Relative paths start in the workspace.
fn absolute(look: &Look, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", look.workspace) }
}

impl Copy {
    /// The next bytes that come out; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            match self.execution.next().await? {
                ExecEvent::Stdout(bytes) => {
                    self.bytes += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                ExecEvent::Stderr(bytes) => self.hear(&bytes),
                ExecEvent::Exited(end) if end.is_success() => {
                    let (path, direction, bytes) = (self.path.clone(), self.direction, self.bytes);
                    self.handle.note(EventBody::FilesCopied { path, direction, bytes }).await?;
                    return Ok(None);
                }
                ExecEvent::Exited(_) => return Err(self.refusal()),
            }
        }
    }

    /// Gives the next bytes of the archive.
    pub async fn give(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let Err(error) = self.execution.write_stdin(bytes).await else {
            self.bytes += bytes.len() as u64;
            return Ok(());
        };
        // The guest takes no more: it has said why, unless it is gone.
        while self.next().await?.is_some() {}
        Err(error.into())
    }

    /// Says that the archive is whole, and waits for the end. What the guest left out, a line each.
    pub async fn finish(mut self) -> Result<String, SessionError> {
        self.execution.close_stdin().await?;
        while self.next().await?.is_some() {}
        Ok(String::from_utf8_lossy(&self.said).into_owned())
    }

    /// Gives it up.
    pub async fn abort(self) {
        let _ = self.execution.signal(ExecSignal::Kill).await;
    }

    fn hear(&mut self, bytes: &[u8]) {
        let room = MAX_WORDS.saturating_sub(self.said.len());
        self.said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn refusal(&self) -> SessionError {
        let words = String::from_utf8_lossy(&self.said);
        let last = words.lines().next_back().unwrap_or("it gave no reason").to_owned();
        SessionError::Hands(HandsError::Limit(last))
    }
}
