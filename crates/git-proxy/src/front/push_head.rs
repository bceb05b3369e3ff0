//! The head of a push: what the client wants of which refs, before the pack.
//!
//! ```text
//!   shallow <object> …  │  <old> <new> <ref> NUL <capabilities>  │  <old> <new> <ref> …  │ 0000 │ PACK…
//!   HeadReader ─ piece by piece ─▶ PushHead, and what came after it
//! ```
//!
//! What is judged is what goes on: the head is written anew from what was read, so that the server
//! cannot read anything else in it. A list without commands is what git asks with whether it may push.

use policy::push::PushCommand;

use super::pkt::{self, FLUSH, Packet, Read};

/// The longest head: some hundred commands.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// The most refs of one push.
const MAX_COMMANDS: usize = 64;

/// Capabilities that a push may ask for. Each is one that does not change which refs are written.
const CAPABILITIES: [&str; 7] =
    ["report-status", "report-status-v2", "side-band-64k", "quiet", "atomic", "ofs-delta", "delete-refs"];

/// Capabilities that say something: about the client, and how objects are named.
const VALUED: [&str; 2] = ["agent=", "session-id="];

/// How objects are named everywhere here.
const OBJECT_FORMAT: &str = "object-format=sha1";

/// The characters of an object's name.
const OBJECT: usize = 40;

/// Whether the server may tell of this capability.
pub(crate) fn is_known(capability: &str) -> bool {
    CAPABILITIES.contains(&capability)
        || capability == OBJECT_FORMAT
        || VALUED.iter().any(|prefix| capability.starts_with(prefix))
}

/// A head that was read to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PushHead {
    /// Where the client's history ends.
    pub(crate) shallow: Vec<String>,
    /// The commands; none in a question whether one may push.
    pub(crate) commands: Vec<PushCommand>,
    /// What the client asks for.
    pub(crate) capabilities: Vec<String>,
}

/// Why a head is refused whatever refs it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the push is not what git sends: {0}")]
    Malformed(&'static str),
    #[error("pushes with a certificate (--signed) are not passed on from a session")]
    Certificate,
    #[error("push options are not passed on from a session")]
    Options,
    #[error("`{0}` is not passed on from a session")]
    Capability(String),
    #[error("one push may name {MAX_COMMANDS} refs at the most")]
    TooMany,
}

impl PushHead {
    /// Whether the answer comes on side bands.
    pub(crate) fn has_side_band(&self) -> bool {
        self.has("side-band-64k")
    }

    /// Whether the client hears what became of each ref.
    pub(crate) fn wants_report(&self) -> bool {
        self.has("report-status") || self.has("report-status-v2")
    }

    fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|given| given == capability)
    }

    /// The head as it goes on.
    pub(crate) fn written(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for object in &self.shallow {
            pkt::write(&mut bytes, format!("shallow {object}").as_bytes());
        }
        for (number, command) in self.commands.iter().enumerate() {
            let mut line = format!("{} {} ", command.old, command.new).into_bytes();
            line.extend(&command.name);
            if number == 0 {
                line.push(0);
                for capability in &self.capabilities {
                    line.push(b' ');
                    line.extend(capability.bytes());
                }
            }
            pkt::write(&mut bytes, &line);
        }
        bytes.extend(FLUSH);
        bytes
    }
}

/// Reads a head piece by piece.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    bytes: Vec<u8>,
    /// Up to where it is read.
    at: usize,
    head: PushHead,
}

/// A head and what came behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) head: PushHead,
    /// How many bytes the head took.
    pub(crate) length: usize,
    pub(crate) rest: Vec<u8>,
}

