//! SOCKS5: the methods, then the request.
//!
//! ```text
//!   input:  methods │ request          as a program sends them, one behind the other
//! ```
//!
//! Byte by byte or at once, the answer is the same. The second reader takes the end of a request for the
//! port, and a name for what it says, to its last byte.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use policy::host::Host;

use crate::socks::{MAX_MESSAGE, Read, Wanted, methods, request};

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let rest = match in_pieces(data, methods) {
        Read::Whole(offers, length) => {
            assert_eq!(offers, data[2..length].contains(&0), "{:?}", &data[..length]);
            &data[length..]
        }
        // A request alone is an input, too.
        Read::Half | Read::Refused(_) => data,
    };
    if let Read::Whole(wanted, length) = in_pieces(rest, request) {
        meant(&wanted, &rest[..length]);
    }
}

/// Reads it byte by byte: the first answer that is one stays, whatever follows.
fn in_pieces<T: PartialEq + Debug>(data: &[u8], read: impl Fn(&[u8]) -> Read<T>) -> Read<T> {
    let most = data.len().min(MAX_MESSAGE + 2);
    let answer = (0..=most).map(|end| (end, read(&data[..end]))).find(|(_, read)| *read != Read::Half);
    let Some((end, answer)) = answer else {
        assert!(most <= MAX_MESSAGE, "{most} bytes are not enough");
        return Read::Half;
    };
    if let Read::Whole(_, length) = &answer {
        assert_eq!((*length, end <= MAX_MESSAGE), (end, true), "it is whole with its last byte");
    }
    for more in [end + 1, (end + most) / 2, most, data.len()] {
        let more = more.clamp(end, data.len());
        assert_eq!(read(&data[..more]), answer, "other after {more} bytes than after {end}");
    }
    answer
}

/// What a request says to the second reader.
fn meant(wanted: &Wanted, bytes: &[u8]) {
    let (address, port) = bytes[3..].split_at(bytes.len() - 5);
    assert_eq!(wanted.port.to_be_bytes(), port, "{bytes:?}");
    let host = match address {
        [1, a, b, c, d] => Some(Host::V4(Ipv4Addr::new(*a, *b, *c, *d))),
        [4, sixteen @ ..] => <[u8; 16]>::try_from(sixteen).ok().map(|bits| Host::V6(Ipv6Addr::from(bits))),
        [3, length, name @ ..] => {
            assert_eq!(usize::from(*length), name.len(), "{bytes:?}");
            return named(wanted, name);
        }
        _ => None,
    };
    assert_eq!(wanted.host.as_ref().ok(), host.as_ref(), "{bytes:?}");
}

/// A name is what it says to its last byte, or it is none.
fn named(wanted: &Wanted, name: &[u8]) {
    let text = String::from_utf8_lossy(name).to_ascii_lowercase();
    match &wanted.host {
        Err(kept) => assert_eq!(kept, name, "what is told of is not what was asked for"),
        Ok(Host::V6(address)) => {
            assert_eq!(text.trim_matches(['[', ']']).parse().ok(), Some(*address), "{text}");
        }
        Ok(host) => assert_eq!(host.to_string(), text.strip_suffix('.').unwrap_or(&text), "{text}"),
    }
}
