//! A command's output: kept within bounds, and turned into text for a reader without a terminal.
//!
//! ```text
//!  bytes ──▶ first 8 MiB ┐                ┌──▶ whole (blob)
//!        └─▶ last 64 KiB ┴─▶ plain text ──┴──▶ head … tail within a cap (what the model reads)
//! ```

use std::collections::VecDeque;

/// The most of an output that is kept.
const MAX_FULL: usize = 8 * 1024 * 1024;

/// The most of an output's end that is kept when it is longer.
const MAX_TAIL: usize = 64 * 1024;

/// Collects an output of any length in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Output {
    full: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

/// Text within a cap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Capped {
    /// The text; where it was cut it says so in the middle.
    pub(crate) text: String,
    /// Characters that were left out.
    pub(crate) left_out: usize,
}

impl Output {
    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = MAX_FULL - self.full.len();
        self.full.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.tail.extend(&bytes[bytes.len().saturating_sub(MAX_TAIL)..]);
        let over = self.tail.len().saturating_sub(MAX_TAIL);
        self.tail.drain(..over);
    }

    /// The bytes that were kept from the start, and whether there were more.
    pub(crate) fn full(&self) -> (&[u8], bool) {
        (&self.full, self.total > self.full.len() as u64)
    }

    /// The last 64 KiB at most, as they came.
    pub(crate) fn raw_tail(&self) -> String {
        let (head, rest) = self.tail.as_slices();
        let bytes = [head, rest].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether the plain text differs from what came, by colours or progress lines.
    pub(crate) fn has_terminal_codes(&self) -> bool {
        self.full.iter().any(|byte| *byte < 0x20 && !matches!(byte, b'\n' | b'\t'))
    }

    /// The plain text; of an output longer than was kept, its start and its end.
    pub(crate) fn plain(&self) -> String {
        let (full, more) = self.full();
        let text = plain(&String::from_utf8_lossy(full));
        if !more {
            return text;
        }
        let missing = self.total - full.len() as u64;
        format!("{text}\n[… about {missing} bytes were not kept …]\n{}", plain(&self.raw_tail()))
    }
}

/// The text within `cap` characters: its head and its tail, with a note between them.
pub(crate) fn capped(text: &str, cap: usize, note: &str) -> Capped {
    let count = text.chars().count();
    if count <= cap {
        return Capped { text: text.to_owned(), left_out: 0 };
    }
    let half = cap / 2;
    let head_end = text.char_indices().nth(half).map_or(text.len(), |(at, _)| at);
    let tail_start = text.char_indices().nth(count - (cap - half)).map_or(text.len(), |(at, _)| at);
    // Whole lines read better, where they cost little.
    let head = &text[..head_end];
    let head = head.rfind('\n').filter(|at| head.len() - at < 400).map_or(head, |at| &head[..at]);
    let tail = &text[tail_start..];
    let tail = tail.find('\n').filter(|at| *at < 400).map_or(tail, |at| &tail[at + 1..]);
    let left_out = count - head.chars().count() - tail.chars().count();
    Capped { text: format!("{head}\n\n[… {left_out} characters left out{note} …]\n\n{tail}"), left_out }
}

/// The text as it would stand on paper: no escape sequences, and of a line that was written over with
/// carriage returns the last version.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut line_start = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\n' => {
                out.push('\n');
                line_start = out.len();
            }
            // A line end of CR LF, or a line that nothing is written over, stays.
            '\r' if matches!(characters.peek(), None | Some('\n' | '\r')) => {}
            '\r' => out.truncate(line_start),
            '\u{8}' => {
                if out.len() > line_start {
                    out.pop();
                }
            }
            '\t' => out.push('\t'),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

/// Skips what follows an ESC: CSI up to its final byte, OSC and its like up to their terminator, and
/// two-character sequences.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => {
            // A final byte ends it; what cannot be part of a sequence is left for the text.
            while let Some(next) = characters.peek() {
                let is_part = matches!(next, '\u{20}'..='\u{7e}');
                let is_final = matches!(next, '\u{40}'..='\u{7e}');
                if !is_part {
                    break;
                }
                characters.next();
                if is_final {
                    break;
                }
            }
        }
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(next) = characters.next() {
                if next == '\u{7}' || (next == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some('(' | ')' | '#' | '%') => {
            characters.next();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_titles_and_progress_are_taken_out() {
        for (raw, expected) in [
            ("\u{1b}[1;31merror\u{1b}[0m: x", "error: x"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://h\u{1b}\\b", "ab"),
            ("10%\r50%\r100%\ndone\r\n", "100%\ndone\n"),
            ("same\r", "same"),
            ("ab\u{8}c\u{0}\u{7}", "ac"),
            ("\u{1b}(Bplain\u{1b}", "plain"),
            ("tab\tand ü\u{1b}[2K", "tab\tand ü"),
        ] {
            assert_eq!(plain(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_long_text_keeps_its_head_and_its_tail() {
        let text: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
        let Capped { text: cut, left_out } = capped(&text, 200, "");
        assert!(cut.starts_with("line 0\n") && cut.ends_with("line 999\n"), "{cut}");
        assert!(cut.contains(&format!("[… {left_out} characters left out …]")));
        assert!(cut.chars().count() < 260 && left_out > 8_000);
        assert_eq!(capped("short", 5, "").left_out, 0);
        assert_eq!(capped(&"ü".repeat(100), 10, "").left_out, 90);
    }

    #[test]
    fn an_endless_output_stays_within_bounds() {
        let mut output = Output::default();
        for number in 0..1_500_u32 {
            output.push(&[b'a' + u8::try_from(number % 26).unwrap(); 10_000]);
        }
        output.push(b"the end");
        let (full, more) = output.full();
        assert!(more && full.len() == MAX_FULL);
        assert!(output.raw_tail().ends_with("the end") && output.raw_tail().len() == MAX_TAIL);
        assert!(output.plain().ends_with("the end"));
    }
}
