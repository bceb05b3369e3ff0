//! Changes inputs frame by frame, so that what comes after a change is still read.
//!
//! ```text
//!   prefix │ u32 little-endian length │ content │ length │ content …
//!                    ▲                     └── one content is changed, or frames change places, are
//!                    └── always true           said twice, are left out
//! ```
//!
//! Now and then the bytes are changed as they are: a length that lies is an input too.

use libfuzzer_sys::fuzzer_mutate;

use super::dice::Dice;

/// Numbers at which something ends.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0x80, 0x3fff, 0x1_0000, 0x10_0000, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// How a content is changed.
pub type Change = fn(&mut Vec<u8>, &mut Dice);

/// Changes an input of `size` bytes in `data`; gives its new size.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    prefix: usize,
    change: Change,
) -> usize {
    let mut dice = Dice::new(seed);
    let mut frames = split(data.get(prefix..size).unwrap_or_default());
    if frames.is_empty() || dice.below(40) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let (at, other) = (dice.below(frames.len()), dice.below(frames.len()));
    match dice.below(12) {
        0 => frames.swap(at, other),
        1 => frames.insert(other, frames[at].clone()),
        2 if frames.len() > 1 => drop(frames.remove(at)),
        _ => change(&mut frames[at], &mut dice),
    }
    let changed = frames.iter().map(|content| frame(content)).collect::<Vec<_>>().concat();
    if prefix + changed.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[prefix..prefix + changed.len()].copy_from_slice(&changed);
    prefix + changed.len()
}

fn frame(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), content].concat()
}

fn split(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = data.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*header) as usize;
        let Some((content, rest)) = rest.split_at_checked(length) else { break };
        frames.push(content.to_vec());
        data = rest;
    }
    frames
}

/// Any bytes: as libFuzzer changes them, with some room to grow.
pub fn bytes(content: &mut Vec<u8>, _: &mut Dice) {
    let size = content.len();
    content.resize(size + size / 4 + 32, 0);
    let most = content.len();
    let size = fuzzer_mutate(content, size, most);
    content.truncate(size);
}

/// A message of the guest wire: its numbers and lengths are varints, and those at the edges matter; its
/// texts are names and words, in which some letters mean something.
pub fn message(content: &mut Vec<u8>, dice: &mut Dice) {
    let letters: Vec<usize> = (0..content.len()).filter(|at| content[*at].is_ascii_graphic()).collect();
    match dice.below(4) {
        0 if !letters.is_empty() => content[dice.pick(&letters)] = dice.pick(b"/.\0\n-"),
        1 if !content.is_empty() => {
            let at = dice.below(content.len());
            let end = content[at..].iter().position(|byte| *byte < 0x80);
            content.splice(at..end.map_or(content.len(), |more| at + more + 1), varint(dice.pick(&EDGES)));
        }
        _ => bytes(content, dice),
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
