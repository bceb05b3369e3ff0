//! Changes JSON texts string by string and number by number, so that they are still JSON.

use super::dice::Dice;
use super::frames;

/// What could do harm in a string, or means another document to the target.
const INSIDE: [&str; 12] =
    ["\\u0000", "x\\u0000y", "\\n", "\\u001b[2J", "\\u202e", "/", "../", "=", "@1", "@2", "@3", "linux"];

const NUMBERS: [&str; 9] =
    ["0", "1", "-1", "#1", "#2", "18446744073709551615", "18446744073709551616", "1e999", "null"];

/// Changes one text, in one place: a second change would mostly hide what the first one does.
pub fn text(content: &mut Vec<u8>, dice: &mut Dice) {
    let Values { keys, strings, numbers } = values(content);
    match dice.below(8) {
        kind @ 0..=5 if !strings.is_empty() => {
            // Under another key, most of what a document says is not looked at.
            let (from, to) = dice.pick(if kind == 0 && !keys.is_empty() { &keys } else { &strings });
            let word = dice.pick(&INSIDE).bytes();
            if dice.below(4) == 0 {
                content.splice(from..to, word);
            } else {
                let at = from + dice.below(to - from + 1);
                content.splice(at..at, word);
            }
        }
        6 if !numbers.is_empty() => {
            let (from, to) = dice.pick(&numbers);
            content.splice(from..to, dice.pick(&NUMBERS).bytes());
        }
        _ => frames::bytes(content, dice),
    }
}

/// From where to where.
type Place = (usize, usize);

/// The insides of strings, and numbers.
#[derive(Default)]
struct Values {
    keys: Vec<Place>,
    strings: Vec<Place>,
    numbers: Vec<Place>,
}

fn values(content: &[u8]) -> Values {
    let (mut found, mut at) = (Values::default(), 0);
    while at < content.len() {
        let from = at;
        at += 1;
        if content[from] == b'"' {
            while at < content.len() && content[at] != b'"' {
                at += if content[at] == b'\\' { 2 } else { 1 };
            }
            if at < content.len() {
                let is_key = content.get(at + 1) == Some(&b':');
                if is_key { &mut found.keys } else { &mut found.strings }.push((from + 1, at));
            }
            at += 1;
        } else if content[from].is_ascii_digit() || content[from] == b'#' {
            while at < content.len() && content[at].is_ascii_digit() {
                at += 1;
            }
            found.numbers.push((from, at));
        }
    }
    found
}
