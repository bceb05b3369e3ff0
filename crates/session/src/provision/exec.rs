//! Commands of the preparation, and where their output goes.
//!
//! ```text
//!  guest ─▶ bytes ─┬─▶ live delta, at once
//!                  └─▶ step.output, whole lines, every second or two, capped: the beginning and the end
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use protocol::event::{EventBody, LiveDelta, Step};
use protocol::hands::{ExecEnd, ExecEvent, ExecSpec, Hands as _};
use protocol::ids::{Epoch, ExecId, SessionId};
use sandbox::guest_link::GuestLink;
use tokio::time::Instant;
use ulid::Ulid;

use crate::registry::Shared;

/// How much of a step's beginning is kept.
const MAX_HEAD: usize = 56 * 1024;

/// How much of its end, when there was more.
const MAX_TAIL: usize = 8 * 1024;

/// The most bytes that are shown live of one step; the log has the rest.
const MAX_LIVE: usize = 1024 * 1024;

/// How long a line may wait for the log.
const FLUSH: Duration = Duration::from_millis(1500);

/// A command in the sandbox, without input.
pub(crate) fn command(
    argv: Vec<String>,
    cwd: &str,
    env: Vec<(String, String)>,
    timeout: Duration,
) -> ExecSpec {
    ExecSpec { env, timeout: Some(timeout), ..ExecSpec::new(ExecId::from(Ulid::generate()), argv, cwd) }
}

/// A shell script of ours.
pub(crate) fn script(text: &str) -> Vec<String> {
    ["sh", "-c", text].map(ToOwned::to_owned).into()
}

/// Runs a command whose words are for us only: how it ended, and what it said on standard output, at
/// most `cap` bytes of it.
pub(crate) async fn ask(link: &GuestLink, spec: ExecSpec, cap: usize) -> Result<(ExecEnd, Vec<u8>), String> {
    let mut execution = link.start(spec).await.map_err(|error| error.to_string())?;
    let mut said = Vec::new();
    loop {
        match execution.next().await.map_err(|error| error.to_string())? {
            ExecEvent::Stdout(bytes) => {
                let room = cap.saturating_sub(said.len());
                said.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            ExecEvent::Stderr(_) => {}
            ExecEvent::Exited(end) => return Ok((end, said)),
        }
    }
}

/// Output that is too long keeps its beginning, as it came, and its end.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    taken: usize,
    tail: VecDeque<u8>,
    left_out: usize,
    /// What of that was told already.
    told: usize,
}

impl Kept {
    /// What of these bytes belongs to the beginning.
    pub(crate) fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (head, rest) = bytes.split_at(bytes.len().min(MAX_HEAD - self.taken));
        self.taken += head.len();
        self.tail.extend(rest);
        while self.tail.len() > MAX_TAIL {
            self.tail.pop_front();
            self.left_out += 1;
        }
        head
    }

    /// What follows the beginning, once all is over, or a part of it; empty when all fitted.
    pub(crate) fn end(&mut self) -> String {
        let tail: Vec<u8> = std::mem::take(&mut self.tail).into();
        let tail = String::from_utf8_lossy(&tail).into_owned();
        match self.left_out - std::mem::replace(&mut self.told, self.left_out) {
            0 => tail,
            left_out => format!("\n[… {left_out} bytes left out …]\n{tail}"),
        }
    }

    /// Whether anything was left out.
    pub(crate) fn is_cut(&self) -> bool {
        self.left_out > 0
    }
}

/// The output of one step of a session.
pub(crate) struct StepLog<'a> {
    shared: &'a Shared,
    session: SessionId,
    epoch: Epoch,
    step: Step,
    kept: Kept,
    shown: usize,
    /// Not in the log yet.
    waiting: Vec<u8>,
    /// The last lines, for whoever has to say why it failed.
    last: VecDeque<String>,
}

impl<'a> StepLog<'a> {
    pub(crate) fn new(shared: &'a Shared, session: SessionId, epoch: Epoch, step: Step) -> Self {
        let (kept, waiting, last) = (Kept::default(), Vec::new(), VecDeque::new());
        Self { shared, session, epoch, step, kept, shown: 0, waiting, last }
    }

