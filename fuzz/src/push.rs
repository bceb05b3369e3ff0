//! The head of a push, and what a server says about one.
//!
//! ```text
//!   input:  the body of a push ─▶ head ─▶ written anew ─▶ the second reader finds the same, and no more
//!           the same bytes as an answer ─▶ a verdict, whatever the pieces
//! ```
//!
//! The second reader reads as git's receive-pack does: it forgives what that forgives, takes capabilities
//! from every line with a zero byte, and commands out of certificates.

use crate::front::pkt::{self, Packet, Read};
use crate::front::push_head::{Finished, HeadReader};
use crate::front::report::{ReportReader, refusal};

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let whole = HeadReader::default().push(data);
    same_in_pieces(data, &whole);
    if let Ok(Some(Finished { head, length, .. })) = &whole {
        let commands: Vec<_> = head
            .commands
            .iter()
            .map(|command| (command.old.clone(), command.new.clone(), command.name.clone()))
            .collect();
        for bytes in [&data[..*length], &head.written()] {
            let server = receive_pack(bytes);
            assert_eq!(server.commands, commands, "a server reads other commands");
            assert!(server.asked <= 1 && !server.certificate && !server.options, "{server:?}");
        }
        answered(
            head.has_side_band(),
            &refusal(head, &vec!["no\r\n".into(); commands.len()]),
            commands.len(),
        );
    }
    for side_band in [false, true] {
        let (mut one, mut many) = (ReportReader::new(side_band), ReportReader::new(side_band));
        one.push(data);
        data.chunks(7).for_each(|piece| many.push(piece));
        let (one, many) = (one.verdict(), many.verdict());
        assert_eq!(one, many);
        assert!(one.words.chars().all(|c| c == '\n' || !c.is_control()));
    }
}

/// A refusal is one to each ref.
fn answered(side_band: bool, bytes: &[u8], commands: usize) {
    let mut reader = ReportReader::new(side_band);
    reader.push(bytes);
    let verdict = reader.verdict();
    assert!(verdict.refs.iter().all(|(_, said)| said.is_err()), "{verdict:?}");
    assert!(verdict.refs.len() == commands || verdict.refs.is_empty(), "{verdict:?}");
}

fn same_in_pieces(data: &[u8], whole: &Result<Option<Finished>, crate::front::push_head::HeadError>) {
    let mut reader = HeadReader::default();
    for (number, piece) in data.chunks(5).enumerate() {
        match reader.push(piece) {
            Ok(None) => {}
            Ok(Some(finished)) => {
                let Ok(Some(whole)) = whole else { panic!("whole in pieces, and not at once") };
                let end = data.len().min((number + 1) * 5);
                let rest = [finished.rest.as_slice(), &data[end..]].concat();
                assert_eq!(
                    (&finished.head, finished.length, &rest),
                    (&whole.head, whole.length, &whole.rest)
                );
                return;
            }
            Err(error) => return assert_eq!(whole.as_ref(), Err(&error)),
        }
    }
    // Only the length of the whole can make a difference.
    assert!(!matches!(whole, Ok(Some(_))), "whole at once, and not in pieces");
}

/// What receive-pack reads.
#[derive(Debug, Default)]
struct Server {
    commands: Vec<(String, String, Vec<u8>)>,
    /// Lines that ask for something.
    asked: usize,
    certificate: bool,
    options: bool,
}

fn receive_pack(mut bytes: &[u8]) -> Server {
    let mut server = Server::default();
    while let Read::Whole(Packet::Data(line), length) = pkt::read(bytes) {
        bytes = &bytes[length..];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let end = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
        if end < line.len() {
            server.asked += 1;
            server.options |= line[end..].windows(12).any(|word| word == b"push-options");
        }
        let line = &line[..end];
        if line.starts_with(b"push-cert") {
            server.certificate = true;
        } else if !line.starts_with(b"shallow ")
            && let (Some(old), Some(new), Some(name)) = (line.get(..40), line.get(41..81), line.get(82..))
        {
            let object = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
            server.commands.push((object(old), object(new), name.to_vec()));
        }
    }
    server
}
