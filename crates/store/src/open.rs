//! Opening a data directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::event::LiveDelta;
use protocol::ids::SessionId;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::hub::{Hub, Notice, Subscription};
use crate::seal::{SealKey, master_key};
use crate::writer::{Write, Writer};
use crate::{schema, sessions};

/// How long another server's lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Connections that read at the same time.
const READERS: usize = 4;

/// A data directory: cheap to clone, closed when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) writer: Writer,
    readers: Mutex<Vec<Connection>>,
    free_readers: Semaphore,
    path: PathBuf,
    pub(crate) hub: Arc<Hub>,
    pub(crate) blobs: Blobs,
    pub(crate) keys: sessions::Keys,
    pub(crate) clock: Clock,
    /// Writes of older owners that were refused.
    pub(crate) fenced: AtomicU64,
    /// Held as long as the store is open: one server per data directory.
    _lock: File,
}

impl Store {
    /// Opens `dir/patchyard.db` and what stands beside it, and makes what is missing.
    ///
    /// Fails when another process has the directory, or a newer version wrote it.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        Self::open_with(dir, clock, |master| master, in_a_thread)
    }

    /// Opens a directory of which nothing is sealed, for a test that looks for what sealing hides.
    #[cfg(feature = "unsealed")]
    pub fn open_unsealed(dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        Self::open_with(dir, clock, SealKey::off, in_a_thread)
    }

    /// `begin` sees to it that the writer's steps are taken.
    pub(crate) fn open_with(
        dir: &Path,
        clock: Clock,
        sealing: impl FnOnce(SealKey) -> SealKey,
        begin: impl FnOnce(Connection, Arc<Hub>) -> std::io::Result<Writer>,
    ) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|source| StoreError::io("create", dir, source))?;
        let lock = lock(&dir.join("patchyard.lock"))?;
        let path = dir.join("patchyard.db");
        let mut connection =
            connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        schema::migrate(&mut connection, &path)?;
        let master = sealing(master_key(&dir.join("master.key"))?);
        let hub = Arc::new(Hub::new());
        let writer = begin(connection, Arc::clone(&hub))
            .map_err(|source| StoreError::io("start the writer of", &path, source))?;
        let readers = (0..READERS)
            .map(|_| connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer,
                readers: Mutex::new(readers),
                free_readers: Semaphore::new(READERS),
                path,
                hub,
                blobs: Blobs::open(dir.join("blobs"))?,
                keys: sessions::Keys::new(master),
                clock,
                fenced: AtomicU64::new(0),
                _lock: lock,
            }),
        })
    }

    /// The time as the store sees it.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// How many writes were refused since the store was opened because their session has a newer owner.
    #[must_use]
    pub fn fenced_writes(&self) -> u64 {
        self.inner.fenced.load(Ordering::Relaxed)
    }

    /// Everything that is committed from here on, without live deltas.
    #[must_use]
    pub fn subscribe_all(&self) -> Subscription {
        self.inner.hub.subscribe_all()
    }

    /// What happens in one session from here on. To miss nothing: subscribe first, then read the
    /// log, then skip what was read.
    #[must_use]
    pub fn subscribe(&self, session: SessionId) -> Subscription {
        self.inner.hub.subscribe(session)
    }

    /// Shows a delta to the session's viewers, in order with its events, and keeps nothing.
    pub fn live(&self, session: SessionId, delta: LiveDelta) {
        self.inner.hub.publish(Notice::Live { session, delta });
    }

    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Write<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.writer.write(job).await
    }

    /// Runs a query on a read-only connection, off the async threads.
    pub(crate) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &Inner) -> Result<T, StoreError> + Send + 'static,
    {
        let _permit = self.inner.free_readers.acquire().await.map_err(|_| StoreError::Closed)?;
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            let pooled = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match pooled {
                Some(connection) => connection,
                // A query before this one panicked and took its connection along.
                None => connect(&inner.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
            };
            let result = query(&connection, &inner);
            inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }
}

/// The writer with its thread, which goes with the last handle.
fn in_a_thread(connection: Connection, hub: Arc<Hub>) -> std::io::Result<Writer> {
    Writer::start(connection, hub).map(|(writer, _thread)| writer)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| StoreError::io("open", path, source))?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A server that was killed a moment ago can leave the lock with a child of its own that
            // has not become another program yet.
            Err(fs::TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { path: path.parent().unwrap_or(path).to_owned() });
            }
            Err(fs::TryLockError::Error(source)) => return Err(StoreError::io("lock", path, source)),
        }
    }
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    if !mode.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        // FULL: the commit is on the disk before it is answered. secure_delete: what was deleted is
        // overwritten.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
             PRAGMA wal_autocheckpoint = 2000;",
        )?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
