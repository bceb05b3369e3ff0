//! Carries one command's output to the host, as far as its credit allows, or into its journal.
//!
//! ```text
//!            readable and credit ──▶ Output frame ──┐
//!   running ─────────────────────────────────────── ┤
//!      │ main process ends                          │ host gone: output waits in the pipes, unless there
//!      │                                            │ is a journal, which has room or will
//!      ▼                                            ▼
//!   draining ── both at the end, or quiet, or long enough ──▶ Exited ──▶ rest is read and dropped
//! ```
//!
//! After the end of the main process something that it left behind may hold the pipes open for
//! hours. What was in the pipes at the end still has to arrive, and what follows closely too, so
//! draining lasts until the pipes are quiet; time without credit does not count. The end of a command that
//! is being killed waits until all of it is dead.

#![allow(unsafe_code)]

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use protocol::guest::FromGuest;
use protocol::hands::{Exceeded, ExecEnd};
use protocol::ids::ExecId;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::commands::{Commands, Running};
use crate::connection::Outbox;
use crate::journal::Journal;
use crate::reaper::Ended;

/// So long without output, after the end of the main process, is the end of the output.
const QUIET: Duration = Duration::from_millis(300);

/// The most time after the end of the main process during which output still counts as its own.
const DRAIN: Duration = Duration::from_secs(1);

/// The most bytes of one frame: what a pipe holds.
const PIECE: usize = 64 * 1024;

/// One of the two outputs; gone at its end.
struct Stream {
    pipe: Option<pipe::Receiver>,
    stderr: bool,
    /// Bytes that were in the pipe when the main process ended, and have not been read yet.
    owed: usize,
}

impl Stream {
    fn new(pipe: Option<pipe::Receiver>, stderr: bool) -> Self {
        Self { pipe, stderr, owed: 0 }
    }

    /// Notes how much is in the pipe.
    fn main_process_ended(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes one integer to a valid place; the descriptor is open.
        if unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) } == 0 {
            self.owed = usize::try_from(count).unwrap_or(0);
        }
    }

    fn close(&mut self) {
        self.pipe = None;
        self.owed = 0;
    }

    /// Waits until there is something to read, or the end. Never ready once at the end.
    async fn readable(&self) {
        match &self.pipe {
            // An error shows again in the read that follows.
            Some(pipe) => drop(pipe.readable().await),
            None => std::future::pending().await,
        }
    }

    /// Reads what is there: nothing when it was a false alarm.
    fn take(&mut self, most: usize, buffer: &mut [u8]) -> Option<Vec<u8>> {
        let room = most.min(buffer.len());
        match self.pipe.as_ref()?.try_read(&mut buffer[..room]) {
            Ok(0) => self.close(),
            Ok(count) => {
                self.owed = self.owed.saturating_sub(count);
                return Some(buffer[..count].to_vec());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.close(),
        }
        None
    }
}

/// Where the output goes.
#[derive(Debug)]
pub enum Destination {
    /// To the connection that started the command.
    Host(Outbox),
    /// Into the journal, and from there to whoever is attached.
    Journal(Rc<Journal>),
}

impl Destination {
    /// How many bytes are taken now.
    fn room(&self, running: &Running) -> usize {
        match self {
            Self::Host(_) => usize::try_from(running.credit.get()).unwrap_or(usize::MAX),
            Self::Journal(journal) => journal.room(),
        }
    }

    async fn room_came(&self, running: &Running) {
        match self {
            Self::Host(_) => running.credit_came.notified().await,
            Self::Journal(journal) => journal.room_came().await,
        }
    }

    /// Whether nobody will ever take anything.
    fn is_gone(&self) -> bool {
        match self {
            Self::Host(outbox) => outbox.is_closed(),
            Self::Journal(_) => false,
        }
    }

    async fn gone(&self) {
        match self {
            Self::Host(outbox) => outbox.closed().await,
            Self::Journal(_) => std::future::pending().await,
        }
    }

    async fn take(&self, exec: ExecId, running: &Running, stderr: bool, bytes: Vec<u8>) {
        match self {
            Self::Host(outbox) => {
                running.credit.set(running.credit.get().saturating_sub(bytes.len() as u64));
                outbox.send(&FromGuest::Output { exec, stderr, bytes }).await;
            }
            Self::Journal(journal) => journal.push(stderr, bytes),
        }
    }

