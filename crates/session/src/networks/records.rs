//! The audit records of a session, read back and checked.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use protocol::egress::{AuditRecord, NetworkPage};
use protocol::ids::SessionId;

use super::chain::segment_of;
use crate::error::SessionError;
use crate::registry::Sessions;

impl Sessions {
    /// What a session's sandboxes tried to reach, in order, at most `limit` records after a number.
    pub async fn network_records(
        &self,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<NetworkPage, SessionError> {
        self.shared.store.session(session).await?;
        let segments = self.shared.config.audit.clone();
        let read = tokio::task::spawn_blocking(move || page(&segments, session, after, limit)).await;
        read.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(SessionError::Audit)
    }
}

/// Reads a page, and follows the chain from its beginning up to there.
fn page(segments: &Path, session: SessionId, after: u64, limit: usize) -> io::Result<NetworkPage> {
    let file = match File::open(segment_of(segments, session)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(NetworkPage::default()),
        file => file?,
    };
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    let mut page = NetworkPage::default();
    let mut previous = String::new();
    loop {
        line.clear();
        // What is being written right now has no end yet.
        if reader.read_until(b'\n', &mut line)? == 0 || line.pop() != Some(b'\n') {
            return Ok(page);
        }
        let Ok(record) = serde_json::from_slice::<AuditRecord>(&line) else {
            page.broken_after = Some(page.last_seq);
            return Ok(page);
        };
        if record.seq != page.last_seq + 1 || record.previous != previous {
            page.broken_after.get_or_insert(page.last_seq);
        }
        page.last_seq = record.seq;
        previous = egress::digest_of(&line);
        if record.seq > after && page.records.len() < limit {
            page.records.push(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::egress::{AuditEvent, Chain};
    use protocol::network::DenyReason;
    use ulid::Ulid;

    use super::*;

    #[test]
    fn pages_follow_each_other_and_a_changed_line_shows() {
        let folder = tempfile::tempdir().unwrap();
        let session = SessionId::from(Ulid::from_parts(1, 1));
        assert_eq!(page(folder.path(), session, 0, 10).unwrap(), NetworkPage::default());
        let (mut text, mut chain) = (String::new(), Chain::default());
        for seq in 1..=5 {
            let what =
                AuditEvent::Repeated { host: "a.test".into(), reason: DenyReason::NotAllowed, count: seq };
            let (at, sandbox) = (jiff::Timestamp::UNIX_EPOCH, Ulid::from_parts(1, 2).into());
            let record =
                AuditRecord { at, seq, previous: chain.previous, session, sandbox, connection: 0, what };
            let line = serde_json::to_string(&record).unwrap();
            chain = Chain { seq, previous: egress::digest_of(line.as_bytes()) };
            text += &format!("{line}\n");
        }
        let write = |text: &str| std::fs::write(segment_of(folder.path(), session), text).unwrap();
        write(&format!("{text}{{\"at\""));
        let found = page(folder.path(), session, 2, 2).unwrap();
        let seqs: Vec<u64> = found.records.iter().map(|record| record.seq).collect();
        assert_eq!((seqs, found.last_seq, found.broken_after), (vec![3, 4], 5, None));
        write(&text.replacen("\"count\":2", "\"count\":1", 1));
        assert_eq!(page(folder.path(), session, 0, 9).unwrap().broken_after, Some(2));
        write(&text.replacen("\"seq\":3", "\"seq\":9", 1));
        assert_eq!(page(folder.path(), session, 0, 9).unwrap().broken_after, Some(2));
    }
}
