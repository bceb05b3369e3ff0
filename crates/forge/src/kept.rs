//! Answers that are kept by their ETag: what did not change costs nothing of a token's limit.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest as _, Sha256};

use crate::token::Token;

/// The most answers.
const MOST: usize = 256;

/// The longest one, in bytes.
const LONGEST: usize = 256 * 1024;

/// Whose answer to what.
pub(crate) type Key = [u8; 32];

/// An answer.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) etag: String,
    pub(crate) body: Vec<u8>,
    /// The address of the next page.
    pub(crate) next: Option<String>,
}

/// The answers of one server, the oldest going first.
#[derive(Default)]
pub(crate) struct Answers {
    by_key: HashMap<Key, Kept>,
    order: VecDeque<Key>,
}

/// Answers are of one token, one address and one kind.
pub(crate) fn key(token: Option<&Token>, url: &str, accept: &str) -> Key {
    let mut hash = Sha256::new();
    for part in [token.map_or(&[][..], Token::bytes), url.as_bytes(), accept.as_bytes()] {
        hash.update(u64::try_from(part.len()).unwrap_or_default().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Answers {
    pub(crate) fn get(&self, key: &Key) -> Option<Kept> {
        self.by_key.get(key).cloned()
    }

    pub(crate) fn put(&mut self, key: Key, kept: Kept) {
        if kept.body.len() > LONGEST {
            return;
        }
        if self.by_key.insert(key, kept).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.by_key.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_an_end_and_are_of_one_token() {
        let mut answers = Answers::default();
        let kept = || Kept { etag: "e".into(), body: Vec::new(), next: None };
        let of = |number: usize| key(None, &number.to_string(), "");
        for number in 0..=MOST {
            answers.put(of(number), kept());
        }
        assert!(answers.get(&of(0)).is_none() && answers.get(&of(1)).is_some());
        assert_eq!(answers.by_key.len(), MOST);
        answers.put(of(9999), Kept { body: vec![0; LONGEST + 1], ..kept() });
        assert!(answers.get(&of(9999)).is_none());
        assert_ne!(key(Some(&Token::new("a")), "u", ""), key(Some(&Token::new("b")), "u", ""));
        assert_ne!(key(Some(&Token::new("a")), "u", ""), key(None, "au", ""));
    }
}