impl HeadReader {
    /// Takes the next piece; the head once it is whole.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Option<Finished>, HeadError> {
        self.bytes.extend_from_slice(piece);
        loop {
            let (packet, length) = match pkt::read(&self.bytes[self.at..]) {
                Read::Half if self.bytes.len() > MAX_HEAD => return Err(HeadError::TooMany),
                Read::Half => return Ok(None),
                Read::Refused => return Err(HeadError::Malformed("a packet has no length")),
                Read::Whole(packet, length) => (packet, length),
            };
            if self.at + length > MAX_HEAD {
                return Err(HeadError::TooMany);
            }
            match packet {
                Packet::Special => return Err(HeadError::Malformed("a packet of another protocol")),
                Packet::Data(line) => self.head.line(line)?,
                Packet::Flush => {
                    let length = self.at + length;
                    let rest = self.bytes.split_off(length);
                    return Ok(Some(Finished { head: std::mem::take(&mut self.head), length, rest }));
                }
            }
            self.at += length;
        }
    }

    /// What was read of a head that is refused: to whom it is told.
    pub(crate) fn so_far(&self) -> &PushHead {
        &self.head
    }
}

impl PushHead {
    fn line(&mut self, line: &[u8]) -> Result<(), HeadError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.starts_with(b"push-cert") {
            return Err(HeadError::Certificate);
        }
        if let Some(object) = line.strip_prefix(b"shallow ") {
            if !self.commands.is_empty() {
                return Err(HeadError::Malformed("`shallow` behind a command"));
            }
            self.shallow.push(object_name(object)?);
            return Ok(());
        }
        let (command, capabilities) = match line.iter().position(|byte| *byte == 0) {
            Some(at) if self.commands.is_empty() => (&line[..at], Some(&line[at + 1..])),
            Some(_) => return Err(HeadError::Malformed("a zero byte behind the first command")),
            None => (line, None),
        };
        let (old, command) = split(command)?;
        let (new, name) = split(command)?;
        if name.is_empty() || name.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
            return Err(HeadError::Malformed("a ref without a name that is one"));
        }
        if self.commands.len() == MAX_COMMANDS {
            return Err(HeadError::TooMany);
        }
        self.commands.push(PushCommand { old, new, name: name.to_vec() });
        capabilities.map_or(Ok(()), |given| self.ask(given))
    }

    fn ask(&mut self, given: &[u8]) -> Result<(), HeadError> {
        let odd = || HeadError::Malformed("capabilities that are no plain text");
        let text = std::str::from_utf8(given).map_err(|_| odd())?;
        if text.chars().any(char::is_control) {
            return Err(odd());
        }
        // First what the answer depends on, so that a refusal arrives in the form that is asked for.
        self.capabilities = text.split(' ').filter(|word| is_known(word)).map(ToOwned::to_owned).collect();
        match text.split(' ').find(|word| !word.is_empty() && !is_known(word)) {
            None => Ok(()),
            Some("push-options") => Err(HeadError::Options),
            Some(word) if word.starts_with("push-cert") => Err(HeadError::Certificate),
            Some(word) => Err(HeadError::Capability(word.chars().take(60).collect())),
        }
    }
}

/// An object's name and what stands behind the space.
fn split(line: &[u8]) -> Result<(String, &[u8]), HeadError> {
    let (object, rest) = line.split_at_checked(OBJECT).ok_or(BAD_OBJECT)?;
    Ok((object_name(object)?, rest.strip_prefix(b" ").ok_or(BAD_OBJECT)?))
}

const BAD_OBJECT: HeadError = HeadError::Malformed("something that names no object");

