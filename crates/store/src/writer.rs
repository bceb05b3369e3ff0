//! The one that writes: a step, and the thread that takes one after the other.
//!
//! ```text
//!  jobs ─▶ recv ─▶ BEGIN ─▶ (SAVEPOINT job RELEASE | ROLLBACK)* ─▶ COMMIT ─▶ publish ─▶ answer ─┐
//!           ▲──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Between two batches it can be asked to leave nothing in the write-ahead log, where what was deleted
//! would stay for a while. A simulation has no thread: it takes the steps itself ([`crate::steps`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use failpoint::{Rule, Side, is_broken, reached};
use protocol::ids::{Epoch, Seq, SessionId};
use protocol::view::SessionView;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::hub::{Hub, Notice};

/// Jobs that share a commit at most; what comes later waits for the next.
const MAX_BATCH: usize = 1000;

/// What the writer knows of a session without asking the database again.
pub(crate) struct Head {
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    pub(crate) view: SessionView,
}

/// What a job works with.
pub(crate) struct Write<'a> {
    pub(crate) connection: &'a Connection,
    /// Sessions that were written lately. A job that changes a session takes its entry out and puts
    /// it back when done: after an error it is read from the database again.
    pub(crate) heads: &'a mut HashMap<SessionId, Head>,
    /// What to publish once this is committed.
    pub(crate) notices: Vec<Notice>,
}

/// A job in the batch, once it ran.
pub(crate) type Finish = Box<dyn FnOnce(Result<(), String>) + Send>;
/// Runs in the batch, or learns why it cannot; says whether its changes are to be kept.
type Job = Box<dyn FnOnce(Result<&mut Write<'_>, &rusqlite::Error>) -> (bool, Finish) + Send>;

/// What the thread is asked for.
pub(crate) enum Order {
    Write(Job),
    /// Move everything out of the write-ahead log and cut it; whether that could be done.
    Truncate(oneshot::Sender<Result<bool, StoreError>>),
}

/// Sessions whose heads are kept at most.
const MAX_HEADS: usize = 4096;

pub(crate) struct Writer {
    orders: mpsc::UnboundedSender<Order>,
}

impl Writer {
    /// A writer, and what takes its steps.
    pub(crate) fn new(connection: Connection, hub: Arc<Hub>) -> (Self, Stepper) {
        let (orders, waiting) = mpsc::unbounded_channel();
        (Self { orders }, Stepper { connection, hub, heads: HashMap::new(), waiting, next: None })
    }

    /// Starts the thread; it ends when the last sender is gone.
    pub(crate) fn start(connection: Connection, hub: Arc<Hub>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (writer, mut stepper) = Self::new(connection, hub);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || {
            while let Some(order) = stepper.next.take().or_else(|| stepper.waiting.blocking_recv()) {
                let (finishes, outcome) = stepper.step(order, keep);
                answer(finishes, outcome.as_ref().err());
            }
        })?;
        Ok((writer, thread))
    }

    /// Runs a job in the next batch; answers when it is durable.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Write<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |write| {
            let result = match write {
                Ok(write) => job(write),
                Err(error) => Err(StoreError::NotCommitted(error.to_string())),
            };
            let keep = result.is_ok();
            let finish: Finish = Box::new(move |committed| {
                let result = match committed {
                    Ok(()) => result,
                    Err(reason) => result.and(Err(StoreError::NotCommitted(reason))),
                };
                // Nobody waits any more: the write stands all the same.
                let _ = answer.send(result);
            });
            (keep, finish)
        });
        self.orders.send(Order::Write(job)).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Leaves nothing in the write-ahead log; false while somebody reads from it.
    pub(crate) async fn truncate(&self) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Truncate(answer)).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// Takes the steps: one batch after the other, in the order in which they were asked for.
pub(crate) struct Stepper {
    connection: Connection,
    hub: Arc<Hub>,
    heads: HashMap<SessionId, Head>,
    pub(crate) waiting: mpsc::UnboundedReceiver<Order>,
    /// What ended a batch, and is to be done first.
    pub(crate) next: Option<Order>,
}

