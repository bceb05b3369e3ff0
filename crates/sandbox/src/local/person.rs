//! The person at the caller's terminal, as the proxy knows them.
//!
//! ```text
//!   Ask ─▶ a line on the terminal; the command's output waits ─ y, s, n and Enter ─▶ answer
//!   Refused, Remark ─▶ kept until the command has ended ─▶ told
//! ```
//!
//! An answer is a letter and Enter, typed after the question stood there: keys that were on their way to
//! the command allow nothing.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use protocol::local::{Answer, FromPerson, MAX_LINE, ToPerson};

use super::terminal::Terminal;

/// The most lines that are kept.
const KEPT: usize = 60;

/// What was heard from the proxy.
#[derive(Debug)]
pub(crate) struct Person {
    link: UnixStream,
    heard: Vec<u8>,
    question: Option<Question>,
    /// What is told at the end.
    pub(crate) remarks: Vec<String>,
}

#[derive(Debug)]
struct Question {
    number: u32,
    typed: Vec<u8>,
}

impl Person {
    pub(crate) fn new(link: UnixStream) -> Self {
        Self { link, heard: Vec::new(), question: None, remarks: Vec::new() }
    }

    /// Whether a question waits for keys.
    pub(crate) fn is_asked(&self) -> bool {
        self.question.is_some()
    }

    /// Takes what came from the proxy; false when there will be no more.
    pub(crate) fn hear(&mut self, terminal: Option<&Terminal>) -> bool {
        let mut buffer = [0; MAX_LINE];
        match self.link.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => self.heard.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => return false,
        }
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            if let Ok(said) = serde_json::from_slice(&line) {
                self.take(said, terminal);
            }
        }
        // Nothing that the proxy says is as long.
        self.heard.len() <= MAX_LINE
    }

    fn take(&mut self, said: ToPerson, terminal: Option<&Terminal>) {
        match said {
            ToPerson::Ask { number, host, port } => {
                let Some(terminal) = terminal else { return };
                terminal.forget_typed();
                terminal.say(&format!(
                    "\r\npatchyard sandbox: the command wants to reach {host}:{port}, which no rule names.\r\n\
                     Allow it? y this connection, s while the command runs, n not at all; then Enter: "
                ));
                self.question = Some(Question { number, typed: Vec::new() });
            }
            ToPerson::Withdraw => {
                if let (Some(_), Some(terminal)) = (self.question.take(), terminal) {
                    terminal.say("\r\npatchyard sandbox: no answer within a minute, so it was refused.\r\n");
                }
            }
            ToPerson::Refused { host, port, reason } => {
                let place = if port == 0 { host } else { format!("{host}:{port}") };
                self.keep(format!("refused {place}: {reason}"));
            }
            ToPerson::Remark { text } => self.keep(text),
        }
    }

    fn keep(&mut self, remark: String) {
        if self.remarks.len() < KEPT {
            self.remarks.push(remark);
        }
    }

    /// Takes keys while a question waits; false when there will be no more.
    pub(crate) fn keys(&mut self, terminal: &Terminal) -> bool {
        let Some(keys) = terminal.typed() else {
            self.answer(terminal, Answer::No);
            return false;
        };
        for key in keys {
            let Some(question) = &mut self.question else { return true };
            match key {
                b'\r' | b'\n' => match question.typed.as_slice() {
                    b"y" | b"Y" => self.answer(terminal, Answer::Once),
                    b"s" | b"S" => self.answer(terminal, Answer::Session),
                    b"n" | b"N" => self.answer(terminal, Answer::No),
                    _ => {
                        question.typed.clear();
                        terminal.say("\r\ny, s or n, then Enter: ");
                    }
                },
                // Ctrl-C, Ctrl-D
                3 | 4 => self.answer(terminal, Answer::No),
                // Backspace
                8 | 127 if question.typed.pop().is_some() => terminal.say("\u{8} \u{8}"),
                key if key.is_ascii_graphic() && question.typed.len() < 8 => {
                    question.typed.push(key);
                    terminal.say(char::from(key).encode_utf8(&mut [0; 4]));
                }
                _ => {}
            }
        }
        true
    }

    fn answer(&mut self, terminal: &Terminal, answer: Answer) {
        let Some(Question { number, .. }) = self.question.take() else { return };
        terminal.say("\r\n");
        if let Ok(mut line) = serde_json::to_vec(&FromPerson { number, answer }) {
            line.push(b'\n');
            // A proxy that is gone asks for nothing.
            let _ = self.link.write_all(&line);
        }
    }
}

impl AsFd for Person {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}
