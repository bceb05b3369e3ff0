//! Standard output for results, standard error for remarks.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

/// A line of the result. A reader that went away ends nothing: the task goes on without it.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Bytes of the result that somebody else wrote: to a terminal without what would steer it, to a
/// file or a program as they are.
pub(crate) fn from_elsewhere(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&shown(bytes, out.is_terminal()));
    let _ = out.flush();
}

fn shown(bytes: &[u8], to_terminal: bool) -> Cow<'_, [u8]> {
    match to_terminal {
        true => Cow::Owned(plain(&String::from_utf8_lossy(bytes)).into_bytes()),
        false => Cow::Borrowed(bytes),
    }
}

/// One JSON value on a line.
pub(crate) fn json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        line(&text);
    }
}

/// A remark for the person.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Text without the end of a line, at once.
pub(crate) fn raw_note(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes());
    let _ = err.flush();
}

/// Whether remarks are read by a person now.
pub(crate) fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Text from elsewhere, safe to show on a terminal: no control characters, nothing that turns the
/// direction of text around.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// As [`plain`], on one line and with an end: for lists, where a line is an entry.
pub(crate) fn in_line(text: &str, most: usize) -> String {
    let mut letters = text.chars();
    // What is far beyond the end is not even looked at.
    let some: String = letters.by_ref().take(most + 1).collect();
    let plain = plain(&some).replace(['\n', '\t', '\u{2028}', '\u{2029}'], " ");
    if plain.chars().count() <= most {
        return plain;
    }
    plain.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered_and_a_file_gets_every_byte() {
        let patch = b"+\ttab \x1b]0;title\x07 \xff\xe2\x80\xae\n-x\r\n";
        assert_eq!(shown(patch, false), &patch[..]);
        let text = String::from_utf8(shown(patch, true).into_owned()).unwrap();
        assert_eq!(text, "+\ttab \u{fffd}]0;title\u{fffd} \u{fffd}\u{fffd}\n-x\u{fffd}\n");
    }

    #[test]
    fn an_entry_of_a_list_is_one_line_with_an_end() {
        assert_eq!(in_line("a\nb\tc\u{2028}d\x1b[2J\u{202e}", 20), "a b c d\u{fffd}[2J\u{fffd}");
        assert_eq!(in_line(&"ä".repeat(4096), 5), "ääää…");
        assert_eq!(in_line("whole", 5), "whole");
    }
}
