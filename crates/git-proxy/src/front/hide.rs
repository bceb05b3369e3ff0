//! A credential that a host says back is not handed on.
//!
//! ```text
//!   … the token … ─▶ … ********* …      as long as it was, so that packets keep their lengths
//! ```

/// Covers some words in a stream.
#[derive(Debug, Default)]
pub(crate) struct Hide {
    words: Vec<Vec<u8>>,
    /// What may be the begin of one.
    held: Vec<u8>,
}

impl Hide {
    /// Covers these; an empty one is none.
    pub(crate) fn of(words: impl IntoIterator<Item = String>) -> Self {
        let words = words.into_iter().filter(|word| !word.is_empty()).map(String::into_bytes);
        Self { words: words.collect(), held: Vec::new() }
    }

    /// Takes the next piece; gives what can go on.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        for word in &self.words {
            let mut at = 0;
            while let Some(found) = self.held[at..].windows(word.len()).position(|window| window == word) {
                at += found;
                self.held[at..at + word.len()].fill(b'*');
            }
        }
        let ends = |length: usize| {
            let tail = &self.held[self.held.len() - length..];
            self.words.iter().any(|word| word.len() > length && word.starts_with(tail))
        };
        let longest = self.words.iter().map(Vec::len).max().unwrap_or(0).min(self.held.len() + 1);
        let kept = (1..longest).rev().find(|length| ends(*length)).unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// What is left at the end.
    pub(crate) fn end(self) -> Vec<u8> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_cut_lets_one_through_and_nothing_else_changes(text in "[ab]{0,40}", cuts in proptest::collection::vec(0usize..6, 0..20)) {
            let mut hide = Hide::of(["aab".to_owned(), "bbbb".to_owned(), String::new()]);
            let (mut out, mut at) = (Vec::new(), 0);
            for cut in cuts {
                let end = text.len().min(at + cut);
                out.extend(hide.push(&text.as_bytes()[at..end]));
                at = end;
            }
            out.extend(hide.push(&text.as_bytes()[at..]));
            out.extend(hide.end());
            let out = String::from_utf8(out).unwrap();
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(!out.contains("aab") && !out.contains("bbbb"), "{}: {}", text, out);
            if !text.contains("aab") && !text.contains("bbbb") {
                prop_assert_eq!(out, text);
            }
        }
    }
}
