//! Where the lines of the log go.

use std::io::{self, Write};

/// The longest line.
const MOST: usize = 8_000;

/// Standard error, of which every event is one line: what an event quotes may come from a sandbox, and
/// must neither begin a line of its own nor steer the terminal that shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneLine;

impl Write for OneLine {
    /// Takes one whole event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(line(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

fn line(event: &str) -> String {
    let event = event.strip_suffix('\n').unwrap_or(event);
    let letters = event.chars().flat_map(|letter| {
        let turns =
            matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let escaped = (letter.is_control() || turns).then(|| letter.escape_default());
        let plain = escaped.is_none().then_some(letter);
        escaped.into_iter().flatten().chain(plain)
    });
    letters.take(MOST).chain(['\n']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_quotes() {
        let event = "WARN gone reason=\"a\r\n{\"level\":\"info\"}\x1b[2J\u{202e}\u{2028}ä\"\n";
        assert_eq!(
            line(event),
            "WARN gone reason=\"a\\r\\n{\"level\":\"info\"}\\u{1b}[2J\\u{202e}\\u{2028}ä\"\n"
        );
        assert_eq!(line(&"x".repeat(100_000)).len(), MOST + 1);
    }
}
