//! What became of a push: said by us, or read from what the server says.
//!
//! ```text
//!   unpack ok │ ok <ref> │ ng <ref> <reason> │ 0000        bare, or in packets of band 1
//!   band 2: words for people      band 3: the last words
//! ```

use policy::push::PushCommand;

use super::pkt::{self, FLUSH, Packet, Read};
use super::push_head::PushHead;

/// How much of a report is looked at, and how much of the words is kept.
const MAX_REPORT: usize = 64 * 1024;
const MAX_WORDS: usize = 4096;

/// A report that refuses: a reason for each command.
pub(crate) fn refusal(head: &PushHead, reasons: &[String]) -> Vec<u8> {
    let mut inner = Vec::new();
    pkt::write(&mut inner, b"unpack ok\n");
    for (PushCommand { name, .. }, reason) in head.commands.iter().zip(reasons) {
        let line = [b"ng ", name.as_slice(), b" ", one_line(reason).as_bytes(), b"\n"].concat();
        pkt::write(&mut inner, &line);
    }
    inner.extend(FLUSH);
    wrapped(head, inner)
}

/// A report that nothing was unpacked, for a push whose refs are not known.
pub(crate) fn unreadable(head: &PushHead, reason: &str) -> Vec<u8> {
    let mut inner = Vec::new();
    pkt::write(&mut inner, format!("unpack {}\n", one_line(reason)).as_bytes());
    for command in &head.commands {
        let line = [b"ng ", command.name.as_slice(), b" ", one_line(reason).as_bytes(), b"\n"].concat();
        pkt::write(&mut inner, &line);
    }
    inner.extend(FLUSH);
    wrapped(head, inner)
}

fn wrapped(head: &PushHead, inner: Vec<u8>) -> Vec<u8> {
    // Who hears of no report has nothing but words.
    if !head.has_side_band() {
        return inner;
    }
    let mut bytes = Vec::new();
    if head.wants_report() {
        pkt::write_band(&mut bytes, 1, &inner);
    } else {
        pkt::write_band(&mut bytes, 3, b"patchyard: the push was refused\n");
    }
    bytes.extend(FLUSH);
    bytes
}

/// A text as a line of a report can hold it.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

/// What a server said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether the pack was taken; nothing where it was not said.
    pub(crate) unpack: Option<Result<(), String>>,
    /// Each ref, and why not.
    pub(crate) refs: Vec<(Vec<u8>, Result<(), String>)>,
    /// What it said to people, lines without control characters.
    pub(crate) words: String,
}

/// Reads what a server answers while it passes by. What is no report is no verdict.
#[derive(Debug)]
pub(crate) struct ReportReader {
    side_band: bool,
    outer: Vec<u8>,
    inner: Vec<u8>,
    words: Vec<u8>,
    /// Nothing more is looked at.
    over: bool,
}

impl ReportReader {
    /// For an answer on side bands, or a bare one.
    pub(crate) fn new(side_band: bool) -> Self {
        Self { side_band, outer: Vec::new(), inner: Vec::new(), words: Vec::new(), over: false }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        if !self.side_band {
            keep(&mut self.inner, piece, MAX_REPORT);
            return;
        }
        while !self.over && !piece.is_empty() {
            let room = pkt::MAX_PACKET - self.outer.len().min(pkt::MAX_PACKET);
            let (now, later) = piece.split_at(piece.len().min(room));
            self.outer.extend_from_slice(now);
            piece = later;
            self.packets();
        }
    }

    fn packets(&mut self) {
        let mut at = 0;
        loop {
            match pkt::read(&self.outer[at..]) {
                Read::Half => break,
                Read::Refused | Read::Whole(Packet::Special | Packet::Flush, _) => {
                    self.over = true;
                    break;
                }
                Read::Whole(Packet::Data(data), length) => {
                    match data.split_first() {
                        Some((1, report)) => keep(&mut self.inner, report, MAX_REPORT),
                        Some((2 | 3, words)) => keep(&mut self.words, words, MAX_WORDS),
                        _ => {}
                    }
                    at += length;
                }
            }
        }
        self.outer.drain(..at);
    }

