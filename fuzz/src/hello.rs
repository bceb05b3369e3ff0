//! Greetings of TLS, as they come on a tunnel.
//!
//! ```text
//!   input:  1 byte: how long records are, when it is sent again in others │ the first bytes of a tunnel
//! ```
//!
//! In pieces, in other records or at once, the answer is the same. rustls is the second reader: what it
//! takes has the same name here, or is refused. A third one forgives everything and collects all names.

use policy::host::Host;
use rustls::server::Acceptor;

use crate::hello::{Greeting, MAX_HELLO, read};

/// Lengths at which a greeting is looked at before it is whole.
const LOOKS: usize = 64;

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let data = &data[..data.len().min(MAX_HELLO)];
    let whole = read(data);
    in_pieces(data, &whole);
    match (&whole, second(data)) {
        (Greeting::Hello(name), second) => {
            let Some(handshake) = joined(data) else { panic!("a greeting without a handshake") };
            assert_eq!(names(&handshake), name.iter().cloned().collect::<Vec<_>>(), "{name:?}");
            if let Some(second) = second {
                same_name(name.as_deref(), second.as_deref());
            }
            in_other_records(&handshake, usize::from(*size) + 1, &whole);
        }
        (Greeting::Half, second) => assert_eq!(second, None, "half of it is enough for others"),
        (Greeting::NotTls | Greeting::Names, _) => {}
    }
}

/// The first answer that is one stays, whatever follows.
fn in_pieces(data: &[u8], whole: &Greeting) {
    let mut said = None;
    for end in (0..data.len()).step_by(data.len() / LOOKS + 1) {
        let answer = read(&data[..end]);
        match &said {
            Some(said) => assert_eq!(&answer, said, "other after {end} bytes"),
            None if answer != Greeting::Half => said = Some(answer),
            None => {}
        }
    }
    assert!(said.as_ref().is_none_or(|said| said == whole), "{said:?} of a part, {whole:?}");
}

/// The same handshake, cut into records of another size.
fn in_other_records(handshake: &[u8], size: usize, whole: &Greeting) {
    let mut records = Vec::new();
    for part in handshake.chunks(size) {
        records.extend([22, 3, 1]);
        records.extend(u16::try_from(part.len()).unwrap_or_default().to_be_bytes());
        records.extend(part);
    }
    if records.len() <= MAX_HELLO {
        assert_eq!(&read(&records), whole, "in records of {size} bytes");
    }
}

/// The handshake message out of its records.
fn joined(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut handshake = Vec::new();
    while let Some((&[_, _, _, high, low], rest)) = data.split_first_chunk::<5>() {
        let (part, rest) = rest.split_at_checked(usize::from(high) << 8 | usize::from(low))?;
        handshake.extend_from_slice(part);
        data = rest;
        if let Some(length) = handshake.get(1..4) {
            let length = 4 + length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            if handshake.len() >= length {
                handshake.truncate(length);
                return Some(handshake);
            }
        }
    }
    None
}

/// Every name that stands in any extension for names, as far as lengths lead.
fn names(handshake: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let Some(mut rest) = handshake.get(4 + 2 + 32..) else { return found };
    for width in [1, 2, 1, 2] {
        let Some((part, behind)) = long(rest, width) else { return found };
        // The extensions are last: one goes into them.
        rest = if width == 2 && behind.is_empty() { part } else { behind };
    }
    while let Some((kind, (body, behind))) =
        rest.split_at_checked(2).and_then(|(kind, rest)| Some((kind, long(rest, 2)?)))
    {
        rest = behind;
        let mut list = if kind == [0, 0] { body.get(2..).unwrap_or_default() } else { &[] };
        while let Some((name, behind)) = list.get(1..).and_then(|list| long(list, 2)) {
            found.push(name.to_vec());
            list = behind;
        }
    }
    found
}

/// What follows its own length of so many bytes, and what is behind it.
fn long(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    rest.split_at_checked(length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

/// The name that rustls finds; nothing where it takes this for no greeting, or not for a whole one.
#[allow(clippy::option_option, reason = "no greeting, and one without a name, are two things")]
fn second(mut data: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !data.is_empty() {
        acceptor.read_tls(&mut data).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted.client_hello().server_name().map(str::to_owned));
        }
    }
    None
}

fn same_name(name: Option<&[u8]>, second: Option<&str>) {
    let host = name.and_then(|name| Host::parse(name).ok());
    match (host, second) {
        (Some(Host::Dns(host)), Some(second)) => {
            let second = second.to_ascii_lowercase();
            assert_eq!(host.as_str(), second.strip_suffix('.').unwrap_or(&second));
        }
        // It knows nothing but names of DNS, and so do we when names are compared.
        (Some(Host::Dns(host)), None) => panic!("{host} is no name to others"),
        (_, Some(second)) => {
            assert!(Host::parse(second.as_bytes()).is_err(), "{name:?} is {second} to others")
        }
        (_, None) => {}
    }
}
