//! SOCKS5, RFC 1928: connections by name or by address, without a password, and nothing else.
//!
//! ```text
//!   5 │ n │ methods(n)              ─▶ 5 │ 0      or 5 │ 255 and the end
//!   5 │ command │ 0 │ kind │ address │ port(2)     ─▶ 5 │ reply │ 0 │ 1 │ 0(4) │ 0(2)
//!        1 connect       1 IPv4(4) · 3 name(1+n) · 4 IPv6(16)
//! ```
//!
//! A password is refused as a method: who a program is, its listener says.

use std::net::{Ipv4Addr, Ipv6Addr};

use policy::host::Host;

/// The first byte of every message.
pub(crate) const VERSION: u8 = 5;

/// The longest message.
pub(crate) const MAX_MESSAGE: usize = 2 + 255 + 5;

/// "No authentication", and "none of yours".
pub(crate) const ANYONE: [u8; 2] = [VERSION, 0];
pub(crate) const NO_METHOD: [u8; 2] = [VERSION, 255];

/// What a reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The connection stands.
    Done = 0,
    /// Something failed here.
    Failed = 1,
    /// The rules do not allow it.
    NotAllowed = 2,
    /// No address answered.
    HostUnreachable = 4,
    /// Only connections are made.
    NotSupported = 7,
    /// An address of an unknown kind.
    BadAddress = 8,
}

impl Reply {
    /// Its bytes.
    pub(crate) fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// What has come so far is the beginning of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read<T> {
    /// More has to come.
    Half,
    /// It is whole, and so long.
    Whole(T, usize),
    /// It is nothing of ours.
    Refused(Reply),
}

/// Reads the methods that are offered: whether ours is among them.
pub(crate) fn methods(bytes: &[u8]) -> Read<bool> {
    match bytes {
        [] | [VERSION] => Read::Half,
        [VERSION, count, rest @ ..] => match rest.get(..usize::from(*count)) {
            None => Read::Half,
            Some(methods) => Read::Whole(methods.contains(&0), 2 + methods.len()),
        },
        _ => Read::Refused(Reply::Failed),
    }
}

/// Where a connection is asked for: the host as it was given, read or refused, and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The canonical host, or the bytes that are none.
    pub(crate) host: Result<Host, Vec<u8>>,
    /// The port.
    pub(crate) port: u16,
}

/// Reads a request.
pub(crate) fn request(bytes: &[u8]) -> Read<Wanted> {
    match bytes {
        [VERSION, command, 0, ..] if *command != 1 => Read::Refused(Reply::NotSupported),
        [VERSION, 1, 0, kind, rest @ ..] => {
            let length = match (kind, rest.first()) {
                (1, _) => 4,
                (4, _) => 16,
                (3, Some(length)) => 1 + usize::from(*length),
                (3, None) => return Read::Half,
                _ => return Read::Refused(Reply::BadAddress),
            };
            let (Some(address), Some(port)) = (rest.get(..length), rest.get(length..length + 2)) else {
                return Read::Half;
            };
            let port = port.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte));
            let host = match (kind, <[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
                (1, Ok(four), _) => Ok(Host::V4(Ipv4Addr::from(four))),
                (4, _, Ok(sixteen)) => Ok(Host::V6(Ipv6Addr::from(sixteen))),
                _ => Host::parse(&address[1..]).map_err(|_| address[1..].to_vec()),
            };
            Read::Whole(Wanted { host, port }, 4 + length + 2)
        }
        [] | [VERSION] | [VERSION, _] | [VERSION, _, 0] => Read::Half,
        _ => Read::Refused(Reply::Failed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_name(name: &[u8], port: u16) -> Vec<u8> {
        [&[5, 1, 0, 3, u8::try_from(name.len()).unwrap()], name, &port.to_be_bytes()].concat()
    }

    #[test]
    fn connections_by_name_and_by_address_are_read() {
        assert_eq!(methods(&[5, 2, 2, 0]), Read::Whole(true, 4));
        assert_eq!(methods(&[5, 1, 2, 9]), Read::Whole(false, 3));
        let bytes = by_name(b"API.allowed.test", 443);
        let wanted = Wanted { host: Ok(Host::parse(b"api.allowed.test").unwrap()), port: 443 };
        assert_eq!(request(&bytes), Read::Whole(wanted, bytes.len()));
        for end in 0..bytes.len() {
            assert_eq!(request(&bytes[..end]), Read::Half, "{end}");
        }
        let four = [5, 1, 0, 1, 8, 8, 4, 4, 0, 53];
        let wanted = Wanted { host: Ok(Host::V4([8, 8, 4, 4].into())), port: 53 };
        assert_eq!(request(&four), Read::Whole(wanted, 10));
        assert!(matches!(request(&[&[5, 1, 0, 4][..], &[0; 18]].concat()), Read::Whole(_, 22)));
    }

    /// Rows N04, N05, N17 of the escape matrix.
    #[test]
    fn other_commands_and_broken_names_are_refused() {
        for name in [&b"evil.test\0.wild.test"[..], b"evil.test\0", b"a b", b"a\r\nb", b"", b"a%00.b"] {
            let read = request(&by_name(name, 443));
            assert!(matches!(read, Read::Whole(Wanted { host: Err(_), .. }, _)), "{name:?}");
        }
        for (bytes, reply) in [
            (&[5, 2, 0, 1, 1, 1, 1, 1, 0, 1][..], Reply::NotSupported),
            (&[5, 3, 0, 1, 1, 1, 1, 1, 0, 1], Reply::NotSupported),
            (&[5, 1, 0, 2, 1], Reply::BadAddress),
            (&[5, 1, 1, 1], Reply::Failed),
            (&[4, 1, 0, 80, 1, 1, 1, 1, 0], Reply::Failed),
        ] {
            assert_eq!(request(bytes), Read::Refused(reply), "{bytes:?}");
        }
        assert_eq!(methods(&[4, 1]), Read::Refused(Reply::Failed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = methods(&bytes);
            for message in [request(&bytes), request(&[&[5, 1, 0][..], &bytes].concat())] {
                if let Read::Whole(_, length) = message {
                    prop_assert!(length <= MAX_MESSAGE);
                }
            }
        }
    }
}
