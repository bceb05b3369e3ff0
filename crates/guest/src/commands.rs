//! The commands of this sandbox, by id.
//!
//! ```text
//!   Start ──▶ running ── main process ended, output sent ──▶ forgotten
//!               │ Signal · Credit · Stdin · timeout
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use protocol::guest::{FromGuest, INITIAL_CREDIT, STDIN_CREDIT};
use protocol::hands::{ExecSignal, ExecSpec, HandsError, TerminalSize};
use protocol::ids::ExecId;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};

use crate::connection::Outbox;
use crate::kill;
use crate::pump::Pump;
use crate::reaper::Reaper;
use crate::spawn::spawn;
use crate::terminal::Terminal;

/// One running command, as those see it who do not carry its output.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    /// Bytes of output that the host still takes.
    pub credit: Cell<u64>,
    /// Told when `credit` grew.
    pub credit_came: Notify,
    /// Whether its timeout killed it.
    pub timed_out: Cell<bool>,
    terminal: Option<Terminal>,
    input: RefCell<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    input_waiting: Rc<Cell<u64>>,
}

/// A host that sent more input than it was allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more standard input for {0} than was allowed")]
pub struct InputOverrun(pub ExecId);

/// All running commands.
#[derive(Debug, Default)]
pub struct Commands {
    table: RefCell<HashMap<ExecId, Rc<Running>>>,
    reaper: Rc<Reaper>,
    /// Whether every command may gain rights.
    nested: bool,
}

impl Commands {
    /// No commands yet.
    #[must_use]
    pub fn new(reaper: Rc<Reaper>, nested: bool) -> Self {
        Self { table: RefCell::default(), reaper, nested }
    }

    /// Starts a command whose output goes to this connection.
    pub fn start(self: &Rc<Self>, spec: &ExecSpec, outbox: &Outbox) -> Result<(), HandsError> {
        let exec = spec.exec;
        if self.table.borrow().contains_key(&exec) {
            let path = exec.to_string();
            return Err(HandsError::Io { path, reason: "a command with this id runs already".into() });
        }
        let spawned = spawn(spec, spec.new_privileges || self.nested)?;
        let ended = self.reaper.wait_for(spawned.pid);
        let running = Rc::new(Running {
            pid: spawned.pid,
            credit: Cell::new(INITIAL_CREDIT),
            credit_came: Notify::new(),
            timed_out: Cell::new(false),
            terminal: spawned.terminal,
            input: RefCell::new(None),
            input_waiting: Rc::default(),
        });
        if let Some(pipe) = spawned.stdin {
            let (sender, receiver) = mpsc::unbounded_channel();
            running.input.replace(Some(sender));
            let waiting = Rc::clone(&running.input_waiting);
            tokio::task::spawn_local(feed(exec, pipe, receiver, waiting, outbox.clone()));
        }
        if let Some(after) = spec.timeout {
            tokio::task::spawn_local(expire(Rc::downgrade(self), exec, after));
        }
        self.table.borrow_mut().insert(exec, Rc::clone(&running));
        let (stdout, stderr) = (spawned.stdout, spawned.stderr);
        let pump =
            Pump { exec, commands: Rc::clone(self), running, stdout, stderr, ended, outbox: outbox.clone() };
        tokio::task::spawn_local(pump.run());
        Ok(())
    }

    /// Sends a signal; a kill returns once everything is dead.
    pub async fn signal(&self, exec: ExecId, signal: ExecSignal) -> Result<(), HandsError> {
        let Some(pid) = self.table.borrow().get(&exec).map(|running| running.pid) else {
            return Err(HandsError::NotFound { path: exec.to_string() });
        };
        let signal = match signal {
            ExecSignal::Interrupt => Signal::SIGINT,
            ExecSignal::Terminate => Signal::SIGTERM,
            ExecSignal::Kill => {
                kill::command(exec, pid, &self.reaper).await;
                return Ok(());
            }
        };
        match killpg(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(HandsError::Io { path: exec.to_string(), reason: error.to_string() }),
        }
    }

    /// Makes a command's terminal another size.
    pub fn resize(&self, exec: ExecId, size: TerminalSize) -> Result<(), HandsError> {
        let table = self.table.borrow();
        let running = table.get(&exec).ok_or_else(|| HandsError::NotFound { path: exec.to_string() })?;
        let Some(terminal) = &running.terminal else { return Ok(()) };
        let failed =
            |error: std::io::Error| HandsError::Io { path: exec.to_string(), reason: error.to_string() };
        terminal.resize(size).map_err(failed)
    }

    /// Kills everything; returns once it is gone.
    pub async fn kill_all(&self) {
        kill::everything(&self.reaper).await;
    }

    /// Allows more output. Unknown commands have just ended.
    pub fn credit(&self, exec: ExecId, bytes: u64) {
        if let Some(running) = self.table.borrow().get(&exec) {
            running.credit.set(running.credit.get().saturating_add(bytes));
            running.credit_came.notify_one();
        }
    }

    /// Hands input to a command; empty closes it. Unknown commands have just ended.
    pub fn input(&self, exec: ExecId, bytes: Vec<u8>) -> Result<(), InputOverrun> {
        let table = self.table.borrow();
        let Some(running) = table.get(&exec) else { return Ok(()) };
        if bytes.is_empty() {
            running.input.replace(None);
            return Ok(());
        }
        let waiting = running.input_waiting.get() + bytes.len() as u64;
        if waiting > STDIN_CREDIT {
            return Err(InputOverrun(exec));
        }
        if let Some(sender) = running.input.borrow().as_ref() {
            running.input_waiting.set(waiting);
            let _ = sender.send(bytes);
        }
        Ok(())
    }

    /// Takes an ended command out.
    pub fn forget(&self, exec: ExecId) {
        self.table.borrow_mut().remove(&exec);
    }
}

/// Writes input to a command and gives the host room for more. What a command does not want any
/// more is dropped, as a broken pipe drops it.
async fn feed(
    exec: ExecId,
    pipe: pipe::Sender,
    mut input: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Rc<Cell<u64>>,
    outbox: Outbox,
) {
    let mut pipe = Some(pipe);
    while let Some(bytes) = input.recv().await {
        if let Some(open) = &mut pipe
            && open.write_all(&bytes).await.is_err()
        {
            pipe = None;
        }
        let taken = bytes.len() as u64;
        waiting.set(waiting.get().saturating_sub(taken));
        outbox.send(&FromGuest::StdinTaken { exec, bytes: taken }).await;
    }
}

/// Kills a command that is still there after its time.
async fn expire(commands: std::rc::Weak<Commands>, exec: ExecId, after: Duration) {
    tokio::time::sleep(after).await;
    let Some(commands) = commands.upgrade() else { return };
    let running = commands.table.borrow().get(&exec).map(Rc::clone);
    if let Some(running) = running {
        running.timed_out.set(true);
        kill::command(exec, running.pid, &commands.reaper).await;
    }
}
