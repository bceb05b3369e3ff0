//! One word of a shell's text.
//!
//! ```text
//!  ls 'a b'"$HOME"/x{1,2}   ─▶  [ls]  [a b …unknown]
//! ```

use super::shell::{Reader, Script};

/// A word without its quotes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// What is known of it: all, or what stands before the first thing that is not.
    pub text: String,
    /// Whether more follows that is known only when it runs.
    pub dynamic: bool,
    /// Whether files may stand in its place.
    pub glob: bool,
    /// Whether any of it is quoted.
    pub quoted: bool,
    /// Where the first quote stands in `text`.
    first_quote: Option<usize>,
}

/// Where a word ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// At blanks and operators.
    Command,
    /// With its closing quote.
    Quote,
    /// With its closing brace.
    Brace,
}

impl Word {
    /// A word that nothing is known of.
    #[must_use]
    pub fn unknown() -> Self {
        Self { dynamic: true, ..Self::default() }
    }

    /// A word that is what it says.
    #[must_use]
    pub fn known(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// The whole text, where it is known and stands for itself.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        (!self.dynamic && !self.glob).then_some(self.text.as_str())
    }

    pub(super) fn is_number(&self) -> bool {
        !self.dynamic
            && !self.quoted
            && !self.text.is_empty()
            && self.text.bytes().all(|b| b.is_ascii_digit())
    }

    /// `NAME=value`, `NAME+=value`, `NAME[…]=value`.
    pub(super) fn assignment(&self) -> Option<(String, Self)> {
        let (left, right) = self.text.split_once('=')?;
        if self.first_quote.is_some_and(|quote| quote < left.len()) {
            return None;
        }
        let name = left.strip_suffix('+').unwrap_or(left);
        let name = name.split_once('[').map_or(name, |(name, _)| name);
        let mut bytes = name.bytes();
        let is_name = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let value = Self { text: right.to_owned(), first_quote: None, ..self.clone() };
        is_name.then(|| (name.to_owned(), value))
    }

    fn push(&mut self, character: char) {
        if !self.dynamic {
            self.text.push(character);
        }
    }

    fn quote(&mut self) {
        self.quoted = true;
        if !self.dynamic {
            self.first_quote.get_or_insert(self.text.len());
        }
    }
}

impl Reader {
    /// Reads a word; it may be empty only in quotes or at an end.
    pub(super) fn word(&mut self, ends: Ends) -> Word {
        let mut word = Word::default();
        let from = self.at;
        while let Some(next) = self.peek(0) {
            match next {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>'
                    if ends == Ends::Command =>
                {
                    break;
                }
                '}' if ends == Ends::Brace => return word,
                '\\' => {
                    match self.peek(1) {
                        Some('\n') => {}
                        Some(escaped) => {
                            word.quote();
                            word.push(escaped);
                        }
                        None => self.unclear("it ends in a backslash"),
                    }
                    self.forward(2);
                }
                '\'' => {
                    if ends == Ends::Brace {
                        // Whether it quotes depends on what is around.
                        self.unclear("a quote stands in a ${…}");
                    }
                    self.single(&mut word);
                }
                '"' => {
                    self.forward(1);
                    self.double(&mut word);
                }
                '$' => self.dollar(&mut word),
                '`' => self.backticks(&mut word),
                '{' if ends == Ends::Command => self.brace(&mut word),
                _ => {
                    word.glob |= matches!(next, '*' | '?' | '[');
                    word.push(next);
                    self.forward(1);
                }
            }
        }
        if self.at == from {
            // Whatever it is, the next one begins behind it.
            self.unclear("a character is not understood");
            self.forward(1);
        }
        if ends == Ends::Brace {
            self.unclear("a brace is not closed");
        }
        word
    }

    /// Only what a text in double quotes expands.
    pub(super) fn expansions(&mut self) {
        let mut word = Word::default();
        while let Some(next) = self.peek(0) {
            match next {
                '\\' => self.forward(2),
                '$' => self.dollar(&mut word),
                '`' => self.backticks(&mut word),
                _ => self.forward(1),
            }
        }
    }

    fn single(&mut self, word: &mut Word) {
        word.quote();
        self.forward(1);
        while let Some(next) = self.peek(0) {
            self.forward(1);
            if next == '\'' {
                return;
            }
            word.push(next);
        }
        self.unclear("a quote is not closed");
    }

