//! Text that grows to a limit.

/// The longest line that is given.
const MAX_LINE: usize = 2_000;

/// The longest text that is given.
const MAX_TEXT: usize = 256 * 1024;

/// Lines from `offset`, at most `limit` of them and at most 256 KiB.
#[derive(Debug)]
pub(super) struct Lines {
    text: String,
    skip: usize,
    room: usize,
    truncated: bool,
}

/// A state of [`Lines`].
#[derive(Debug)]
pub(super) struct Mark {
    length: usize,
    skip: usize,
    room: usize,
    truncated: bool,
}

impl Lines {
    /// No lines yet; a limit of 0 is none.
    pub(super) fn new(offset: usize, limit: usize) -> Self {
        let room = if limit == 0 { usize::MAX } else { limit };
        Self { text: String::new(), skip: offset, room, truncated: false }
    }

    /// Adds a line; false once nothing more fits.
    pub(super) fn push(&mut self, prefix: &str, line: &[u8]) -> bool {
        if self.truncated {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return true;
        }
        let line = shorten(line);
        if self.room == 0 || self.text.len() + prefix.len() + line.len() + 1 > MAX_TEXT {
            self.truncated = true;
            return false;
        }
        self.room -= 1;
        self.text.push_str(prefix);
        self.text.push_str(&line);
        self.text.push('\n');
        true
    }

    /// A state to come back to.
    pub(super) fn mark(&self) -> Mark {
        Mark { length: self.text.len(), skip: self.skip, room: self.room, truncated: self.truncated }
    }

    /// Takes back what came after a mark.
    pub(super) fn take_back(&mut self, mark: &Mark) {
        self.text.truncate(mark.length);
        (self.skip, self.room, self.truncated) = (mark.skip, mark.room, mark.truncated);
    }

    /// The text, and whether lines were left out.
    pub(super) fn finish(mut self) -> (String, bool) {
        if self.text.ends_with('\n') {
            self.text.pop();
        }
        (self.text, self.truncated)
    }
}

/// A line without its end, cut at 2,000 characters.
fn shorten(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // No character is longer than four bytes, so this much holds all that can be given.
    let text = String::from_utf8_lossy(&line[..line.len().min(MAX_LINE * 4 + 4)]);
    match text.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_and_limit_cut_a_window() {
        let mut lines = Lines::new(1, 2);
        let taken: Vec<bool> = ["a", "b", "c", "d"].map(|line| lines.push("", line.as_bytes())).to_vec();
        assert_eq!(taken, [true, true, true, false]);
        assert_eq!(lines.finish(), ("b\nc".to_owned(), true));
    }

    #[test]
    fn long_lines_and_texts_are_cut() {
        assert_eq!(shorten("é".repeat(5_000).as_bytes()).chars().count(), MAX_LINE + 1);
        let mut lines = Lines::new(0, 0);
        let line = vec![b'x'; 1_000];
        while lines.push("p:", &line) {}
        let (text, truncated) = lines.finish();
        assert!(truncated && text.len() <= MAX_TEXT && text.len() > MAX_TEXT - 2_000);
    }
}