impl Stepper {
    /// Does what was asked for up to now, as far as it fits into one batch: `end` commits it. Gives who is to be
    /// told, and how it ended.
    pub(crate) fn step(
        &mut self,
        first: Order,
        end: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
    ) -> (Vec<Finish>, Result<(), rusqlite::Error>) {
        let first = match first {
            Order::Write(job) => job,
            Order::Truncate(answer) => {
                let _ = answer.send(truncate(&self.connection));
                return (Vec::new(), Ok(()));
            }
        };
        let Self { connection, hub, heads, waiting, next } = self;
        let more = std::iter::from_fn(|| match waiting.try_recv().ok()? {
            Order::Write(job) => Some(job),
            other => {
                *next = Some(other);
                None
            }
        });
        let batch = std::iter::once(first).chain(more).take(MAX_BATCH);
        let (mut finishes, mut notices) = (Vec::new(), Vec::new());
        let mut committed = run(connection, heads, batch, &mut finishes, &mut notices);
        if is_broken(Rule::PublishAfterCommit) {
            notices.iter().cloned().for_each(|notice| hub.publish(notice));
        }
        if committed.is_ok() {
            committed = commit(connection, &notices, end);
        }
        match &committed {
            Ok(()) if is_broken(Rule::PublishAfterCommit) => {}
            Ok(()) => notices.into_iter().for_each(|notice| hub.publish(notice)),
            Err(error) => {
                let _ = connection.execute_batch("ROLLBACK");
                heads.clear();
                tracing::error!(error = %error, writes = finishes.len(), "the log could not be written");
            }
        }
        if heads.len() > MAX_HEADS {
            heads.clear();
        }
        (finishes, committed)
    }
}

/// The ordinary end of a batch.
pub(crate) fn keep(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch("COMMIT")
}

/// Tells those who wait how it ended.
pub(crate) fn answer(finishes: Vec<Finish>, failed: Option<&rusqlite::Error>) {
    for finish in finishes {
        finish(failed.map_or(Ok(()), |error| Err(error.to_string())));
    }
}

fn truncate(connection: &Connection) -> Result<bool, StoreError> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}

fn commit(
    connection: &Connection,
    notices: &[Notice],
    end: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
) -> Result<(), rusqlite::Error> {
    reached(Side::Before, "commit", || names(notices));
    end(connection)?;
    reached(Side::After, "commit", || names(notices));
    Ok(())
}

/// Runs the jobs of a batch in a transaction that is begun here.
fn run(
    connection: &Connection,
    heads: &mut HashMap<SessionId, Head>,
    batch: impl Iterator<Item = Job>,
    finishes: &mut Vec<Finish>,
    notices: &mut Vec<Notice>,
) -> Result<(), rusqlite::Error> {
    let begun = connection.execute_batch("BEGIN IMMEDIATE");
    for job in batch {
        let ready = match &begun {
            Ok(()) => connection.execute_batch("SAVEPOINT job"),
            Err(_) => Ok(()),
        };
        if let Err(error) = begun.as_ref().and(ready.as_ref()) {
            finishes.push(job(Err(error)).1);
            continue;
        }
        let mut write = Write { connection, heads, notices: Vec::new() };
        let (keep, finish) = job(Ok(&mut write));
        finishes.push(finish);
        if keep {
            notices.append(&mut write.notices);
            connection.execute_batch("RELEASE job")?;
        } else {
            connection.execute_batch("ROLLBACK TO job; RELEASE job")?;
        }
    }
    begun
}

/// What a commit holds, for people.
fn names(notices: &[Notice]) -> String {
    let of = |notice: &Notice| match notice {
        Notice::Appended { events, .. } => {
            events.iter().map(|event| event.body.kind()).collect::<Vec<_>>().join(" ")
        }
        Notice::Deleted { .. } => "the end of a session".to_owned(),
        Notice::Live { .. } => String::new(),
    };
    let all: Vec<String> = notices.iter().map(of).collect();
    if all.is_empty() { "no event".to_owned() } else { all.join(" | ") }
}
