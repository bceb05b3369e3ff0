//! Questions for names, answered here: nothing of them goes anywhere.
//!
//! ```text
//!   header(12): id, flags, counts │ one question: labels … 0, type, class │ the rest is not looked at
//!   A, AAAA of a name that may be asked for  ─▶ an address that stands for it
//!   PTR, TXT, MX … of such a name            ─▶ no data
//!   a name that can never be allowed         ─▶ no such name
//!   anything else than one such question     ─▶ refused, or nothing at all
//! ```
//!
//! RFC 1035. An address stands for a name only within one sandbox; who connects to it is judged then.

use std::net::IpAddr;

use policy::host::Host;

/// The longest question that is read.
pub(crate) const MAX_QUESTION: usize = 512;

const HEADER: usize = 12;

const A: u16 = 1;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// How long an answer may be kept, in seconds: rules change.
const TTL: u32 = 1;

/// `RCODE`s.
const FORMAT: u8 = 1;
const NO_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// Which kind of address is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
    /// Something else.
    Other,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Id, and the flag of a question that wants recursion.
    id: [u8; 2],
    recursion: bool,
    /// The question as it came, for the answer.
    echo: Vec<u8>,
    /// What it is about; nothing where that is no host.
    pub(crate) host: Option<Host>,
    /// What is wanted.
    pub(crate) kind: Kind,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This address.
    Address(IpAddr),
    /// There is such a name, but nothing of the kind.
    NoData,
    /// There is no such name.
    NoName,
    /// We do not say.
    Refused,
}

/// Reads a question; the error is the answer to what is none, nothing where there is none.
pub(crate) fn read(bytes: &[u8]) -> Result<Question, Option<Vec<u8>>> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else { return Err(None) };
    let &[id0, id1, high, _, ..] = header;
    // Never an answer to an answer.
    if high & 0x80 != 0 || bytes.len() > MAX_QUESTION {
        return Err(None);
    }
    let recursion = high & 1 != 0;
    let failed = |code| Some(message([id0, id1], recursion, code, &[], None));
    if high & 0x78 != 0 {
        return Err(failed(NOT_IMPLEMENTED));
    }
    if header[4..6] != [0, 1] || header[6..10] != [0; 4] {
        return Err(failed(FORMAT));
    }
    let (name, length) = name(body).ok_or_else(|| failed(FORMAT))?;
    let Some(&[k0, k1, c0, c1]) = body.get(length..length + 4) else { return Err(failed(FORMAT)) };
    if u16::from_be_bytes([c0, c1]) != INTERNET {
        return Err(failed(REFUSED));
    }
    let kind = match u16::from_be_bytes([k0, k1]) {
        A => Kind::A,
        AAAA => Kind::Aaaa,
        _ => Kind::Other,
    };
    let host = Host::parse(&name).ok().filter(|host| matches!(host, Host::Dns(_)));
    Ok(Question { id: [id0, id1], recursion, echo: body[..length + 4].to_vec(), host, kind })
}

/// A name with dots, and how many bytes it took. A label with a dot in it has no such form.
fn name(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut at) = (Vec::new(), 0);
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        match length {
            0 => return Some((name, at)),
            1..=63 => {}
            // Nothing stands before a question that it could point to.
            _ => return None,
        }
        let label = bytes.get(at..at + length)?;
        // A name has 255 bytes with its last one, RFC 1035 section 2.3.4; nobody reads an answer to a longer one.
        if label.contains(&b'.') || at + length >= 255 {
            return None;
        }
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend_from_slice(label);
        at += length;
    }
}

impl Question {
    /// The bytes of an answer.
    pub(crate) fn answer(&self, answer: Answer) -> Vec<u8> {
        let (code, address) = match answer {
            Answer::Address(address) => (0, Some(address)),
            Answer::NoData => (0, None),
            Answer::NoName => (NO_NAME, None),
            Answer::Refused => (REFUSED, None),
        };
        message(self.id, self.recursion, code, &self.echo, address)
    }
}

fn message(id: [u8; 2], recursion: bool, code: u8, echo: &[u8], address: Option<IpAddr>) -> Vec<u8> {
    let counts = [u16::from(!echo.is_empty()), u16::from(address.is_some()), 0, 0];
    let mut bytes = Vec::with_capacity(HEADER + echo.len() + 28);
    bytes.extend(id);
    // An answer; recursion is available.
    bytes.extend([0x80 | u8::from(recursion), 0x80 | code]);
    bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    bytes.extend(echo);
    if let Some(address) = address {
        // The name is where the question has it.
        bytes.extend([0xc0, u8::try_from(HEADER).unwrap_or_default()]);
        let (kind, data) = match address {
            IpAddr::V4(address) => (A, address.octets().to_vec()),
            IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
        };
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes.extend(TTL.to_be_bytes());
        bytes.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
        bytes.extend(data);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(labels: &[&[u8]], kind: u16) -> Vec<u8> {
        let mut bytes = vec![7, 9, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in labels {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend_from_slice(label);
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        // EDNS, which is not looked at.
        bytes.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_question_is_answered_with_an_address() {
        let read = read(&question(&[b"API", b"allowed", b"test"], 1)).unwrap();
        assert_eq!(
            (read.host.as_ref().unwrap().to_string(), read.kind),
            ("api.allowed.test".into(), Kind::A)
        );
        let answer = read.answer(Answer::Address("198.18.0.1".parse().unwrap()));
        assert_eq!(&answer[..12], &[7, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(&answer[answer.len() - 16..], &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 198, 18, 0, 1]);
        let none = read.answer(Answer::NoName);
        assert_eq!((&none[2..4], &none[6..8]), (&[0x81, 0x83][..], &[0, 0][..]));
    }

    /// Rows D02 and N05 of the escape matrix, for questions.
    #[test]
    fn everything_else_is_refused_or_has_no_host() {
        assert_eq!(read(&question(&[b"a", b"test"], 16)).unwrap().kind, Kind::Other);
        for labels in
            [&[&b"a\0b"[..], b"test"][..], &[b"a b"], &[b"127", b"1"], &[], &[b"1", b"2", b"3", b"4"]]
        {
            assert_eq!(read(&question(labels, 1)).unwrap().host, None, "{labels:?}");
        }
        assert!(read(&question(&[b"a.b", b"test"], 1)).is_err(), "a dot within a label");
        let mut answer = question(&[b"a"], 1);
        answer[2] |= 0x80;
        assert_eq!(read(&answer), Err(None), "an answer");
        let mut update = question(&[b"a"], 1);
        update[2] |= 5 << 3;
        assert_eq!(read(&update).unwrap_err().unwrap()[3] & 15, NOT_IMPLEMENTED);
        let mut two = question(&[b"a"], 1);
        two[5] = 2;
        assert_eq!(read(&two).unwrap_err().unwrap()[3] & 15, FORMAT);
        assert_eq!(read(&[0; 11]), Err(None));
        let pointer = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xc0, 12, 0, 1, 0, 1]].concat();
        assert_eq!(read(&pointer).unwrap_err().unwrap()[3] & 15, FORMAT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(question) = read(&bytes) {
                prop_assert!(question.answer(Answer::Address([1, 2, 3, 4].into())).len() <= MAX_QUESTION + 28);
            }
        }
    }
}
