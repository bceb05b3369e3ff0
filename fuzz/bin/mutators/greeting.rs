//! Changes greetings of TLS extension by extension; the lengths around a change stay true.
//!
//! ```text
//!   1 byte │ record(5) │ handshake(4) │ up to the extensions │ length(2) │ extensions: type │ length │ body …
//! ```

use libfuzzer_sys::fuzzer_mutate;

use super::dice::Dice;
use super::frames;

/// What a name could end or hide with.
const INSIDE: [&[u8]; 10] = [b".", b"\0", b"a", b"A", b"-", b"@", b"%", b"*", b"xn--", b"\0\0\x06a.test"];

/// Changes an input of `size` bytes in `data`; gives its new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed);
    let Some((before, mut extensions)) = split(&data[..size]).filter(|_| dice.below(6) != 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    change(&mut extensions, &mut dice);
    let said: Vec<u8> =
        extensions.iter().flat_map(|(kind, body)| [&kind[..], &long(body), body].concat()).collect();
    let message = [&before[10..], &long(&said), &said].concat();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let handshake = [&[1], &length[1..], &message].concat();
    let changed = [&before[..4], &long(&handshake), &handshake].concat();
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
}

type Extension = ([u8; 2], Vec<u8>);

fn change(extensions: &mut Vec<Extension>, dice: &mut Dice) {
    let (at, other) = (dice.below(extensions.len()), dice.below(extensions.len()));
    match dice.below(8) {
        0 => extensions.swap(at, other),
        1 => extensions.insert(other, extensions[at].clone()),
        2 if extensions.len() > 1 => drop(extensions.remove(at)),
        3 => extensions[at].0 = [0, dice.pick(&[0, 0, 10, 13, 16, 43, 51])],
        4 => frames::bytes(&mut extensions[at].1, dice),
        _ => {
            // A name with true lengths, of letters that mean something.
            let mut names = Vec::new();
            for _ in 0..=dice.below(2) {
                let mut name = b"api.allowed.test".to_vec();
                for _ in 0..dice.below(3) {
                    let place = dice.below(name.len() + 1);
                    name.splice(place..place, dice.pick(&INSIDE).iter().copied());
                }
                names.extend([&[dice.pick(&[0, 0, 0, 1])], &long(&name)[..], &name].concat());
            }
            extensions[at] = ([0, 0], [&long(&names)[..], &names].concat());
        }
    }
}

/// What stands before the extensions, and these; only of a greeting in one record.
fn split(data: &[u8]) -> Option<(Vec<u8>, Vec<Extension>)> {
    // What is before the record, its header, that of the handshake, version and random.
    let mut at = 1 + 5 + 4 + 2 + 32;
    at += 1 + usize::from(*data.get(at)?);
    at += 2 + usize::from(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
    at += 1 + usize::from(*data.get(at)?);
    let before = data.get(..at)?.to_vec();
    let mut rest = data.get(at + 2..)?;
    let mut extensions = Vec::new();
    while let Some((&[a, b, high, low], behind)) = rest.split_first_chunk::<4>() {
        let (body, behind) = behind.split_at_checked(usize::from(high) << 8 | usize::from(low))?;
        extensions.push(([a, b], body.to_vec()));
        rest = behind;
    }
    (!extensions.is_empty()).then_some((before, extensions))
}

fn long(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}
