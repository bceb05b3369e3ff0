//! The record of one sandbox's decisions.
//!
//! ```text
//!   record ─▶ {…, "seq": n, "previous": SHA-256 of the line before} LF ─▶ segment, at once
//!                                                                └─▶ on the disk within 100 ms
//!   the 21st denial of a minute of one host for one reason ─▶ counted; the count is one record
//! ```
//!
//! The segment is a file of the server's that was opened for appending; nothing can be read back here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use protocol::egress::{AuditEvent, AuditRecord, Chain, Decided};
use protocol::ids::{SandboxId, SessionId};
use protocol::network::DenyReason;
use sha2::{Digest as _, Sha256};

use crate::tally::Tally;

/// How many denials of one kind are written one by one in a [`WINDOW`].
const ONE_BY_ONE: u64 = 20;

const WINDOW: Duration = Duration::from_secs(60);

/// The most kinds that are told apart at a time; all others are counted as one.
const KINDS: usize = 1024;

/// What the host of denials is called that are not told apart.
const OTHERS: &str = "(others)";

/// The record of one sandbox.
#[derive(Debug)]
pub(crate) struct Audit {
    session: SessionId,
    sandbox: SandboxId,
    segment: Arc<File>,
    state: Mutex<State>,
    tally: Arc<Tally>,
}

#[derive(Debug)]
struct State {
    chain: Chain,
    dirty: bool,
    repeated: HashMap<(String, DenyReason), Repeated>,
}

#[derive(Debug)]
struct Repeated {
    since: Instant,
    seen: u64,
    untold: u64,
}

impl Audit {
    /// Goes on with the chain in this segment.
    pub(crate) fn new(session: SessionId, sandbox: SandboxId, segment: File, chain: Chain) -> Self {
        let state = State { chain, dirty: false, repeated: HashMap::new() };
        Self { session, sandbox, segment: Arc::new(segment), state: Mutex::new(state), tally: Arc::default() }
    }

    /// The same, counted together with others.
    pub(crate) fn counted_in(mut self, tally: &Arc<Tally>) -> Self {
        self.tally = Arc::clone(tally);
        self
    }

    /// Writes down a decision; whether it is worth telling anybody now. An allow that cannot be written
    /// is an error, and no allow.
    pub(crate) fn decided(&self, connection: u64, decided: &Decided) -> io::Result<bool> {
        if decided.reason.is_some() {
            self.tally.decided(decided.reason);
        }
        let mut state = self.state();
        if let Some(reason) = decided.reason
            && !state.is_one_of_few(&decided.host, reason)
        {
            return Ok(false);
        }
        self.write(&mut state, connection, AuditEvent::Decided(decided.clone()))?;
        // One that cannot be written is no allow.
        if decided.is_allowed() {
            self.tally.decided(None);
        }
        Ok(true)
    }

    /// Writes down an end.
    pub(crate) fn closed(&self, connection: u64, closed: AuditEvent) {
        if let AuditEvent::Closed { bytes_up, bytes_down, .. } = &closed {
            self.tally.carried(*bytes_up, *bytes_down);
        }
        if let Err(error) = self.write(&mut self.state(), connection, closed) {
            tracing::warn!(sandbox = %self.sandbox, %error, "the end of a connection could not be recorded");
        }
    }

    /// Writes down the counts of the last minute, and what has to be synced, if anything.
    pub(crate) fn settle(&self, all: bool) -> Option<Arc<File>> {
        let mut state = self.state();
        let now = Instant::now();
        let over = |one: &Repeated| all || now.duration_since(one.since) >= WINDOW;
        let told: Vec<_> =
            state.repeated.extract_if(|_, one| over(one)).filter(|(_, one)| one.untold > 0).collect();
        for ((host, reason), one) in told {
            let event = AuditEvent::Repeated { host, reason, count: one.untold };
            if let Err(error) = self.write(&mut state, 0, event) {
                tracing::warn!(sandbox = %self.sandbox, %error, "denials could not be recorded");
            }
        }
        std::mem::take(&mut state.dirty).then(|| Arc::clone(&self.segment))
    }

    fn write(&self, state: &mut State, connection: u64, what: AuditEvent) -> io::Result<()> {
        let Chain { seq, previous } = &state.chain;
        let record = AuditRecord {
            at: Timestamp::now(),
            seq: seq + 1,
            previous: previous.clone(),
            session: self.session,
            sandbox: self.sandbox,
            connection,
            what,
        };
        let mut line = serde_json::to_vec(&record)?;
        let previous = digest_of(&line);
        line.push(b'\n');
        (&*self.segment).write_all(&line)?;
        state.chain = Chain { seq: record.seq, previous };
        state.dirty = true;
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a denial; whether it is written.
    fn is_one_of_few(&mut self, host: &str, reason: DenyReason) -> bool {
        let mut key = (host.to_owned(), reason);
        if self.repeated.len() >= KINDS && !self.repeated.contains_key(&key) {
            key.0 = OTHERS.to_owned();
        }
        let one = self.repeated.entry(key).or_insert_with(|| Repeated {
            since: Instant::now(),
            seen: 0,
            untold: 0,
        });
        one.seen += 1;
        if one.seen <= ONE_BY_ONE {
            return true;
        }
        one.untold += 1;
        false
    }
}

/// What the record after this one names as its `previous`: SHA-256 of the line without its end, in hex.
#[must_use]
pub fn digest_of(line: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(line).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use protocol::egress::Via;
    use ulid::Ulid;

    use super::*;

    fn denied(host: &str) -> Decided {
        Decided {
            reason: Some(DenyReason::NotAllowed),
            askable: true,
            ..Decided::of(Via::Connect, host.into(), 443)
        }
    }

    /// Rows Q05 and L08 of the escape matrix.
    #[test]
    fn records_are_chained_lines_and_floods_are_counted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let audit = Audit::new(
            SessionId::from(Ulid::from_parts(1, 1)),
            SandboxId::from(Ulid::from_parts(1, 2)),
            file.reopen().unwrap(),
            Chain::default(),
        );
        let odd = denied("a\r\n{\"seq\":1}");
        let told = (0..1000).filter(|_| audit.decided(1, &odd).unwrap()).count();
        assert_eq!(told, 20);
        for number in 0..5000 {
            audit.decided(2, &denied(&format!("h{number}.test"))).unwrap();
        }
        assert!(audit.settle(true).is_some() && audit.settle(true).is_none());
        let text = std::fs::read_to_string(file.path()).unwrap();
        let (mut previous, mut counted) = (String::new(), 0);
        for (line, seq) in text.lines().zip(1..) {
            let record: AuditRecord = serde_json::from_str(line).unwrap();
            assert_eq!((record.seq, &record.previous), (seq, &previous));
            previous = digest_of(line.as_bytes());
            match record.what {
                AuditEvent::Decided(_) => counted += 1,
                AuditEvent::Repeated { count, .. } => counted += count,
                AuditEvent::Closed { .. } => unreachable!(),
            }
        }
        assert_eq!(counted, 6000);
        assert_eq!(audit.tally.counts(0, 0).denied[&DenyReason::NotAllowed], 6000);
        assert!(text.lines().count() < 1100, "{}", text.lines().count());
    }
}