    /// Behind the opening quote.
    fn double(&mut self, word: &mut Word) {
        word.quote();
        while let Some(next) = self.peek(0) {
            match (next, self.peek(1)) {
                ('"', _) => {
                    self.forward(1);
                    return;
                }
                ('\\', Some('\n')) => self.forward(2),
                ('\\', Some(escaped @ ('$' | '`' | '"' | '\\'))) => {
                    word.push(escaped);
                    self.forward(2);
                }
                ('$', _) => self.dollar_in(word, Ends::Quote),
                ('`', _) => self.backticks(word),
                _ => {
                    word.push(next);
                    self.forward(1);
                }
            }
        }
        self.unclear("a quote is not closed");
    }

    fn dollar(&mut self, word: &mut Word) {
        self.dollar_in(word, Ends::Command);
    }

    fn dollar_in(&mut self, word: &mut Word, within: Ends) {
        match (self.peek(1), self.peek(2)) {
            (Some('('), Some('(')) => {
                word.dynamic = true;
                self.arithmetic();
            }
            (Some('('), _) => {
                word.dynamic = true;
                self.forward(2);
                self.parentheses();
            }
            (Some('{'), _) => {
                word.dynamic = true;
                self.forward(2);
                // A `${…}` may hold words of any kind, quotes and substitutions too.
                self.deeper(|reader| drop(reader.word(Ends::Brace)));
                self.forward(1);
            }
            (Some('['), _) => {
                word.dynamic = true;
                self.unclear("it computes with $[ ]");
                self.forward(2);
            }
            (Some('\''), _) if within == Ends::Command => {
                // Its escapes could spell anything.
                word.dynamic = true;
                word.quoted = true;
                self.forward(2);
                self.escaped_quote();
            }
            (Some('"'), _) if within == Ends::Command => {
                self.forward(2);
                self.double(word);
            }
            (Some(next), _) if next.is_ascii_alphanumeric() || "_@*#?-$!".contains(next) => {
                word.dynamic = true;
                self.forward(2);
                while self.peek(0).is_some_and(|next| next.is_ascii_alphanumeric() || next == '_') {
                    self.forward(1);
                }
            }
            _ => {
                word.push('$');
                self.forward(1);
            }
        }
    }

    fn escaped_quote(&mut self) {
        while let Some(next) = self.peek(0) {
            self.forward(if next == '\\' { 2 } else { 1 });
            if next == '\'' {
                return;
            }
        }
        self.unclear("a quote is not closed");
    }

    /// `$((…))`: what could be commands in parentheses instead is not understood.
    fn arithmetic(&mut self) {
        self.forward(3);
        self.deeper(Self::sum);
    }

    fn sum(&mut self) {
        let mut open = 2_usize;
        let mut word = Word::default();
        while let Some(next) = self.peek(0) {
            match next {
                '(' => open += 1,
                ')' => {
                    open -= 1;
                    if open == 1 && self.peek(1) != Some(')') {
                        self.unclear("a $(( is not understood");
                    }
                    if open == 0 {
                        self.forward(1);
                        return;
                    }
                }
                '$' => {
                    self.dollar(&mut word);
                    continue;
                }
                '`' => {
                    self.backticks(&mut word);
                    continue;
                }
                '\'' | '"' | '\\' | ';' | '\n' => self.unclear("a $(( is not understood"),
                _ => {}
            }
            self.forward(1);
        }
        self.unclear("a $(( is not closed");
    }

    fn backticks(&mut self, word: &mut Word) {
        word.dynamic = true;
        self.forward(1);
        let mut inner = String::new();
        while let Some(next) = self.peek(0) {
            match (next, self.peek(1)) {
                ('`', _) => {
                    self.forward(1);
                    return self.take(Script::nested(&inner, self.depth + 1));
                }
                ('\\', Some(escaped @ ('`' | '\\' | '$'))) => {
                    inner.push(escaped);
                    self.forward(2);
                }
                _ => {
                    inner.push(next);
                    self.forward(1);
                }
            }
        }
        self.unclear("a backtick is not closed");
    }

    /// `{` alone groups, `{}` is itself; anything else may become several words.
    fn brace(&mut self, word: &mut Word) {
        let alone = self.peek(1).is_none_or(|next| " \t\r\n;&|()<>".contains(next));
        if !alone && self.peek(1) != Some('}') {
            word.dynamic = true;
        }
        word.push('{');
        self.forward(1);
    }
}
