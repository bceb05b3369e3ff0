//! Pkt-lines: what git's protocols are made of.
//!
//! ```text
//!   four hex digits: the length, with themselves │ content       0000: flush
//! ```

/// The longest packet, with its length.
pub(crate) const MAX_PACKET: usize = 65_520;

/// The longest content of a packet on a side band: the length and the band's number come before it.
const MAX_BAND: usize = 65_515;

/// What the bytes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// Not a whole packet yet.
    Half,
    /// A packet, and how many bytes it takes.
    Whole(Packet<'a>, usize),
    /// No packet: the length is none.
    Refused,
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// `0000`.
    Flush,
    /// `0001` and `0002`, which stand in version 2 only.
    Special,
    /// Content.
    Data(&'a [u8]),
}

/// Reads the first packet.
pub(crate) fn read(bytes: &[u8]) -> Read<'_> {
    let Some(digits) = bytes.first_chunk::<4>() else {
        return if bytes.iter().all(u8::is_ascii_hexdigit) { Read::Half } else { Read::Refused };
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let length = digits.iter().try_fold(0, |length, byte| Some(length * 16 + digit(byte)?));
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(0) => Read::Whole(Packet::Flush, 4),
        Some(1 | 2) => Read::Whole(Packet::Special, 4),
        Some(length @ 4..=MAX_PACKET) => {
            bytes.get(4..length).map_or(Read::Half, |data| Read::Whole(Packet::Data(data), length))
        }
        _ => Read::Refused,
    }
}

/// Appends a packet with this content, which is cut to what one can have.
pub(crate) fn write(to: &mut Vec<u8>, content: &[u8]) {
    let content = &content[..content.len().min(MAX_PACKET - 4)];
    to.extend(format!("{:04x}", content.len() + 4).bytes());
    to.extend(content);
}

/// Appends content on a side band, in as many packets as it takes.
pub(crate) fn write_band(to: &mut Vec<u8>, band: u8, content: &[u8]) {
    for piece in content.chunks(MAX_BAND) {
        write(to, &[&[band], piece].concat());
    }
}

/// The packet that ends a list.
pub(crate) const FLUSH: &[u8] = b"0000";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_four_hex_digits_and_nothing_else() {
        for (bytes, wanted) in [
            (&b""[..], Read::Half),
            (b"00", Read::Half),
            (b"0000x", Read::Whole(Packet::Flush, 4)),
            (b"0001", Read::Whole(Packet::Special, 4)),
            (b"0002", Read::Whole(Packet::Special, 4)),
            (b"0003", Read::Refused),
            (b"0004", Read::Whole(Packet::Data(b""), 4)),
            (b"0006ab", Read::Whole(Packet::Data(b"ab"), 6)),
            (b"000Aabcdefgh", Read::Whole(Packet::Data(b"abcdef"), 10)),
            (b"0006a", Read::Half),
            (b"fff0", Read::Half),
            (b"fff1", Read::Refused),
            (b"ffff", Read::Refused),
            (b"+006", Read::Refused),
            (b"0x06", Read::Refused),
            (b" 006", Read::Refused),
            (b"-", Read::Refused),
        ] {
            assert_eq!(read(bytes), wanted, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(any::<u8>(), 0..300), rest in any::<[u8; 3]>()) {
            let mut bytes = Vec::new();
            write(&mut bytes, &content);
            let whole = bytes.len();
            for end in 0..whole {
                prop_assert_eq!(read(&bytes[..end]), Read::Half);
            }
            bytes.extend(rest);
            prop_assert_eq!(read(&bytes), Read::Whole(Packet::Data(&content), whole));
        }
    }
}
