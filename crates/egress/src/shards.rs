//! The threads that connections are carried on.
//!
//! ```text
//!   sandbox ─▶ the next thread in turn ─▶ its listeners and all of its connections stay there
//! ```
//!
//! A connection that wanders between threads wakes one of them for every few bytes: one in thirteen of a
//! tunnel's system calls did nothing else.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// As many threads as the machine has processors. Dropped, they end with all that they carry.
#[derive(Debug)]
pub(crate) struct Shards {
    first: (Handle, oneshot::Sender<()>),
    more: Vec<(Handle, oneshot::Sender<()>)>,
    turn: AtomicUsize,
}

impl Shards {
    pub(crate) fn start() -> io::Result<Self> {
        let count = available_parallelism().map_or(1, usize::from);
        let more = (1..count).map(|_| shard()).collect::<io::Result<_>>()?;
        Ok(Self { first: shard()?, more, turn: AtomicUsize::new(0) })
    }

    /// The thread for the next sandbox.
    pub(crate) fn next(&self) -> &Handle {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (self.more.len() + 1);
        let (handle, _) = turn.checked_sub(1).and_then(|turn| self.more.get(turn)).unwrap_or(&self.first);
        handle
    }
}

fn shard() -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    std::thread::Builder::new().name("egress-shard".into()).spawn(move || {
        // Nothing is ever sent: the other end goes.
        let _ = runtime.block_on(stopped);
    })?;
    Ok((handle, stop))
}