fn object_name(bytes: &[u8]) -> Result<String, HeadError> {
    let fits = bytes.len() == OBJECT && bytes.iter().all(u8::is_ascii_hexdigit);
    let name = std::str::from_utf8(bytes).ok().filter(|_| fits).ok_or(BAD_OBJECT)?;
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn body(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| pkt::write(&mut bytes, line.as_bytes()));
        bytes.extend(FLUSH);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<Finished>, HeadError> {
        HeadReader::default().push(bytes)
    }

    #[test]
    fn a_push_of_git_is_read_and_written_anew() {
        let first = format!(
            "{ZERO} {} refs/heads/a\0 report-status side-band-64k agent=git/2.47.3\n",
            A.to_uppercase()
        );
        let mut bytes = body(&[&format!("shallow {A}"), &first, &format!("{A} {ZERO} refs/heads/b\n")]);
        bytes.extend(b"PACK");
        let Finished { head, length, rest } = read(&bytes).unwrap().unwrap();
        assert_eq!((rest.as_slice(), length), (&b"PACK"[..], bytes.len() - 4));
        assert_eq!(head.shallow, [A]);
        assert_eq!(head.capabilities, ["report-status", "side-band-64k", "agent=git/2.47.3"]);
        assert!(head.has_side_band() && head.wants_report());
        assert!(head.commands[0].is_create() && head.commands[1].is_delete());
        assert_eq!(
            (head.commands[0].new.as_str(), head.commands[1].name.as_slice()),
            (A, &b"refs/heads/b"[..])
        );
        let again = read(&head.written()).unwrap().unwrap();
        assert_eq!((again.head, again.rest), (head, Vec::new()));
        assert_eq!(
            read(b"0000").unwrap().unwrap().head,
            PushHead::default(),
            "a question whether one may push"
        );
    }

    /// Row G08 of the escape matrix, and what servers read in other ways than one may think.
    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let line = |ending: &str| format!("{ZERO} {A} refs/heads/a{ending}");
        for (bytes, said) in [
            (body(&[&line("\0 report-status"), &line("\0 push-options")]), "zero byte"),
            (body(&[&line("\0 report-status\0 x")]), "plain text"),
            (body(&[&line("\0 push-options")]), "push options"),
            (body(&["push-cert\0 report-status"]), "certificate"),
            (body(&[&line("\0 push-cert=1-2")]), "certificate"),
            (body(&[&line("\0 object-format=sha256")]), "object-format=sha256"),
            (body(&[&line("\0 side-band")]), "side-band"),
            (body(&[&line("\n\0 report-status")]), "without a name"),
            (body(&[&line(" b")]), "without a name"),
            (body(&[&format!("{ZERO} {A} ")]), "without a name"),
            (body(&[&format!("{ZERO} {A}")]), "names no object"),
            (body(&[&format!("{ZERO}  {A} refs/heads/a")]), "names no object"),
            (body(&[&format!("{ZERO}x {A} refs/heads/a")]), "names no object"),
            (body(&[""]), "names no object"),
            (body(&[&line(""), &format!("shallow {A}")]), "behind a command"),
            (body(&["shallow x"]), "names no object"),
            (b"0001".to_vec(), "another protocol"),
            (b"0002".to_vec(), "another protocol"),
            (b"0003".to_vec(), "no length"),
            (b"fff5".to_vec(), "no length"),
            (b"GET /".to_vec(), "no length"),
            (body(&vec![line("").as_str(); 65]), "64 refs"),
            (body(&vec![format!("shallow {A}").as_str(); 1500]), "64 refs"),
        ] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
        // An end that never comes takes no more memory than the longest head.
        assert_eq!(
            HeadReader::default().push(&[b'f'; 10]),
            Err(HeadError::Malformed("a packet has no length"))
        );
    }

    proptest! {
        #[test]
        fn pieces_change_nothing_and_what_goes_on_says_the_same(
            names in proptest::collection::vec("[a-z/]{1,20}", 1..6), cut in 0usize..200, noise in any::<Option<(usize, u8)>>()
        ) {
            let lines: Vec<String> = names.iter().enumerate().map(|(number, name)| {
                let more = if number == 0 { "\0 report-status side-band-64k" } else { "" };
                format!("{ZERO} {A} {name}{more}")
            }).collect();
            let mut bytes = body(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            bytes.extend(b"PACK");
            if let Some((at, byte)) = noise {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let whole = read(&bytes);
            let mut reader = HeadReader::default();
            let cut = cut.min(bytes.len());
            let pieces = match reader.push(&bytes[..cut]) {
                Ok(None) => reader.push(&bytes[cut..]),
                Ok(Some(mut finished)) => {
                    finished.rest.extend(&bytes[cut..]);
                    Ok(Some(finished))
                }
                error => error,
            };
            prop_assert_eq!(&whole, &pieces);
            if let Ok(Some(Finished { head, .. })) = whole {
                prop_assert_eq!(read(&head.written()).unwrap().unwrap().head, head);
            }
        }
    }
}
