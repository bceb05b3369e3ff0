//! What a command reads from and writes to.
//!
//! ```text
//!  > f   >> f   >| f   &> f   < f   <> f     files
//!  2>&1   <&-                                what is bound already
//!  << END … END   <<- END   <<< word         texts
//! ```

use super::shell::{Reader, Simple};
use super::word::{Ends, Word};

/// A file that a command's input or output is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// Whether it may be written.
    pub writes: bool,
    /// Whether it is read.
    pub reads: bool,
    /// Its path.
    pub target: Word,
}

/// A here-document whose text begins after the line.
pub(super) struct Heredoc {
    delimiter: String,
    tabs: bool,
    literal: bool,
    /// Its command among those of the script, once that is there.
    pub(super) command: Option<usize>,
}

impl Reader {
    /// From the operator on; its number is gone already.
    pub(super) fn redirection(&mut self, command: &mut Simple) {
        let from = self.at;
        while matches!(self.peek(0), Some('<' | '>')) && self.at - from < 3 {
            self.forward(1);
        }
        let mut operator: String = self.text[from..self.at].iter().collect();
        match (operator.as_str(), self.peek(0)) {
            (">" | "<", Some('&')) | (">", Some('|')) | ("<<", Some('-')) => {
                operator.extend(self.peek(0));
                self.forward(1);
            }
            _ => {}
        }
        self.blanks();
        if matches!(self.peek(0), None | Some('\n' | ';' | '&' | '|' | ')' | '(')) {
            return self.unclear("a redirection leads nowhere");
        }
        if matches!((self.peek(0), self.peek(1)), (Some('<' | '>'), Some('('))) {
            self.forward(2);
            return self.parentheses();
        }
        if matches!(self.peek(0), Some('<' | '>')) {
            return self.unclear("a redirection is not understood");
        }
        let target = self.word(Ends::Command);
        let (reads, writes) = match operator.as_str() {
            "<<<" => return,
            "<<" | "<<-" => {
                let literal = target.quoted;
                let (delimiter, tabs) = (target.text, operator.ends_with('-'));
                return self.waiting.push(Heredoc { delimiter, tabs, literal, command: None });
            }
            ">&" | "<&" if target.is_number() || matches!(target.text.as_str(), "-") => return,
            "<" | "<&" => (true, false),
            "<>" => (true, true),
            ">" | ">>" | ">|" | ">&" => (false, true),
            _ => return self.unclear("a redirection is not understood"),
        };
        command.redirections.push(Redirection { writes, reads, target });
    }

    /// The texts of here-documents that begin here.
    pub(super) fn heredocs(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let mut body = String::new();
            loop {
                if self.at >= self.text.len() {
                    self.unclear("a here-document is not closed");
                    break;
                }
                let rest = &self.text[self.at..];
                let length = rest.iter().position(|next| *next == '\n');
                let line: String = rest[..length.unwrap_or(rest.len())].iter().collect();
                let length = length.map_or(rest.len(), |length| length + 1);
                self.forward(length);
                let line = if waiting.tabs { line.trim_start_matches('\t') } else { &line };
                if line == waiting.delimiter {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            if !waiting.literal {
                let mut inner = Self::new(&body, self.depth);
                inner.expansions();
                self.take(inner.script);
            }
            if let Some(command) = waiting.command.and_then(|index| self.script.commands.get_mut(index)) {
                command.input = Some(body);
            }
        }
    }
}
