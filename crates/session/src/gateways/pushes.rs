//! The audit record of pushes: one file for each session, beside that of its network.
//!
//! ```text
//!   <session>.pushes.jsonl    {"at", "seq", "previous", "session", "push": {…}}    each tied to the one before
//! ```
//!
//! It stays when the session is deleted, as long as that of the network does.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use failpoint::{Side, reached};
use jiff::Timestamp;
use protocol::egress::Chain;
use protocol::git::{GitPush, PushRecord};
use protocol::ids::SessionId;
use store::Clock;

use crate::networks::chain;

/// Writes records; one at a time, so that each finds the end of its chain.
#[derive(Clone)]
pub(crate) struct PushRecords {
    folder: PathBuf,
    clock: Clock,
    turn: Arc<Mutex<()>>,
}

impl PushRecords {
    /// Those in this folder.
    pub(crate) fn new(folder: PathBuf, clock: Clock) -> Self {
        Self { folder, clock, turn: Arc::default() }
    }

    /// Writes one down; it is on the disk when this returns.
    pub(crate) async fn write(&self, session: SessionId, push: GitPush) -> io::Result<()> {
        let (this, at) = (self.clone(), self.clock.now());
        let written = tokio::task::spawn_blocking(move || {
            let _turn = this.turn.lock().unwrap_or_else(PoisonError::into_inner);
            append(&this.folder, at, session, push)
        });
        written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn append(folder: &Path, at: Timestamp, session: SessionId, push: GitPush) -> io::Result<()> {
    let (mut file, Chain { seq, previous }) = chain::open(folder, &chain::pushes_of(folder, session))?;
    let mut line = serde_json::to_vec(&PushRecord { at, seq: seq + 1, previous, session, push })?;
    line.push(b'\n');
    reached(Side::Before, "audit", || "a push".into());
    file.write_all(&line)?;
    file.sync_data()?;
    reached(Side::After, "audit", || "a push".into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::git::{PushOutcome, PushedBy};
    use ulid::Ulid;

    use super::*;

    #[tokio::test]
    async fn records_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let records = PushRecords::new(folder.path().join("audit"), Clock::system());
        let session = SessionId::from(Ulid::from_parts(1, 1));
        for words in ["one", "two\nlines"] {
            let push = GitPush {
                repository: "https://h.test/r".into(),
                by: PushedBy::Sandbox,
                outcome: PushOutcome::Refused,
                refs: Vec::new(),
                words: Some(words.into()),
            };
            records.write(session, push).await.unwrap();
        }
        let text = std::fs::read_to_string(chain::pushes_of(&folder.path().join("audit"), session)).unwrap();
        let (mut previous, mut count) = (String::new(), 0);
        for line in text.lines() {
            let record: PushRecord = serde_json::from_str(line).unwrap();
            count += 1;
            assert_eq!((record.seq, record.previous), (count, previous));
            previous = egress::digest_of(line.as_bytes());
        }
        assert_eq!(count, 2);
    }
}
