//! What the handles, the executions and the two tasks of a link share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::guest::{FromGuest, Reply, Request, STDIN_CREDIT, ToGuest, encode};
use protocol::hands::{ExecEnd, HandsError};
use protocol::ids::ExecId;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use super::counters::{Counters, Counts};
use super::pace::Pace;
use super::queue::Queue;
use super::wire::{LinkError, receive};

/// How long the guest may take for one answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Requests and commands that may be open at a time.
const MAX_OPEN: usize = 4096;

/// Messages that may wait for the guest to read them: more than all requests and credits that can be open.
const MAX_WAITING: usize = 4 * MAX_OPEN;

/// The most characters of the guest's own words that are passed on.
const MAX_WORDS: usize = 4096;

/// A running command, as the link sees it.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) queue: Mutex<Queue>,
    /// Told when the queue changed or the link died.
    pub(super) changed: Notify,
    /// Bytes of input that may be sent; closed when the command ended or the link died.
    pub(super) input: Semaphore,
    /// Bytes of input that were sent and not yet taken.
    pub(super) input_sent: AtomicU64,
    /// What the kernel had counted before it began.
    counts_before: Counts,
}

#[derive(Debug, Default)]
struct Open {
    requests: HashMap<u64, oneshot::Sender<Result<Reply, HandsError>>>,
    commands: HashMap<ExecId, Arc<Command>>,
}

/// The link itself.
#[derive(Debug)]
pub(super) struct Shared {
    outbox: mpsc::Sender<Vec<u8>>,
    open: Mutex<Open>,
    next_id: AtomicU64,
    dead: watch::Sender<Option<Arc<str>>>,
    counters: Counters,
    /// Files are written in parts one after the other.
    pub(super) writing: tokio::sync::Mutex<()>,
}

impl Shared {
    /// A live link over a greeted connection, with its two tasks.
    pub(super) fn start(reader: OwnedReadHalf, writer: OwnedWriteHalf, counters: Counters) -> Arc<Self> {
        let (outbox, frames) = mpsc::channel(MAX_WAITING);
        let shared = Arc::new(Self {
            outbox,
            open: Mutex::default(),
            next_id: AtomicU64::new(1),
            dead: watch::Sender::new(None),
            counters,
            writing: tokio::sync::Mutex::new(()),
        });
        tokio::spawn(carry(Arc::clone(&shared), reader, writer, frames));
        shared
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the link is dead, if it is.
    pub(super) fn gone(&self) -> Option<HandsError> {
        self.dead.borrow().as_ref().map(|reason| HandsError::Gone(reason.to_string()))
    }

    /// Waits for the link's death and says why.
    pub(super) async fn closed(&self) -> String {
        let mut dead = self.dead.subscribe();
        match dead.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_deref().unwrap_or_default().to_owned(),
            Err(_) => "the link was closed".to_owned(),
        }
    }

    /// Ends the link; the first reason stands.
    pub(super) fn die(&self, reason: &str) {
        let is_first = self.dead.send_if_modified(|dead| {
            let is_first = dead.is_none();
            if is_first {
                *dead = Some(reason.into());
            }
            is_first
        });
        if !is_first {
            return;
        }
        let open = std::mem::take(&mut *self.open());
        for command in open.commands.values() {
            command.input.close();
            command.changed.notify_one();
        }
    }

