//! Audit segments: one file for each session, append-only, each line tied to the one before.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use protocol::egress::Chain;
use protocol::ids::SessionId;

/// Longer than any record.
const TAIL: u64 = 64 * 1024;

/// Where the segment of a session is.
pub(crate) fn segment_of(folder: &Path, session: SessionId) -> PathBuf {
    folder.join(format!("{session}.jsonl"))
}

/// Where the record of a session's pushes is.
pub(crate) fn pushes_of(folder: &Path, session: SessionId) -> PathBuf {
    folder.join(format!("{session}.pushes.jsonl"))
}

/// Opens a segment for appending, and finds the end of its chain. Half a line that a crash left is cut off.
pub(crate) fn open(folder: &Path, path: &Path) -> io::Result<(File, Chain)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < tail.len() {
        file.set_len(start + whole as u64)?;
    }
    let lines = tail[..whole].strip_suffix(b"\n").unwrap_or_default();
    let chain = match lines.rsplit(|byte| *byte == b'\n').next() {
        None | Some([]) => Chain::default(),
        Some(last) => {
            let record: Option<serde_json::Value> = serde_json::from_slice(last).ok();
            let seq = record.and_then(|record| record.get("seq")?.as_u64()).ok_or_else(|| {
                let what = format!("the last line of {} is no record", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?;
            Chain { seq, previous: egress::digest_of(last) }
        }
    };
    // For whoever gets it: to write, and nothing else.
    Ok((OpenOptions::new().append(true).open(path)?, chain))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use ulid::Ulid;

    use super::*;

    #[test]
    fn a_chain_goes_on_where_it_ended_and_half_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let session = SessionId::from(Ulid::from_parts(1, 1));
        let (mut file, chain) = open(folder.path(), &segment_of(folder.path(), session)).unwrap();
        assert_eq!(chain, Chain::default());
        let line = r#"{"at":"2026-01-01T00:00:00Z","seq":7,"previous":"","session":"SES","sandbox":"SBX","connection":1,"event":"repeated","host":"a.test","reason":"not_allowed","count":3}"#;
        let line = line.replace("SES", &session.to_string());
        let line = line.replace("SBX", &protocol::ids::SandboxId::from(Ulid::from_parts(1, 2)).to_string());
        write!(file, "{line}\n{{\"at\":\"2026").unwrap();
        let (mut file, chain) = open(folder.path(), &segment_of(folder.path(), session)).unwrap();
        assert_eq!((chain.seq, chain.previous.len()), (7, 64));
        write!(file, "x").unwrap();
        let text = std::fs::read_to_string(segment_of(folder.path(), session)).unwrap();
        assert_eq!(text, format!("{line}\nx"));
        std::fs::write(segment_of(folder.path(), session), "no record\n").unwrap();
        assert!(
            open(folder.path(), &segment_of(folder.path(), session))
                .unwrap_err()
                .to_string()
                .contains("no record")
        );
    }
}
