//! What a shell would run, out of a command's text.
//!
//! ```text
//!  text ─▶ lists, pipes, groups, loops, functions ─▶ simple commands: assignments, words, redirections
//!            └ $(…) `…` <(…) "…$(…)" heredocs ─▶ their commands, too
//! ```
//!
//! Nothing is expanded: a word that is not known before it runs is marked, with what stands before the
//! unknown. A text that is not understood to its end says so ([`Script::unclear`]); what was read of it
//! stands all the same.

use super::redirection::{Heredoc, Redirection};
use super::word::{Ends, Word};

/// The longest text that is read.
pub const MAX_TEXT: usize = 64 * 1024;

/// How deep substitutions and groups may be nested.
const MAX_DEPTH: usize = 24;

/// The commands of a text, in the order in which they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// All of them, also those of substitutions and functions.
    pub commands: Vec<Simple>,
    /// Why there may be more.
    pub unclear: Option<&'static str>,
}

/// One command as a shell starts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simple {
    /// Names and values of the assignments before it.
    pub assignments: Vec<(String, Word)>,
    /// Program and arguments.
    pub words: Vec<Word>,
    /// Files that its input and output are bound to.
    pub redirections: Vec<Redirection>,
    /// What it reads as its input, where the text holds it.
    pub input: Option<String>,
    /// The words as they are written.
    pub written: String,
}

impl Script {
    /// Reads a text; never fails.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::nested(text, 0)
    }

    pub(super) fn nested(text: &str, depth: usize) -> Self {
        if text.len() > MAX_TEXT || depth > MAX_DEPTH {
            return Self { commands: Vec::new(), unclear: Some("it is too long or too deeply nested") };
        }
        let mut reader = Reader::new(text, depth);
        reader.list(Until::End);
        reader.heredocs();
        reader.script
    }
}

/// What ends a list of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    Parenthesis,
    /// `;;` and its like, or `esac`.
    Clause,
}

pub(super) struct Reader {
    pub(super) text: Vec<char>,
    pub(super) at: usize,
    pub(super) depth: usize,
    pub(super) script: Script,
    pub(super) waiting: Vec<Heredoc>,
}