    async fn finish(&self, exec: ExecId, commands: &Commands, end: ExecEnd) {
        match self {
            Self::Host(outbox) => {
                commands.forget(exec);
                outbox.send(&FromGuest::Exited { exec, end }).await;
            }
            Self::Journal(journal) => {
                journal.finish(end);
                commands.keep_ended(exec, journal);
            }
        }
    }
}

/// Everything that the pump of one command needs.
pub struct Pump {
    /// The command.
    pub exec: ExecId,
    /// The table that it leaves at its end.
    pub commands: Rc<Commands>,
    /// What others see of it.
    pub running: Rc<Running>,
    /// Its output.
    pub stdout: pipe::Receiver,
    /// Its error output, where it has one of its own.
    pub stderr: Option<pipe::Receiver>,
    /// The end of its main process.
    pub ended: oneshot::Receiver<Ended>,
    /// Where its output goes.
    pub destination: Destination,
}

impl Pump {
    /// Runs to the end of the command and of its output, and reports it unless the host is gone.
    pub async fn run(self) {
        let Self { exec, commands, running, stdout, stderr, mut ended, destination } = self;
        let mut streams = [Stream::new(Some(stdout), false), Stream::new(stderr, true)];
        let mut buffer = vec![0; PIECE];
        let mut end: Option<(Ended, Instant)> = None;
        let mut quiet_from = Instant::now();
        loop {
            let host_gone = destination.is_gone();
            if end.is_some() && (host_gone || streams.iter().all(|stream| stream.pipe.is_none())) {
                break;
            }
            let room = destination.room(&running);
            let may_send = room > 0 && !host_gone;
            let settled = streams.iter().all(|stream| stream.owed == 0);
            let deadline = end.filter(|_| settled).map(|(_, since)| (quiet_from + QUIET).min(since + DRAIN));
            let stalled_at = Instant::now();
            let [out, err] = &mut streams;
            let which = tokio::select! {
                () = out.readable(), if may_send => out,
                () = err.readable(), if may_send => err,
                () = async { if let Some(at) = deadline { sleep_until(at).await } },
                    if deadline.is_some() && may_send => break,
                how = &mut ended, if end.is_none() => {
                    quiet_from = Instant::now();
                    end = Some((how.unwrap_or(Ended::Signal(libc::SIGKILL)), quiet_from));
                    out.main_process_ended();
                    err.main_process_ended();
                    continue;
                }
                () = destination.room_came(&running), if !may_send && !host_gone => {
                    // The wait for the host is not the command's silence.
                    let waited = stalled_at.elapsed();
                    quiet_from += waited;
                    end = end.map(|(how, since)| (how, since + waited));
                    continue;
                }
                () = destination.gone(), if !host_gone => continue,
            };
            if let Some(bytes) = which.take(room, &mut buffer) {
                quiet_from = Instant::now();
                destination.take(exec, &running, which.stderr, bytes).await;
            }
        }
        drop(buffer);
        drop(running.killing.lock().await);
        if let Some((how, _)) = end {
            let (code, signal) = match how {
                Ended::Code(code) => (Some(code), None),
                Ended::Signal(signal) => (None, Some(signal)),
            };
            let timed_out = running.timed_out.get();
            // The kernel's counters of the other limits are outside, in the host's control groups.
            let exceeded = (code != Some(0) && disk_is_full()).then_some(Exceeded::Disk(0));
            let end = ExecEnd { code, signal, timed_out, exceeded };
            destination.finish(exec, &commands, end).await;
        }
        let [out, err] = streams;
        drain(out, err).await;
    }
}

/// Whether nothing more fits on the sandbox's disk.
fn disk_is_full() -> bool {
    nix::sys::statvfs::statvfs("/")
        .is_ok_and(|disk| disk.blocks_available() == 0 || (disk.files() > 0 && disk.files_free() == 0))
}

/// Reads and drops what is still to come, so that what a command left behind neither stops for a
/// full pipe nor dies of a closed one.
async fn drain(mut out: Stream, mut err: Stream) {
    let mut sink = vec![0; 16 * 1024];
    while out.pipe.is_some() || err.pipe.is_some() {
        let which = tokio::select! {
            () = out.readable() => &mut out,
            () = err.readable() => &mut err,
        };
        which.take(usize::MAX, &mut sink);
        tokio::task::yield_now().await;
    }
}
