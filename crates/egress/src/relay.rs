//! Bytes in both directions, until both are done.
//!
//! ```text
//!   sandbox ══ readable? ─ read what is there ─ write it ══ host      the same the other way
//!      an end is passed on as an end; ten minutes without a byte end both
//! ```
//!
//! The buffer is a thread's and not a connection's; what cannot be passed on at once is kept apart, so a
//! connection that is idle holds none.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::network::DenyReason;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::budget::Spending;

/// What is read at a time.
const BUFFER: usize = 64 * 1024;

/// How long nothing may come.
pub(crate) const IDLE: Duration = Duration::from_secs(600);

/// What went over a connection: up, down.
#[derive(Debug)]
pub(crate) struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    spending: Spending,
}

impl Counts {
    /// Nothing yet; what goes up is spent.
    pub(crate) fn of(spending: Spending) -> Self {
        Self { up: AtomicU64::new(0), down: AtomicU64::new(0), spending }
    }

    /// Nothing yet, and as much as one likes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unlimited() -> Self {
        Self::of(Spending::unlimited())
    }

    /// Adds to what went up; an error where that was too much.
    pub(crate) fn add_up(&self, bytes: usize) -> io::Result<()> {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.spending.add(bytes) { Ok(()) } else { Err(io::ErrorKind::QuotaExceeded.into()) }
    }

    /// Why it had to end, where what it sent was too much.
    pub(crate) fn reason(&self) -> Option<DenyReason> {
        self.spending.is_over().then_some(DenyReason::UploadBudget)
    }

    /// Adds to what went down.
    pub(crate) fn add_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Both.
    pub(crate) fn both(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

/// Relays until both sides are done, nothing comes any more, or it is ended from outside.
pub(crate) async fn both(
    inside: &mut TcpStream,
    outside: &mut TcpStream,
    counts: &Counts,
    end: &CancellationToken,
) {
    let (from_inside, to_inside) = inside.split();
    let (from_outside, to_outside) = outside.split();
    let up = one(from_inside, to_outside, |bytes| counts.add_up(bytes));
    let down = one(from_outside, to_inside, |bytes| {
        counts.add_down(bytes);
        Ok(())
    });
    let either = async {
        // An error in one direction ends the other.
        let _ = tokio::try_join!(up, down);
    };
    tokio::select! {
        () = either => {}
        () = end.cancelled() => {}
        () = idle(counts) => {}
    }
}

/// Relays what comes from outside until that ends.
pub(crate) async fn down(from: ReadHalf<'_>, to: WriteHalf<'_>, counts: &Counts) -> io::Result<()> {
    one(from, to, |bytes| {
        counts.add_down(bytes);
        Ok(())
    })
    .await
}

async fn one(
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    count: impl Fn(usize) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        from.readable().await?;
        loop {
            match pass_on(&from, &to) {
                Ok(Passed { length: 0, .. }) => return to.shutdown().await,
                Ok(Passed { length, rest }) => {
                    if !rest.is_empty() {
                        to.write_all(&rest).await?;
                    }
                    count(length)?;
                    // A full buffer rarely comes alone; after a part there is a pause.
                    if length < BUFFER {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
}

/// What was read at once, and the part of it that could not be written at once.
struct Passed {
    length: usize,
    rest: Vec<u8>,
}

thread_local! {
    /// One for all connections of a thread: nothing of one is in it while it waits.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Reads what is there, and writes as much of it as the other side takes now.
fn pass_on(from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> io::Result<Passed> {
    SHARED.with_borrow_mut(|buffer| {
        let length = from.try_read(buffer)?;
        let mut written = 0;
        while written < length {
            match to.try_write(&buffer[written..length]) {
                Ok(0) => break,
                Ok(part) => written += part,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Passed { length, rest: buffer[written..length].to_vec() })
    })
}

/// Returns when nothing came for a while.
pub(crate) async fn idle(counts: &Counts) {
    let mut seen = counts.both();
    loop {
        sleep_until(Instant::now() + IDLE).await;
        let now = counts.both();
        if now == seen {
            return;
        }
        seen = now;
    }
}
