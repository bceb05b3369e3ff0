//! The one thread that writes.
//!
//! ```text
//!  jobs ─▶ recv ─▶ BEGIN ─▶ (SAVEPOINT job RELEASE | ROLLBACK)* ─▶ COMMIT ─▶ publish ─▶ answer ─┐
//!           ▲──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Between two batches it can be asked to leave nothing in the write-ahead log, where what was deleted
//! would stay for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use failpoint::{Side, reached};
use protocol::ids::{Epoch, Seq, SessionId};
use protocol::view::SessionView;
use rusqlite::Connection;
use tokio::sync::oneshot;

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
type Finish = Box<dyn FnOnce(Result<(), String>) + Send>;
/// Runs in the batch, or learns why it cannot; says whether its changes are to be kept.
type Job = Box<dyn FnOnce(Result<&mut Write<'_>, &rusqlite::Error>) -> (bool, Finish) + Send>;

/// What the thread is asked for.
enum Order {
    Write(Job),
    /// Move everything out of the write-ahead log and cut it; whether that could be done.
    Truncate(oneshot::Sender<Result<bool, StoreError>>),
}

/// Sessions whose heads are kept at most.
const MAX_HEADS: usize = 4096;

pub(crate) struct Writer {
    orders: mpsc::Sender<Order>,
}

impl Writer {
    /// Starts the thread; it ends when the last sender is gone.
    pub(crate) fn start(connection: Connection, hub: Arc<Hub>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (orders, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(&connection, &hub, &receiver))?;
        Ok((Self { orders }, thread))
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

fn run(connection: &Connection, hub: &Hub, orders: &mpsc::Receiver<Order>) {
    let mut heads = HashMap::new();
    let mut next = None;
    while let Some(order) = next.take().or_else(|| orders.recv().ok()) {
        let first = match order {
            Order::Write(job) => job,
            Order::Truncate(answer) => {
                let _ = answer.send(truncate(connection));
                continue;
            }
        };
        let more = std::iter::from_fn(|| match orders.try_recv().ok()? {
            Order::Write(job) => Some(job),
            other => {
                next = Some(other);
                None
            }
        });
        let batch = std::iter::once(first).chain(more).take(MAX_BATCH);
        let mut finishes = Vec::new();
        let mut notices = Vec::new();
        let committed = commit(connection, &mut heads, batch, &mut finishes, &mut notices);
        match &committed {
            Ok(()) => notices.into_iter().for_each(|notice| hub.publish(notice)),
            Err(error) => {
                let _ = connection.execute_batch("ROLLBACK");
                heads.clear();
                tracing::error!(error = %error, writes = finishes.len(), "the log could not be written");
            }
        }
        for finish in finishes {
            finish(committed.as_ref().copied().map_err(ToString::to_string));
        }
        if heads.len() > MAX_HEADS {
            heads.clear();
        }
    }
}

fn truncate(connection: &Connection) -> Result<bool, StoreError> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}

fn commit(
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
    begun?;
    reached(Side::Before, "commit", || names(notices));
    connection.execute_batch("COMMIT")?;
    reached(Side::After, "commit", || names(notices));
    Ok(())
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