    /// Runs a command to its end; what it says is shown and logged.
    pub(crate) async fn run(&mut self, link: &GuestLink, spec: ExecSpec) -> Result<ExecEnd, String> {
        self.run_with(link, spec, None).await.map(|(end, _)| end)
    }

    /// The same, with something to read; also what it said on standard output, the beginning of it.
    pub(crate) async fn run_with(
        &mut self,
        link: &GuestLink,
        mut spec: ExecSpec,
        input: Option<&[u8]>,
    ) -> Result<(ExecEnd, String), String> {
        spec.stdin = input.is_some();
        let mut execution = link.start(spec).await.map_err(|error| error.to_string())?;
        if let Some(input) = input {
            // A command that does not read its input ends all the same.
            let _ = execution.write_stdin(input).await;
            let _ = execution.close_stdin().await;
        }
        let mut flush = Instant::now() + FLUSH;
        let mut said = Vec::new();
        let end = loop {
            match tokio::time::timeout_at(flush, execution.next()).await {
                Ok(Ok(ExecEvent::Stdout(bytes))) => {
                    let room = MAX_HEAD - said.len();
                    said.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    self.take(&bytes);
                }
                Ok(Ok(ExecEvent::Stderr(bytes))) => self.take(&bytes),
                Ok(Ok(ExecEvent::Exited(end))) => break Ok(end),
                Ok(Err(error)) => break Err(error.to_string()),
                Err(_) => {
                    flush = Instant::now() + FLUSH;
                    self.flush_lines().await?;
                }
            }
        };
        let rest = self.kept.end();
        self.waiting.extend_from_slice(rest.as_bytes());
        self.flush_all().await?;
        end.map(|end| (end, String::from_utf8_lossy(&said).into_owned()))
    }

    /// Adds a line of our own.
    pub(crate) async fn note(&mut self, text: &str) -> Result<(), String> {
        self.take(format!("{text}\n").as_bytes());
        self.flush_all().await
    }

    /// The last lines that say something.
    pub(crate) fn last_lines(&self, count: usize) -> String {
        let skipped = self.last.len().saturating_sub(count);
        self.last.iter().skip(skipped).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn take(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if self.last.len() == 8 {
                self.last.pop_front();
            }
            self.last.push_back(line.chars().take(300).collect());
        }
        if self.shown < MAX_LIVE {
            self.shown += bytes.len();
            let delta = LiveDelta::StepOutput { step: self.step, text: text.into_owned() };
            self.shared.store.live(self.session, delta);
        }
        let head = self.kept.take(bytes);
        self.waiting.extend_from_slice(head);
    }

    async fn flush_lines(&mut self) -> Result<(), String> {
        let Some(end) = self.waiting.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.waiting.split_off(end + 1);
        let lines = std::mem::replace(&mut self.waiting, rest);
        self.log(&lines).await
    }

    async fn flush_all(&mut self) -> Result<(), String> {
        let lines = std::mem::take(&mut self.waiting);
        self.log(&lines).await
    }

    async fn log(&self, bytes: &[u8]) -> Result<(), String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let body =
            EventBody::StepOutput { step: self.step, text: String::from_utf8_lossy(bytes).into_owned() };
        let appended = self.shared.store.append(self.session, self.epoch, None, None, vec![body]).await;
        appended.map(drop).map_err(|error| error.to_string())
    }
}

/// How a command ended, in words.
pub(crate) fn ending(end: &ExecEnd, limit: Duration) -> String {
    match (end.code, end.signal) {
        _ if end.timed_out => format!("did not end within {} s and was stopped", limit.as_secs()),
        _ if let Some(exceeded) = end.exceeded => format!("ran into the {exceeded}"),
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_keeps_its_beginning_and_its_end() {
        let mut kept = Kept::default();
        let mut head = kept.take(b"first\n").to_vec();
        for _ in 0..2000 {
            head.extend_from_slice(kept.take(&[b'x'; 99]));
        }
        head.extend_from_slice(kept.take(b"\nlast"));
        assert_eq!(head.len(), MAX_HEAD);
        assert!(head.starts_with(b"first") && kept.is_cut());
        let end = kept.end();
        assert!(end.contains("bytes left out") && end.ends_with("\nlast"), "{end}");
        let mut short = Kept::default();
        assert_eq!((short.take(b"all"), short.end().as_str(), short.is_cut()), (&b"all"[..], "", false));
    }
}
