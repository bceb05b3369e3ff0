//! Server-sent events out of bytes.
//!
//! ```text
//!  bytes ──▶ lines (LF, CR LF or CR) ──▶ fields ──▶ an event at each empty line
//! ```
//!
//! Chunks may be cut anywhere, also inside a character or a line end. What follows the last empty
//! line when the stream ends is no event.

/// The longest event; more is no message stream but an attack on memory.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// Its `event` field; empty when there was none.
    pub name: String,
    /// Its `data` lines, joined by line feeds.
    pub data: String,
}

/// An event grew over the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {MAX_EVENT} bytes")]
pub struct SseTooLong;

/// Takes chunks and gives events.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    /// The last byte was CR: a LF right after it belongs to the same line end.
    after_cr: bool,
    /// A byte order mark may stand before the first line only.
    begun: bool,
    event: SseEvent,
    has_data: bool,
}

impl SseParser {
    /// Takes the next bytes and gives the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, SseTooLong> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.grow(rest)?;
                break;
            };
            self.grow(&rest[..end])?;
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.take_line(&mut events);
        }
        Ok(events)
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), SseTooLong> {
        if self.line.len() + self.event.data.len() + bytes.len() > MAX_EVENT {
            return Err(SseTooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take_line(&mut self, events: &mut Vec<SseEvent>) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let mut text = text.as_ref();
        if !std::mem::replace(&mut self.begun, true) {
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                events.push(event);
            }
            return;
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments have an empty field name; `id` and `retry` mean nothing to a single answer.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<SseEvent> {
        let mut parser = SseParser::default();
        chunks.iter().flat_map(|chunk| parser.push(chunk).unwrap()).collect()
    }

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { name: name.into(), data: data.into() }
    }

    #[test]
    fn every_line_end_comments_and_missing_blanks_are_understood() {
        for end in ["\n", "\r\n", "\r"] {
            let text = [
                "\u{feff}: hello",
                "event: a",
                "data: 1",
                "data:2",
                "",
                "",
                "data",
                "id: 7",
                "",
                "data: cut",
            ]
            .join(end);
            assert_eq!(parse(&[text.as_bytes()]), [event("a", "1\n2"), event("", "")], "{end:?}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = SseParser::default();
        let chunk = vec![b'x'; 1024 * 1024];
        assert!((0..17).any(|_| parser.push(&chunk).is_err()));
    }

    proptest! {
        #[test]
        fn cuts_anywhere_change_nothing(cuts in proptest::collection::vec(0_usize..120, 0..6)) {
            let text = "event: one\r\ndata: {\"a\":\"ä€😀\"}\r\n\r\n: ping\r\revent: two\ndata: x\ndata: y\n\ndata: z\n\n";
            let bytes = text.as_bytes();
            let mut points: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            points.extend([0, bytes.len()]);
            points.sort_unstable();
            let chunks: Vec<&[u8]> = points.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&chunks), parse(&[bytes]));
            prop_assert_eq!(parse(&chunks).len(), 3);
        }
    }
}