impl Reader {
    pub(super) fn new(text: &str, depth: usize) -> Self {
        Self { text: text.chars().collect(), at: 0, depth, script: Script::default(), waiting: Vec::new() }
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    pub(super) fn forward(&mut self, characters: usize) {
        self.at = (self.at + characters).min(self.text.len());
    }

    pub(super) fn unclear(&mut self, why: &'static str) {
        self.script.unclear.get_or_insert(why);
    }

    pub(super) fn take(&mut self, mut other: Script) {
        self.script.commands.append(&mut other.commands);
        if let Some(why) = other.unclear {
            self.unclear(why);
        }
    }

    /// Commands in parentheses; the opening one is behind us.
    pub(super) fn parentheses(&mut self) {
        self.deeper(|reader| reader.list(Until::Parenthesis));
    }

    /// Reads what is nested in what is being read.
    pub(super) fn deeper(&mut self, read: impl FnOnce(&mut Self)) {
        if self.depth == MAX_DEPTH {
            self.unclear("it is too long or too deeply nested");
            self.at = self.text.len();
            return;
        }
        self.depth += 1;
        read(self);
        self.depth -= 1;
    }

    pub(super) fn blanks(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(' ' | '\t' | '\r'), _) => self.forward(1),
                (Some('\\'), Some('\n')) => self.forward(2),
                _ => return,
            }
        }
    }

    fn list(&mut self, until: Until) {
        loop {
            self.blanks();
            match (self.peek(0), self.peek(1)) {
                (None, _) => {
                    if until != Until::End {
                        self.unclear("a parenthesis or a `case` is not closed");
                    }
                    return;
                }
                (Some('\n'), _) => {
                    self.forward(1);
                    self.heredocs();
                }
                (Some(';'), Some(';' | '&')) if until == Until::Clause => {
                    self.forward(2);
                    if self.peek(0) == Some('&') {
                        self.forward(1);
                    }
                    return;
                }
                (Some('&'), Some('>')) => self.simple(),
                (Some(';' | '&' | '|'), _) => self.forward(1),
                (Some('#'), _) => self.comment(),
                (Some('('), Some('(')) => {
                    self.unclear("it computes with (( ))");
                    self.forward(2);
                    self.parentheses();
                }
                (Some('('), _) => {
                    self.forward(1);
                    self.parentheses();
                }
                (Some(')'), _) if until == Until::Parenthesis => {
                    self.forward(1);
                    return;
                }
                (Some(')'), _) => {
                    self.unclear("a parenthesis is closed that was not opened");
                    self.forward(1);
                }
                _ => {
                    if until == Until::Clause && self.keyword("esac") {
                        return;
                    }
                    self.simple();
                }
            }
        }
    }

    fn comment(&mut self) {
        while self.peek(0).is_some_and(|next| next != '\n') {
            self.forward(1);
        }
    }

    /// Whether this word comes next; it stays where it is.
    fn keyword(&self, word: &str) -> bool {
        let end = self.at + word.len();
        let here = self.text.get(self.at..end).is_some_and(|next| next.iter().copied().eq(word.chars()));
        here && self.text.get(end).is_none_or(|next| " \t\r\n;&|()<>".contains(*next))
    }

    /// One simple command, or what leads to one: `if`, `for`, `{`, …
    fn simple(&mut self) {
        let mut command = Simple::default();
        let heredocs = self.waiting.len();
        loop {
            self.blanks();
            let from = self.at;
            match (self.peek(0), self.peek(1)) {
                (None | Some('\n' | ';' | '|' | ')'), _) => break,
                (Some('&'), Some('>')) => {
                    self.forward(1);
                    self.redirection(&mut command);
                    continue;
                }
                (Some('&'), _) => break,
                (Some('#'), _) => {
                    self.comment();
                    break;
                }
                (Some('<' | '>'), Some('(')) => {
                    self.forward(2);
                    self.parentheses();
                    command.words.push(Word::unknown());
                    continue;
                }
                (Some('<' | '>'), _) => {
                    self.redirection(&mut command);
                    continue;
                }
                (Some('('), _) => {
                    if self.function(&mut command) {
                        return;
                    }
                    continue;
                }
                _ => {}
            }
            let word = self.word(Ends::Command);
            if matches!(self.peek(0), Some('<' | '>')) && word.is_number() {
                continue;
            }
            if command.words.is_empty() && command.assignments.is_empty() && self.leads(&word) {
                if !command.redirections.is_empty() {
                    break;
                }
                return;
            }
            self.add(&mut command, word, from);
        }
        self.push(command, heredocs);
    }

    fn add(&mut self, command: &mut Simple, mut word: Word, from: usize) {
        if command.words.is_empty()
            && let Some((name, value)) = word.assignment()
        {
            if self.peek(0) == Some('(') {
                self.forward(1);
                self.array();
            }
            command.assignments.push((name, value));
            return;
        }
        let written: String = self.text[from..self.at].iter().collect();
        if !command.written.is_empty() {
            command.written.push(' ');
        }
        command.written.push_str(&written);
        if command.words.is_empty() && word.glob {
            // What the pattern matches would be run.
            word.dynamic = true;
            let known = word.text.find(['*', '?', '[']).unwrap_or(word.text.len());
            word.text.truncate(known);
        }
        command.words.push(word);
    }

    /// The values of an array, up to its parenthesis.
    fn array(&mut self) {
        loop {
            self.blanks();
            match self.peek(0) {
                None => return self.unclear("an array is not closed"),
                Some(')') => {
                    self.forward(1);
                    return;
                }
                Some('#') => self.comment(),
                Some('\n') => self.forward(1),
                Some(';' | '&' | '|' | '<' | '>' | '(') => {
                    self.unclear("an array holds what is no word");
                    self.forward(1);
                }
                _ => drop(self.word(Ends::Command)),
            }
        }
    }

    fn push(&mut self, command: Simple, heredocs: usize) {
        if command == Simple::default() {
            return;
        }
        let index = self.script.commands.len();
        // A line that ended within the command took its here-documents with it.
        for waiting in self.waiting.iter_mut().skip(heredocs) {
            waiting.command.get_or_insert(index);
        }
        self.script.commands.push(command);
    }

    /// `name()`: the body's commands are read as any others. Anything else with a parenthesis there is
    /// not understood.
    fn function(&mut self, command: &mut Simple) -> bool {
        let is_definition = command.words.len() == 1 && command.assignments.is_empty();
        self.forward(1);
        self.blanks();
        if is_definition && self.peek(0) == Some(')') {
            self.forward(1);
            return true;
        }
        self.unclear("a parenthesis stands within a command");
        self.parentheses();
        false
    }

    /// Words that are no command, with what follows them; `true` when it was one.
    fn leads(&mut self, word: &Word) -> bool {
        if word.quoted {
            return false;
        }
        match word.text.as_str() {
            "if" | "then" | "elif" | "else" | "fi" | "while" | "until" | "do" | "done" | "{" | "}" | "!"
            | "coproc" => {}
            "time" => {
                self.blanks();
                while self.keyword("-p") || self.keyword("--") {
                    self.forward(2);
                    self.blanks();
                }
            }
            "for" | "select" => self.variable_of_loop(),
            "case" => self.case(),
            "function" => {
                self.blanks();
                let _ = self.word(Ends::Command);
                self.blanks();
                if self.peek(0) == Some('(') {
                    self.forward(1);
                    self.blanks();
                    if self.peek(0) == Some(')') {
                        self.forward(1);
                    } else {
                        self.unclear("a function is not understood");
                    }
                }
            }
            "[[" => self.condition(),
            _ => return false,
        }
        true
    }

    /// `for NAME [in WORDS]`: the words are not run.
    fn variable_of_loop(&mut self) {
        self.blanks();
        if self.peek(0) == Some('(') {
            return self.unclear("it computes with (( ))");
        }
        let _ = self.word(Ends::Command);
        self.blanks();
        while self.peek(0) == Some('\n') {
            self.forward(1);
            self.blanks();
        }
        if !self.keyword("in") {
            return;
        }
        self.forward(2);
        loop {
            self.blanks();
            match self.peek(0) {
                None | Some('\n' | ';') => return,
                Some('&' | '|' | '(' | ')' | '<' | '>') => {
                    self.unclear("the words of a loop are not understood");
                    return;
                }
                _ => drop(self.word(Ends::Command)),
            }
        }
    }

    fn case(&mut self) {
        self.blanks();
        let _ = self.word(Ends::Command);
        self.blank_lines();
        if !self.keyword("in") {
            return self.unclear("a `case` is not understood");
        }
        self.forward(2);
        self.deeper(Self::clauses);
    }

    fn clauses(&mut self) {
        loop {
            self.blank_lines();
            if self.keyword("esac") {
                self.forward(4);
                break;
            }
            if self.peek(0) == Some('(') {
                self.forward(1);
            }
            if !self.patterns() {
                self.unclear("a `case` is not understood");
                break;
            }
            self.list(Until::Clause);
        }
    }

    /// The patterns of a clause, up to their parenthesis.
    fn patterns(&mut self) -> bool {
        loop {
            self.blank_lines();
            match self.peek(0) {
                Some(')') => {
                    self.forward(1);
                    return true;
                }
                Some('|') => self.forward(1),
                None | Some(';' | '&' | '<' | '>' | '(') => return false,
                _ => drop(self.word(Ends::Command)),
            }
        }
    }

    fn blank_lines(&mut self) {
        loop {
            self.blanks();
            match self.peek(0) {
                Some('\n') => self.forward(1),
                Some('#') => self.comment(),
                _ => return,
            }
        }
    }

    /// `[[ … ]]`: operators in it are no operators of the shell.
    fn condition(&mut self) {
        loop {
            self.blank_lines();
            match self.peek(0) {
                None => return self.unclear("a condition is not closed"),
                Some(';' | '&' | '|' | '(' | ')' | '<' | '>') => self.forward(1),
                _ => {
                    if self.word(Ends::Command).text == "]]" {
                        return;
                    }
                }
            }
        }
    }
}
