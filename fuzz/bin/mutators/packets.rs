//! Changes inputs packet by packet, for git's protocols: the lengths stay true.

use libfuzzer_sys::fuzzer_mutate;

use super::dice::Dice;
use super::frames;

/// What separates something, or means something at the beginning of a line.
const INSIDE: [&[u8]; 16] = [
    b"\0", b"\n", b" ", b"\r", b"\0 report-status", b"\0 push-options", b" side-band-64k", b" atomic",
    b"push-cert", b"shallow ", b"refs/heads/", b"refs/tags/", b"0", b"A", b"\x01", b"ng ",
];

/// Changes an input of `size` bytes in `data`; gives its new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed);
    let (mut packets, mut rest) = split(&data[..size]);
    if packets.is_empty() || dice.below(20) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let (at, other) = (dice.below(packets.len()), dice.below(packets.len()));
    match dice.below(12) {
        0 => packets.swap(at, other),
        1 => packets.insert(other, packets[at].clone()),
        2 if packets.len() > 1 => drop(packets.remove(at)),
        3 => rest.splice(0..0, *b"0000").for_each(drop),
        4 => frames::bytes(&mut packets[at], &mut dice),
        _ => {
            let place = dice.below(packets[at].len() + 1);
            packets[at].splice(place..place, dice.pick(&INSIDE).iter().copied());
        }
    }
    let written = packets.iter().flat_map(|packet| [format!("{:04x}", packet.len() + 4).as_bytes(), packet].concat());
    let changed: Vec<u8> = written.chain(rest).collect();
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
}

/// The packets up to the first that is none, and what follows.
fn split(mut data: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut packets = Vec::new();
    loop {
        let digits = data.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
        let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(content) = length.filter(|length| *length > 4).and_then(|length| data.get(4..length)) else {
            return (packets, data.to_vec());
        };
        packets.push(content.to_vec());
        data = &data[content.len() + 4..];
    }
}
