//! Changes tar archives entry by entry; the sums of their headers stay right, so that what a change
//! says is read.

use super::dice::Dice;
use super::frames;

const BLOCK: usize = 512;

/// Parts of names: those of the first inputs, those that lead elsewhere, and what removes in layers.
const PARTS: [&[u8]; 14] = [
    b"tree",
    b"a",
    b"b",
    b"usr",
    b"out",
    b"canary",
    b"..",
    b".",
    b"",
    b".wh.a",
    b".wh.usr",
    b".wh...",
    b".wh..wh..opq",
    b"../..",
];

const KINDS: &[u8] = b"01234567gxLKS\0Z";

/// Keys of extended headers.
const KEYS: [&str; 8] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.security.capability",
    "GNU.sparse.major",
];

const NUMBERS: [u64; 9] = [0, 1, 0o644, 0o4755, 511, 513, 65_536, 0o777_7777_7777, u64::MAX];

#[derive(Clone)]
struct Entry {
    header: Vec<u8>,
    content: Vec<u8>,
}

/// Changes one archive.
pub fn archive(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let mut entries = split(bytes);
    if entries.is_empty() || dice.below(40) == 0 {
        return frames::bytes(bytes, dice);
    }
    let (at, other) = (dice.below(entries.len()), dice.below(entries.len()));
    match dice.below(12) {
        0 => entries.swap(at, other),
        1 => entries.insert(other, entries[at].clone()),
        2 if entries.len() > 1 => drop(entries.remove(at)),
        3 if !entries[at].content.is_empty() => {
            frames::bytes(&mut entries[at].content, dice);
            let size = entries[at].content.len() as u64;
            number(&mut entries[at].header[124..136], size);
        }
        4 => extended(&mut entries[at], dice),
        _ => {
            let other = name_of(&entries[other].header);
            field(&mut entries[at].header, &other, dice);
        }
    }
    bytes.clear();
    for entry in &mut entries {
        sum(&mut entry.header);
        bytes.extend(&entry.header);
        bytes.extend(&entry.content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
}

fn split(bytes: &[u8]) -> Vec<Entry> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some(header) = bytes.get(at..at + BLOCK).filter(|header| header.iter().any(|byte| *byte != 0)) {
        let digits = header[124..136].iter().filter(|byte| (b'0'..=b'7').contains(byte));
        let size = digits.fold(0_usize, |size, digit| (size << 3 | usize::from(digit - b'0')) & 0xff_ffff);
        let end = bytes.len().min(at + BLOCK + size);
        entries.push(Entry { header: header.to_vec(), content: bytes[at + BLOCK..end].to_vec() });
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    entries
}

/// The name of an entry, without what fills its field.
fn name_of(header: &[u8]) -> Vec<u8> {
    header[..100].iter().copied().take_while(|byte| *byte != 0).collect()
}

/// Another value for one field.
fn field(header: &mut [u8], other: &[u8], dice: &mut Dice) {
    match dice.below(10) {
        // Below another entry, whatever that is.
        0 | 1 => text(&mut header[..100], &[other, b"/", dice.pick(&PARTS)].concat()),
        2 => text(&mut header[..100], &name(dice)),
        3 | 4 => text(&mut header[157..257], &name(dice)),
        5 | 6 => header[156] = dice.pick(KINDS),
        7 => {
            let (from, to) = dice.pick(&[(100, 108), (108, 116), (116, 124), (124, 136), (136, 148)]);
            number(&mut header[from..to], dice.pick(&NUMBERS));
        }
        // A number in the way of those that are too large for digits.
        8 => header[124] |= 0x80,
        _ => {
            let at = dice.below(BLOCK);
            header[at] = dice.below(256) as u8;
        }
    }
}

fn name(dice: &mut Dice) -> Vec<u8> {
    let count = 1 + dice.below(4);
    let parts: Vec<&[u8]> = (0..count).map(|_| dice.pick(&PARTS)).collect();
    let name = parts.join(&b'/');
    if dice.below(8) == 0 { [b"/", name.as_slice()].concat() } else { name }
}

/// Makes it an extended header: true records, or one whose length lies.
fn extended(entry: &mut Entry, dice: &mut Dice) {
    let key = dice.pick(&KEYS);
    let value = match dice.below(3) {
        0 => dice.pick(&NUMBERS).to_string().into_bytes(),
        1 => name(dice),
        _ => entry.content.clone(),
    };
    let rest = [format!(" {key}=").as_bytes(), &value, b"\n"].concat();
    // The length counts its own digits.
    let mut length = rest.len() + 1;
    while rest.len() + length.to_string().len() != length {
        length += 1;
    }
    if dice.below(4) == 0 {
        length = dice.pick(&[0, 1, 2, length - 1, length + 1, 99_999, usize::MAX]);
    }
    entry.content = [length.to_string().as_bytes(), &rest].concat();
    entry.header[156] = b'x';
    let size = entry.content.len() as u64;
    number(&mut entry.header[124..136], size);
}

fn text(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

fn number(field: &mut [u8], number: u64) {
    let digits = format!("{number:0width$o}", width = field.len() - 1);
    let last = digits.len().saturating_sub(field.len() - 1);
    text(field, &digits.as_bytes()[last..]);
}

fn sum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
