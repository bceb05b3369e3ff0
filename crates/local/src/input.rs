//! What comes in while a run goes on: prompts, control messages, signals.

use std::io::BufRead as _;

use protocol::ids::PromptId;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use ulid::Ulid;

use crate::error::LocalError;
use crate::port::LocalPort;
use crate::transcript::text_of;

/// Lines that may wait for us.
const WAITING: usize = 64;

/// The longest line.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// A prompt.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) id: PromptId,
    pub(crate) text: String,
    /// The driver's own name for it.
    pub(crate) uuid: Option<String>,
}

impl Prompt {
    pub(crate) fn new(text: String, uuid: Option<String>) -> Self {
        Self { id: PromptId::from(Ulid::generate()), text, uuid }
    }

    /// Tells a driver that named it how it stands.
    pub(crate) fn stands(&self, port: &LocalPort, state: &str) {
        if let Some(uuid) = &self.uuid {
            port.tell(json!({ "type": "command_lifecycle", "command_uuid": uuid, "state": state }));
        }
    }
}

/// When a prompt is to be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    Now,
    Next,
    Later,
}

/// A line of a driver's.
#[derive(Debug)]
pub(crate) enum Said {
    Prompt(Prompt, Urgency),
    Request {
        id: Value,
        request: Value,
    },
    Response(Value),
    /// What is no message, and why.
    Wrong(String),
}

/// Lines of standard input, and signals.
pub(crate) struct Input {
    lines: Option<Receiver<Said>>,
    interrupts: Signal,
    terminations: Signal,
}

/// What came.
pub(crate) enum Came {
    Said(Said),
    /// No more lines come.
    End,
    Interrupt,
    Terminate,
}

impl Input {
    /// Signals, and lines where they are wanted.
    pub(crate) fn open(lines: bool) -> Result<Self, LocalError> {
        let failed = |error: std::io::Error| LocalError::Usage(format!("cannot watch for signals: {error}"));
        Ok(Self {
            lines: lines.then(read_lines),
            interrupts: signal(SignalKind::interrupt()).map_err(failed)?,
            terminations: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Whether more lines may come.
    pub(crate) fn is_open(&self) -> bool {
        self.lines.is_some()
    }

    /// Waits for something; dropped before it is ready it loses nothing.
    pub(crate) async fn next(&mut self) -> Came {
        let lines = async {
            match &mut self.lines {
                Some(lines) => lines.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            said = lines => match said {
                Some(said) => Came::Said(said),
                None => {
                    self.lines = None;
                    Came::End
                }
            },
            _ = self.interrupts.recv() => Came::Interrupt,
            _ = self.terminations.recv() => Came::Terminate,
        }
    }
}

/// A thread of its own, which ends with the process: a read of standard input cannot be given up.
fn read_lines() -> Receiver<Said> {
    let (sender, lines) = channel(WAITING);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        loop {
            line.clear();
            match std::io::Read::take(&mut input, MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if let Some(said) = understand(&line)
                && sender.blocking_send(said).is_err()
            {
                return;
            }
        }
    });
    lines
}

/// One line; nothing where it says nothing that is for us.
fn understand(line: &[u8]) -> Option<Said> {
    let text = line.trim_ascii();
    if text.is_empty() {
        return None;
    }
    let value: Value = match serde_json::from_slice(text) {
        Ok(value) => value,
        Err(error) => return Some(Said::Wrong(format!("a line of standard input is no JSON: {error}"))),
    };
    match value["type"].as_str() {
        Some("user") => {
            let content = &value["message"]["content"];
            let mut text = text_of(content);
            let others =
                content.as_array().into_iter().flatten().filter(|block| block["type"] != "text").count();
            if others > 0 {
                text.push_str("\n[what was attached to this message is not text, and cannot be read here]");
            }
            let urgency = match value["priority"].as_str() {
                Some("now") => Urgency::Now,
                Some("later") => Urgency::Later,
                _ => Urgency::Next,
            };
            let uuid = value["uuid"].as_str().map(str::to_owned);
            Some(Said::Prompt(Prompt::new(text, uuid), urgency))
        }
        Some("control_request") => {
            Some(Said::Request { id: value["request_id"].clone(), request: value["request"].clone() })
        }
        Some("control_response") => Some(Said::Response(value["response"].clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 9.3: the lines of a driver.
    #[test]
    fn lines_are_understood_or_passed_over() {
        let prompt = |line: &str| match understand(line.as_bytes()) {
            Some(Said::Prompt(prompt, urgency)) => Some((prompt.text, prompt.uuid, urgency)),
            _ => None,
        };
        for (line, text, uuid, urgency) in [
            (r#"{"type":"user","message":{"role":"user","content":"hi"}}"#, "hi", None, Urgency::Next),
            (
                r#"{"type":"user","message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},"uuid":"u","priority":"now"}"#,
                "a\nb",
                Some("u"),
                Urgency::Now,
            ),
        ] {
            assert_eq!(prompt(line), Some((text.to_owned(), uuid.map(str::to_owned), urgency)));
        }
        assert!(matches!(understand(b"{broken"), Some(Said::Wrong(_))));
        for line in ["", "  \n", r#"{"type":"keep_alive"}"#, "7", "[]"] {
            assert!(understand(line.as_bytes()).is_none(), "{line}");
        }
    }
}