    /// What was said.
    pub(crate) fn verdict(self) -> Verdict {
        let mut verdict = Verdict { words: words(&self.words), ..Verdict::default() };
        let mut rest = self.inner.as_slice();
        while let Read::Whole(Packet::Data(line), length) = pkt::read(rest) {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if let Some(said) = line.strip_prefix(b"unpack ") {
                let fine = said == b"ok";
                verdict.unpack = Some(if fine { Ok(()) } else { Err(text(said)) });
            } else if let Some(name) = line.strip_prefix(b"ok ") {
                verdict.refs.push((name.to_vec(), Ok(())));
            } else if let Some(said) = line.strip_prefix(b"ng ") {
                let at = said.iter().position(|byte| *byte == b' ').unwrap_or(said.len());
                let reason = said.get(at + 1..).map(text).filter(|reason| !reason.is_empty());
                verdict.refs.push((said[..at].to_vec(), Err(reason.unwrap_or_else(|| "refused".into()))));
            }
            rest = &rest[length..];
        }
        verdict
    }
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let room = most.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn text(bytes: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(bytes)).trim().to_owned()
}

/// Lines of words; of one that was written over, what was last.
fn words(bytes: &[u8]) -> String {
    let all = String::from_utf8_lossy(bytes);
    let lines =
        all.split('\n').map(|line| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default());
    let lines: Vec<_> =
        lines.map(|line| one_line(line).trim().to_owned()).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(capabilities: &[&str], names: &[&str]) -> PushHead {
        let command = |name: &&str| PushCommand {
            old: String::new(),
            new: String::new(),
            name: name.as_bytes().to_vec(),
        };
        PushHead {
            shallow: Vec::new(),
            commands: names.iter().map(command).collect(),
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
        }
    }

    fn verdict(side_band: bool, pieces: &[&[u8]]) -> Verdict {
        let mut reader = ReportReader::new(side_band);
        pieces.iter().for_each(|piece| reader.push(piece));
        reader.verdict()
    }

    #[test]
    fn a_refusal_reads_as_one_on_side_bands_and_without() {
        let reasons = ["no\nway".to_owned(), "nor this".to_owned()];
        for capabilities in [&["report-status"][..], &["report-status", "side-band-64k"]] {
            let head = head(capabilities, &["refs/heads/a", "refs/tags/b"]);
            let said = verdict(head.has_side_band(), &[&refusal(&head, &reasons)]);
            assert_eq!(said.unpack, Some(Ok(())));
            assert_eq!(said.refs[0], (b"refs/heads/a".to_vec(), Err("no way".into())));
            assert_eq!(said.refs[1], (b"refs/tags/b".to_vec(), Err("nor this".into())));
            let unreadable = verdict(head.has_side_band(), &[&unreadable(&head, "it is odd")]);
            assert_eq!(unreadable.unpack, Some(Err("it is odd".into())));
        }
    }

    #[test]
    fn a_servers_words_and_its_verdict_are_read() {
        let mut inner = Vec::new();
        pkt::write(&mut inner, b"unpack ok\n");
        pkt::write(&mut inner, b"ok refs/heads/a\n");
        pkt::write(&mut inner, b"option refname refs/heads/b\n");
        pkt::write(&mut inner, b"ng refs/heads/c protected branch\x07 hook declined\n");
        inner.extend(FLUSH);
        let mut bytes = Vec::new();
        pkt::write_band(&mut bytes, 2, b"Resolving: 1%\rResolving: 100%\nsee https://forge.test/pr/new\n");
        let (one, two) = inner.split_at(20);
        pkt::write_band(&mut bytes, 1, one);
        pkt::write_band(&mut bytes, 1, two);
        bytes.extend(FLUSH);
        let said = verdict(true, &[&bytes[..7], &bytes[7..]]);
        assert_eq!(said.words, "Resolving: 100%\nsee https://forge.test/pr/new");
        assert_eq!(said.refs[0], (b"refs/heads/a".to_vec(), Ok(())));
        assert_eq!(said.refs[1], (b"refs/heads/c".to_vec(), Err("protected branch  hook declined".into())));
    }

    proptest! {
        #[test]
        fn whatever_is_said_little_is_kept(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20), band in any::<bool>()) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let said = verdict(band, &pieces);
            prop_assert!(said.words.len() <= 4 * MAX_WORDS);
            prop_assert_eq!(said, verdict(band, &[&pieces.concat()]));
        }
    }
}
