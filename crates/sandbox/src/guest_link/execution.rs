//! A running command, as its caller holds it.
//!
//! ```text
//!   asked for ── started, attached ──▶ running ── Exited taken ──▶ over
//!       │                                 └── dropped: it runs on, what it says is thrown away
//!       └── dropped before the answer: killed, because nobody knows of it
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use failpoint::{Side, reached};
use protocol::guest::{Request, ToGuest};
use protocol::hands::{ExecEvent, ExecSignal, ExecSpec, Execution, HandsError, TerminalSize};
use protocol::ids::ExecId;

use super::link::GuestLink;
use super::shared::Command;

/// The most input of one frame.
const PIECE: usize = 64 * 1024;

/// A command in a sandbox.
#[derive(Debug)]
pub(super) struct GuestExecution {
    link: GuestLink,
    exec: ExecId,
    command: Arc<Command>,
    started: bool,
}

impl GuestExecution {
    /// Starts a command.
    pub(super) async fn start(link: &GuestLink, spec: ExecSpec) -> Result<Self, HandsError> {
        let exec = spec.exec;
        let command = link.shared().enter(exec)?;
        let mut execution = Self { link: link.clone(), exec, command, started: false };
        let named = spec.argv.first().cloned().unwrap_or_default();
        reached(Side::Before, "guest", || format!("start {named}"));
        match link.shared().request(Request::Start(spec)).await {
            Ok(reply) => {
                reached(Side::After, "guest", || format!("start {named}"));
                link.done(&reply)?;
                execution.started = true;
                Ok(execution)
            }
            Err(error) => {
                link.shared().withdraw(exec);
                // Nothing to kill.
                execution.started = true;
                Err(error)
            }
        }
    }

    /// Takes up a kept command.
    pub(super) async fn attach(link: &GuestLink, exec: ExecId) -> Result<Self, HandsError> {
        let command = link.shared().enter(exec)?;
        // Nothing to kill, whatever the answer is: who asked knows of it already.
        let execution = Self { link: link.clone(), exec, command, started: true };
        match link.shared().request(Request::Attach { exec }).await {
            Ok(reply) => link.done(&reply).map(|()| execution),
            Err(error) => {
                link.shared().withdraw(exec);
                Err(error)
            }
        }
    }

    fn ended(&self) -> HandsError {
        let path = self.exec.to_string();
        let ended = || HandsError::Io { path, reason: "the command has ended".into() };
        self.link.shared().gone().unwrap_or_else(ended)
    }
}

impl Drop for GuestExecution {
    fn drop(&mut self) {
        let credit = self.command.queue().detach();
        self.link.shared().credit(self.exec, credit);
        if !self.started {
            let _ = self.link.shared().post(Request::Signal { exec: self.exec, signal: ExecSignal::Kill });
        }
    }
}

#[async_trait]
impl Execution for GuestExecution {
    async fn next(&mut self) -> Result<ExecEvent, HandsError> {
        loop {
            let popped = self.command.queue().pop();
            if let Some((event, credit)) = popped {
                self.link.shared().credit(self.exec, credit);
                return Ok(event);
            }
            if let Some(gone) = self.link.shared().gone() {
                return Err(gone);
            }
            self.command.changed.notified().await;
        }
    }

    async fn write_stdin(&mut self, bytes: &[u8]) -> Result<(), HandsError> {
        for piece in bytes.chunks(PIECE) {
            let count = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let room = self.command.input.acquire_many(count).await.map_err(|_| self.ended())?;
            room.forget();
            self.command.input_sent.fetch_add(u64::from(count), Ordering::AcqRel);
            self.link.shared().send(&ToGuest::Stdin { exec: self.exec, bytes: piece.to_vec() })?;
        }
        Ok(())
    }

    async fn close_stdin(&mut self) -> Result<(), HandsError> {
        self.link.shared().send(&ToGuest::Stdin { exec: self.exec, bytes: Vec::new() })
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), HandsError> {
        match self.link.shared().request(Request::Resize { exec: self.exec, size }).await {
            Ok(reply) => self.link.done(&reply),
            Err(HandsError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn signal(&self, signal: ExecSignal) -> Result<(), HandsError> {
        match self.link.shared().request(Request::Signal { exec: self.exec, signal }).await {
            Ok(reply) => self.link.done(&reply),
            // It ended before the signal came.
            Err(HandsError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