    /// Sends a message that has no answer; nothing happens when the link is dead.
    pub(super) fn send(&self, message: &ToGuest) -> Result<(), HandsError> {
        // Everything else is cut to fit: what is too long here came from the caller.
        let frame = encode(message).map_err(|error| HandsError::Limit(error.to_string()))?;
        match self.outbox.try_send(frame) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(self.broken("it does not read what it is sent")),
            // Nobody writes any more: the link is dead.
            Err(mpsc::error::TrySendError::Closed(_)) | Ok(()) => Ok(()),
        }
    }

    /// Sends a request without waiting for its answer.
    pub(super) fn post(
        &self,
        request: Request,
    ) -> Result<oneshot::Receiver<Result<Reply, HandsError>>, HandsError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut open = self.open();
            // Looked at under the lock under which the dying link empties the table.
            if let Some(gone) = self.gone() {
                return Err(gone);
            }
            if open.requests.len() >= MAX_OPEN {
                return Err(HandsError::Limit(format!(
                    "more than {MAX_OPEN} requests wait for this sandbox"
                )));
            }
            open.requests.insert(id, sender);
        }
        let sent = self.send(&ToGuest::Request { id, request });
        if sent.is_err() {
            self.open().requests.remove(&id);
        }
        sent.map(|()| receiver)
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn request(&self, request: Request) -> Result<Reply, HandsError> {
        let answer = self.post(request)?;
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.gone().unwrap_or_else(|| HandsError::Gone("the link was closed".into()))),
            Err(_) => Err(self.broken(&format!("it gave no answer within {} s", ANSWER.as_secs()))),
        }
    }

    /// Ends the link for a reason, and gives the error for who noticed.
    pub(super) fn broken(&self, reason: &str) -> HandsError {
        self.die(reason);
        self.gone().unwrap_or_else(|| HandsError::Gone(reason.to_owned()))
    }

    /// Enters a command before it is asked for.
    pub(super) fn enter(&self, exec: ExecId) -> Result<Arc<Command>, HandsError> {
        let command = Arc::new(Command {
            queue: Mutex::new(Queue::new()),
            changed: Notify::new(),
            input: Semaphore::new(usize::try_from(STDIN_CREDIT).unwrap_or(Semaphore::MAX_PERMITS)),
            input_sent: AtomicU64::new(0),
            counts_before: self.counters.read(),
        });
        let mut open = self.open();
        if let Some(gone) = self.gone() {
            return Err(gone);
        }
        if open.commands.len() >= MAX_OPEN {
            return Err(HandsError::Limit(format!("more than {MAX_OPEN} commands run in this sandbox")));
        }
        if open.commands.contains_key(&exec) {
            let path = exec.to_string();
            return Err(HandsError::Io { path, reason: "a command with this id runs already".into() });
        }
        open.commands.insert(exec, Arc::clone(&command));
        Ok(command)
    }

    /// Takes a command out that never began.
    pub(super) fn withdraw(&self, exec: ExecId) {
        self.open().commands.remove(&exec);
    }

    /// Lets more output come.
    pub(super) fn credit(&self, exec: ExecId, bytes: u64) {
        if bytes > 0 {
            let _ = self.send(&ToGuest::Credit { exec, bytes });
        }
    }

    /// Takes in one message of the guest.
    fn hear(&self, message: FromGuest) -> Result<(), LinkError> {
        match message {
            FromGuest::Hello(_) => Err(LinkError::Rules("a second hello")),
            FromGuest::Reply { id, reply } => {
                let waiting = self.open().requests.remove(&id);
                let waiting = waiting.ok_or(LinkError::Rules("an answer to no question"))?;
                // Who asked may have stopped waiting.
                let _ = waiting.send(reply.map_err(tame));
                Ok(())
            }
            FromGuest::Output { exec, stderr, bytes } => {
                let command = self.open().commands.get(&exec).map(Arc::clone);
                let command = command.ok_or(LinkError::Rules("output of a command that does not run"))?;
                let credit = command.queue().push(stderr, &bytes)?;
                command.changed.notify_one();
                self.credit(exec, credit);
                Ok(())
            }
            FromGuest::Exited { exec, end } => {
                let command = self.open().commands.remove(&exec);
                let command = command.ok_or(LinkError::Rules("the end of a command that does not run"))?;
                let exceeded = self.counters.exceeded(command.counts_before, end.exceeded);
                command.queue().finish(ExecEnd { exceeded, ..end });
                command.input.close();
                command.changed.notify_one();
                Ok(())
            }
            FromGuest::StdinTaken { exec, bytes } => {
                // Input may be taken, in the sense of dropped, after the end of a command.
                let Some(command) = self.open().commands.get(&exec).map(Arc::clone) else { return Ok(()) };
                let sent = command.input_sent.load(Ordering::Acquire);
                if bytes == 0 || bytes > sent {
                    return Err(LinkError::Rules("more input taken than was sent"));
                }
                command.input_sent.fetch_sub(bytes, Ordering::AcqRel);
                command.input.add_permits(usize::try_from(bytes).unwrap_or(0));
                Ok(())
            }
        }
    }
}

impl Command {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads and writes until one of them fails or the link dies.
async fn carry(
    shared: Arc<Shared>,
    reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Vec<u8>>,
) {
    let read = async {
        let (mut reader, mut pace) = (BufReader::new(reader), Pace::new());
        loop {
            let message = receive(&mut reader).await?;
            shared.hear(message)?;
            if let Some(pause) = pace.take() {
                tokio::time::sleep(pause).await;
            }
        }
    };
    let write = async {
        while let Some(frame) = frames.recv().await {
            writer.write_all(&frame).await?;
        }
        Ok(())
    };
    let outcome: Result<(), LinkError> = tokio::select! {
        outcome = read => outcome,
        outcome = write => outcome,
        _ = shared.closed() => return,
    };
    match outcome {
        Ok(()) => shared.die("the link was closed"),
        Err(error) => shared.die(&error.to_string()),
    }
}

/// The guest's error as far as it can be believed: whether the sandbox is gone is not the guest's to
/// say, and its words have an end.
fn tame(error: HandsError) -> HandsError {
    let cut = |text: String| text.chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect();
    match error {
        HandsError::NotFound { path } => HandsError::NotFound { path: cut(path) },
        HandsError::Denied { path } => HandsError::Denied { path: cut(path) },
        HandsError::WrongKind { path, reason } => {
            HandsError::WrongKind { path: cut(path), reason: cut(reason) }
        }
        HandsError::Limit(text) => HandsError::Limit(cut(text)),
        HandsError::Io { path, reason } => HandsError::Io { path: cut(path), reason: cut(reason) },
        HandsError::Gone(text) => HandsError::Io { path: "the sandbox".into(), reason: cut(text) },
    }
}
