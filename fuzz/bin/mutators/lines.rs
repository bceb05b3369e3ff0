//! Changes inputs line by line, for protocols whose lines end with CR LF.

use libfuzzer_sys::fuzzer_mutate;

use super::dice::Dice;

/// What separates something for one reader or another.
const INSIDE: [&[u8]; 32] = [
    b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"/", b"//", b"?", b"#", b"@", b"\\", b"%2e", b"%00",
    b"[", b"]", b"[::1]", b"::ffff:", b"127.1", b"0x7f", b"+", b"-", b"0", b"1", b"a", b"f", b";", b",",
    b".", b"http://", b"xn--",
];

/// Whole lines that mean something.
const LINES: [&[u8]; 12] = [
    b"Host: b.test",
    b"Content-Length: 3",
    b"content-length:0",
    b"Transfer-Encoding: chunked",
    b"Connection: close, host, content-length",
    b"Expect: 100-continue",
    b"Upgrade: h2c",
    b"X: y",
    b" folded",
    b"",
    b"0",
    b"3;x=y",
];

/// Changes an input of `size` bytes in `data`; gives its new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed);
    if size == 0 || dice.below(8) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut lines = split(&data[..size]);
    let (at, other) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(12) {
        0 => lines.swap(at, other),
        1 => lines.insert(other, lines[at].clone()),
        2 if lines.len() > 1 => drop(lines.remove(at)),
        3 | 4 => lines.insert(other, dice.pick(&LINES).to_vec()),
        5 => lines[at].make_ascii_uppercase(),
        6 if !lines[at].is_empty() => {
            let place = dice.below(lines[at].len());
            lines[at].remove(place);
        }
        _ => {
            let place = dice.below(lines[at].len() + 1);
            lines[at].splice(place..place, dice.pick(&INSIDE).iter().copied());
        }
    }
    let changed = lines.join(&b"\r\n"[..]);
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
}

fn split(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    while let Some(at) = data.windows(2).position(|two| two == b"\r\n") {
        lines.push(data[..at].to_vec());
        data = &data[at + 2..];
    }
    lines.push(data.to_vec());
    lines
}
