//! Changes JSON texts string by string and number by number, so that they are still JSON.

use super::dice::Dice;
use super::frames;

/// What could do harm in a string, or means another document to the target.
const INSIDE: [&str; 12] =
    ["\\u0000", "x\\u0000y", "\\n", "\\u001b[2J", "\\u202e", "/", "../", "=", "@1", "@2", "@3", "linux"];

const NUMBERS: [&str; 9] =
    ["0", "1", "-1", "#1", "#2", "18446744073709551615", "18446744073709551616", "1e999", "null"];

/// Changes one text, in a place or two.
pub fn text(content: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(2) {
        change(content, dice);
    }
}

fn change(content: &mut Vec<u8>, dice: &mut Dice) {
    let (strings, numbers) = values(content);
    match dice.below(5) {
        0..=2 if !strings.is_empty() => {
            let (from, to) = dice.pick(&strings);
            let word = dice.pick(&INSIDE).bytes();
            if dice.below(4) == 0 {
                content.splice(from..to, word);
            } else {
                let at = from + dice.below(to - from + 1);
                content.splice(at..at, word);
            }
        }
        3 if !numbers.is_empty() => {
            let (from, to) = dice.pick(&numbers);
            content.splice(from..to, dice.pick(&NUMBERS).bytes());
        }
        _ => frames::bytes(content, dice),
    }
}

/// Where the insides of strings are, and numbers.
fn values(content: &[u8]) -> (Vec<(usize, usize)>, Vec<(usize, usize)>) {
    let (mut strings, mut numbers, mut at) = (Vec::new(), Vec::new(), 0);
    while at < content.len() {
        let from = at;
        at += 1;
        if content[from] == b'"' {
            while at < content.len() && content[at] != b'"' {
                at += if content[at] == b'\\' { 2 } else { 1 };
            }
            if at < content.len() {
                strings.push((from + 1, at));
            }
            at += 1;
        } else if content[from].is_ascii_digit() || content[from] == b'#' {
            while at < content.len() && content[at].is_ascii_digit() {
                at += 1;
            }
            numbers.push((from, at));
        }
    }
    (strings, numbers)
}
