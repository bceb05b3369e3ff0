//! What is kept of an agent's words.
//!
//! ```text
//!   one line for people ─ plain ─▶ no control characters, a bounded length
//!   a message, a result ─ Text ──▶ the beginning, and a note where the rest was cut
//!   JSON of any size ──── small ─▶ the same, or an object that says how large it was
//! ```

use std::io;

use serde_json::{Value, json};

/// Characters of one message or result that are kept.
pub(super) const MAX_TEXT: usize = 200_000;

/// Bytes of JSON of a call's input or output that are kept.
const MAX_JSON: usize = 64 * 1024;

/// What stands where the rest was cut.
const CUT: &str = "\n[cut here: it was longer than 200000 characters]";

/// One line of at most `most` characters, without anything that a terminal would obey.
pub(super) fn plain(text: &str, most: usize) -> String {
    text.chars()
        .take(most)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect()
}

/// The beginning of a text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Text {
    kept: String,
    characters: usize,
    is_cut: bool,
}

impl Text {
    /// Adds a piece and gives what was kept of it.
    pub(super) fn push(&mut self, piece: &str) -> &str {
        let room = MAX_TEXT - self.characters;
        let end = piece.char_indices().nth(room).map_or(piece.len(), |(end, _)| end);
        let start = self.kept.len();
        let piece_kept = &piece[..end];
        self.kept.push_str(piece_kept);
        self.characters += piece_kept.chars().count();
        self.is_cut |= end < piece.len();
        &self.kept[start..]
    }

    /// All of it, with a note when it was cut.
    pub(super) fn into_string(mut self) -> String {
        if self.is_cut {
            self.kept.push_str(CUT);
        }
        self.kept
    }
}

/// This value, or a note with its size in bytes when it is too large; and the bytes of what is kept.
pub(super) fn small(value: Value) -> (Value, usize) {
    let bytes = size(&value);
    if bytes <= MAX_JSON { (value, bytes) } else { (json!({ "truncated": true, "bytes": bytes }), 64) }
}

/// Bytes of a value as JSON.
fn size(value: &Value) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Writing to a counter cannot fail; a value that cannot be written is too large to keep.
    serde_json::to_writer(&mut counter, value).map_or(usize::MAX, |()| counter.0)
}
