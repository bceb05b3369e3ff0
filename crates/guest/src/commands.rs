//! The commands of this sandbox, by id.
//!
//! ```text
//!   Start ──▶ running ── main process ended, output sent ──▶ forgotten
//!               │ Signal · Credit · Stdin · timeout             ▲ Release, or too many
//!               └── kept: Attach ── main process ended ──▶ ended ┘
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
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
use crate::ground::Ground;
use crate::journal::Journal;
use crate::kill;
use crate::pump::{Destination, Pump};
use crate::reaper::Reaper;
use crate::spawn::spawn;
use crate::terminal::Terminal;

/// Ended commands whose outcome nobody took yet, at most.
const MAX_ENDED: usize = 128;

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
    /// Held while it is killed: its end is not told before nothing of it is left.
    pub killing: tokio::sync::Mutex<()>,
    /// What it said, where that is kept.
    journal: Option<Rc<Journal>>,
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
    /// Kept ones that ended, oldest first.
    ended: RefCell<VecDeque<ExecId>>,
    /// Kept ones of which nothing is left: they must not run again.
    forgotten: RefCell<HashSet<ExecId>>,
    reaper: Rc<Reaper>,
    ground: Ground,
}

impl Commands {
    /// No commands yet.
    #[must_use]
    pub fn new(reaper: Rc<Reaper>, ground: Ground) -> Self {
        Self { reaper, ground, ..Self::default() }
    }

    /// Starts a command whose output goes to this connection.
    pub fn start(self: &Rc<Self>, spec: &ExecSpec, outbox: &Outbox) -> Result<(), HandsError> {
        let exec = spec.exec;
        if self.table.borrow().contains_key(&exec) {
            let path = exec.to_string();
            return Err(HandsError::Io { path, reason: "a command with this id runs already".into() });
        }
        if self.forgotten.borrow().contains(&exec) {
            return Err(ran_before(exec));
        }
        let spawned = spawn(spec, self.ground)?;
        let ended = self.reaper.wait_for(spawned.pid);
        let running = Rc::new(Running {
            pid: spawned.pid,
            credit: Cell::new(INITIAL_CREDIT),
            credit_came: Notify::new(),
            timed_out: Cell::new(false),
            killing: tokio::sync::Mutex::default(),
            journal: spec.kept.then(|| Rc::new(Journal::open(exec))),
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
        let destination = match &running.journal {
            Some(journal) => {
                journal.attach(exec, &running, outbox);
                Destination::Journal(Rc::clone(journal))
            }
            None => Destination::Host(outbox.clone()),
        };
        let pump = Pump { exec, commands: Rc::clone(self), running, stdout, stderr, ended, destination };
        tokio::task::spawn_local(pump.run());
        Ok(())
    }

    /// Gives what a kept command said to this connection, and what it will say.
    pub fn attach(&self, exec: ExecId, outbox: &Outbox) -> Result<(), HandsError> {
        if self.forgotten.borrow().contains(&exec) {
            return Err(ran_before(exec));
        }
        let table = self.table.borrow();
        let kept = table.get(&exec).and_then(|running| Some((running, running.journal.as_ref()?)));
        let Some((running, journal)) = kept else {
            return Err(HandsError::NotFound { path: exec.to_string() });
        };
        running.credit.set(INITIAL_CREDIT);
        journal.attach(exec, running, outbox);
        Ok(())
    }

    /// Lets go of what a kept command said, at its end where it still runs.
    pub fn release(&self, exec: ExecId) {
        let journal = self.table.borrow().get(&exec).and_then(|running| running.journal.clone());
        let Some(journal) = journal else { return };
        journal.released.set(true);
        if journal.has_ended() {
            self.ended.borrow_mut().retain(|ended| *ended != exec);
            self.let_go(exec);
        }
    }

    /// A kept command ended: its outcome waits for the host, unless there are too many of those.
    pub fn keep_ended(&self, exec: ExecId, journal: &Journal) {
        if journal.released.get() {
            return self.let_go(exec);
        }
        self.ended.borrow_mut().push_back(exec);
        while self.ended.borrow().len() > MAX_ENDED {
            let oldest = self.ended.borrow_mut().pop_front();
            oldest.into_iter().for_each(|oldest| self.let_go(oldest));
        }
    }

    fn let_go(&self, exec: ExecId) {
        self.forget(exec);
        self.forgotten.borrow_mut().insert(exec);
    }

    /// The main process of a command that runs.
    fn leader(&self, exec: ExecId) -> Option<Pid> {
        let table = self.table.borrow();
        let running = table.get(&exec)?;
        // The number of one that ended may be another process's by now.
        let has_ended = running.journal.as_ref().is_some_and(|journal| journal.has_ended());
        (!has_ended).then_some(running.pid)
    }

    /// Sends a signal; a kill returns once everything is dead. A kept command that ended can still be
    /// killed: what it left behind goes.
    pub async fn signal(&self, exec: ExecId, signal: ExecSignal) -> Result<(), HandsError> {
        let running = self.table.borrow().get(&exec).map(Rc::clone);
        if signal == ExecSignal::Kill
            && let Some(running) = running
        {
            self.kill(exec, &running).await;
            return Ok(());
        }
        let Some(pid) = self.leader(exec) else {
            return Err(HandsError::NotFound { path: exec.to_string() });
        };
        let signal = match signal {
            ExecSignal::Interrupt => Signal::SIGINT,
            ExecSignal::Terminate => Signal::SIGTERM,
            ExecSignal::Kill => return Ok(()),
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

    /// Kills the commands that are not kept; returns once they are gone.
    pub async fn kill_unkept(&self) {
        let unkept: Vec<(ExecId, Rc<Running>)> = {
            let table = self.table.borrow();
            let unkept = table.iter().filter(|(_, running)| running.journal.is_none());
            unkept.map(|(exec, running)| (*exec, Rc::clone(running))).collect()
        };
        for (exec, running) in unkept {
            self.kill(exec, &running).await;
        }
    }

    async fn kill(&self, exec: ExecId, running: &Running) {
        let _killing = running.killing.lock().await;
        kill::command(exec, self.leader(exec), &self.reaper, self.ground).await;
    }

    /// Kills everything; returns once it is gone.
    pub async fn kill_all(&self) {
        kill::everything(&self.reaper, self.ground).await;
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
    if let Some(running) = running
        && commands.leader(exec).is_some()
    {
        running.timed_out.set(true);
        commands.kill(exec, &running).await;
    }
}

fn ran_before(exec: ExecId) -> HandsError {
    HandsError::Limit(format!("the command {exec} ran before, and what it said is not kept any more"))
}
