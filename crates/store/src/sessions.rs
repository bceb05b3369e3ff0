//! Sessions as rows: their keys, their views, their beginning and their end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::event::{EventBody, SessionCreated};
use protocol::ids::{Epoch, PromptId, SessionId, TurnId};
use protocol::prompt::Delivery;
use protocol::view::SessionView;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::blobs::Prepared;
use crate::error::StoreError;
use crate::hub::Notice;
use crate::log::{Accepted, IdempotencyKey};
use crate::open::{Inner, Store};
use crate::seal::SealKey;
use crate::writer::{Head, Write};

/// The opened data keys.
pub(crate) struct Keys {
    master: SealKey,
    opened: Mutex<HashMap<SessionId, Arc<SealKey>>>,
}

impl Keys {
    pub(crate) fn new(master: SealKey) -> Self {
        Self { master, opened: Mutex::default() }
    }

    /// The key that seals all others.
    pub(crate) fn master(&self) -> &SealKey {
        &self.master
    }

    /// The key of a session that exists.
    pub(crate) fn of(&self, connection: &Connection, session: SessionId) -> Result<Arc<SealKey>, StoreError> {
        if let Some(key) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&session) {
            return Ok(Arc::clone(key));
        }
        let sealed: Vec<u8> = connection
            .prepare_cached("SELECT data_key FROM sessions WHERE id = ?1")?
            .query_row([session.to_string()], |row| row.get(0))
            .optional()?
            .ok_or(StoreError::NoSession(session))?;
        let key = Arc::new(self.master.open_data_key(&format!("{session} key"), &sealed)?);
        self.remember(session, &key);
        Ok(key)
    }

    fn create(&self, session: SessionId) -> Result<(Arc<SealKey>, Vec<u8>), StoreError> {
        let (key, sealed) = self.master.new_data_key(&format!("{session} key"))?;
        let key = Arc::new(key);
        self.remember(session, &key);
        Ok((key, sealed))
    }

    fn remember(&self, session: SessionId, key: &Arc<SealKey>) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(session, Arc::clone(key));
    }

    fn forget(&self, session: SessionId) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }
}

impl Store {
    /// Makes a session with its first two events, `session.created` and `prompt.queued`, in one
    /// transaction. With a key that was seen before it answers as it did then.
    pub async fn create_session(
        &self,
        id: SessionId,
        created: SessionCreated,
        prompt: PromptId,
        text: String,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Accepted<SessionView>, StoreError> {
        let bodies = vec![
            EventBody::SessionCreated(created),
            EventBody::PromptQueued { prompt, text, delivery: Delivery::Next },
        ];
        self.begin_session(id, vec![(None, bodies)], None, idempotency).await
    }

    /// Makes a session that begins with what another one's log says: `session.created`, then groups of
    /// events, each of a turn or of none, all in one transaction. The blobs that they name are copied.
    pub async fn fork_session(
        &self,
        id: SessionId,
        from: SessionId,
        groups: Vec<(Option<TurnId>, Vec<EventBody>)>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Accepted<SessionView>, StoreError> {
        self.begin_session(id, groups, Some(from), idempotency).await
    }

    async fn begin_session(
        &self,
        id: SessionId,
        groups: Vec<(Option<TurnId>, Vec<EventBody>)>,
        from: Option<SessionId>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Accepted<SessionView>, StoreError> {
        let (key, sealed_key) = self.inner.keys.create(id)?;
        let prepared = self.prepare_groups(id, key, groups, from).await;
        let made = match prepared {
            Ok(prepared) => self.insert_session(id, sealed_key, prepared, idempotency).await,
            Err(error) => Err(error),
        };
        match made {
            Ok(Ok(answer)) => Ok(Accepted { answer, repeated: false }),
            Ok(Err(earlier)) => {
                self.forget(id).await?;
                Ok(Accepted { answer: self.session(earlier).await?, repeated: true })
            }
            Err(error) => {
                self.forget(id).await?;
                Err(error)
            }
        }
    }

    async fn prepare_groups(
        &self,
        id: SessionId,
        key: Arc<SealKey>,
        groups: Vec<(Option<TurnId>, Vec<EventBody>)>,
        from: Option<SessionId>,
    ) -> Result<Vec<(Option<TurnId>, Vec<Prepared>)>, StoreError> {
        if let Some(from) = from {
            let theirs = self.key(from).await?;
            let bodies = groups.iter().flat_map(|(_, bodies)| bodies);
            let blobs: Vec<String> = bodies.filter_map(named_blob).collect();
            let (inner, key) = (Arc::clone(&self.inner), Arc::clone(&key));
            let copied = tokio::task::spawn_blocking(move || {
                for blob in blobs {
                    let bytes = inner.blobs.get(from, &theirs, &blob)?;
                    inner.blobs.put(id, &key, &bytes)?;
                }
                Ok::<_, StoreError>(())
            });
            copied.await.map_err(|_| StoreError::Closed)??;
        }
        let mut prepared = Vec::with_capacity(groups.len());
        for (turn, bodies) in groups {
            prepared.push((turn, self.prepare(id, Arc::clone(&key), bodies).await?));
        }
        Ok(prepared)
    }

    /// The inner error is the session that the key made before.
    async fn insert_session(
        &self,
        id: SessionId,
        sealed_key: Vec<u8>,
        groups: Vec<(Option<TurnId>, Vec<Prepared>)>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Result<SessionView, SessionId>, StoreError> {
        let (inner, at) = (Arc::clone(&self.inner), self.inner.clock.now());
        self.write(move |write| {
            if let Some(seen) = &idempotency
                && let Some(earlier) = seen.lookup::<SessionId>(write.connection)?
            {
                return Ok(Err(earlier));
            }
            write
                .connection
                .prepare_cached(
                    "INSERT INTO sessions (id, epoch, head, data_key, view) VALUES (?1, 0, 0, ?2, x'')",
                )?
                .execute(params![id.to_string(), sealed_key])?;
            let mut head = None;
            for (turn, prepared) in groups {
                head =
                    Some(crate::log::append_to(write, &inner, id, head.take(), at, (turn, None), prepared)?);
            }
            let head = head.ok_or(StoreError::NoSession(id))?;
            let view = head.view.clone();
            if let Some(seen) = &idempotency {
                seen.remember(write.connection, &id.to_string(), at, &id)?;
            }
            // Only what is in the savepoint for good may be remembered here.
            write.heads.insert(id, head);
            Ok(Ok(view))
        })
        .await
    }

    /// Becomes the one writer of a session: every older epoch is fenced from here on.
    pub async fn claim(&self, session: SessionId) -> Result<Epoch, StoreError> {
        self.write(move |write| {
            write.heads.remove(&session);
            write
                .connection
                .prepare_cached("UPDATE sessions SET epoch = epoch + 1 WHERE id = ?1 RETURNING epoch")?
                .query_row([session.to_string()], |row| row.get(0))
                .optional()?
                .ok_or(StoreError::NoSession(session))
        })
        .await
    }

    /// A session as it is now.
    pub async fn session(&self, session: SessionId) -> Result<SessionView, StoreError> {
        self.read(move |connection, inner| {
            let sealed: Vec<u8> = connection
                .prepare_cached("SELECT view FROM sessions WHERE id = ?1")?
                .query_row([session.to_string()], |row| row.get(0))
                .optional()?
                .ok_or(StoreError::NoSession(session))?;
            open_view(connection, inner, session, &sealed)
        })
        .await
    }

    /// Sessions, newest first, at most `limit`, older than `before`.
    pub async fn sessions(
        &self,
        archived: bool,
        before: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionView>, StoreError> {
        self.read(move |connection, inner| {
            let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
            let mut statement = connection.prepare_cached(
                "SELECT id, view FROM sessions WHERE archived = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
            )?;
            let rows = statement.query_map(params![archived, before, limit], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
            })?;
            let mut views = Vec::new();
            for row in rows {
                let (id, sealed) = row?;
                if let Ok(id) = id.parse() {
                    views.push(open_view(connection, inner, id, &sealed)?);
                }
            }
            Ok(views)
        })
        .await
    }

    /// How many sessions there are: in the list, and archived.
    pub async fn count_sessions(&self) -> Result<(u64, u64), StoreError> {
        self.read(|connection, _| {
            let mut statement =
                connection.prepare_cached("SELECT COUNT(*), COALESCE(SUM(archived), 0) FROM sessions")?;
            let (all, archived) =
                statement.query_row([], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?)))?;
            Ok((all.saturating_sub(archived), archived))
        })
        .await
    }

    /// Deletes a session: from here on nobody sees it or writes to it, and with its key nothing of it can be
    /// read. What is left of it is for [`Self::erase`].
    pub async fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.write(move |write| {
            write.heads.remove(&session);
            let id = session.to_string();
            if write.connection.execute("DELETE FROM sessions WHERE id = ?1", [&id])? == 0 {
                return Err(StoreError::NoSession(session));
            }
            write.connection.execute("DELETE FROM events WHERE session = ?1", [&id])?;
            write.connection.execute("DELETE FROM accepted WHERE session = ?1", [&id])?;
            write.notices.push(Notice::Deleted { session });
            Ok(())
        })
        .await?;
        self.inner.keys.forget(session);
        Ok(())
    }

    /// Removes the blobs of a session that was deleted, and what the write-ahead log has of it; to be tried
    /// again after an error.
    pub async fn erase(&self, session: SessionId) -> Result<(), StoreError> {
        self.forget(session).await?;
        if self.inner.writer.truncate().await? { Ok(()) } else { Err(StoreError::StillRead) }
    }

    /// Removes what a session that is not there has beside the database.
    async fn forget(&self, session: SessionId) -> Result<(), StoreError> {
        self.inner.keys.forget(session);
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.blobs.delete_session(session))
            .await
            .map_err(|_| StoreError::Closed)?
    }

    /// Removes what a crash left of sessions that are not in the database. Call it before sessions
    /// are made: one that is being made has blobs before it has a row.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.read(|connection, inner| {
            let mut known = connection.prepare_cached("SELECT 1 FROM sessions WHERE id = ?1")?;
            for session in inner.blobs.sessions()? {
                if !known.exists([session.to_string()])? {
                    inner.blobs.delete_session(session)?;
                }
            }
            Ok(())
        })
        .await?;
        // Also what a deletion wrote that a crash cut short.
        self.inner.writer.truncate().await.map(drop)
    }

    /// Serialises, seals, and moves what is too long for a row into blobs.
    pub(crate) async fn prepare(
        &self,
        session: SessionId,
        key: Arc<SealKey>,
        bodies: Vec<EventBody>,
    ) -> Result<Vec<Prepared>, StoreError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            bodies.into_iter().map(|body| inner.blobs.prepare(session, &key, body)).collect()
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }

    pub(crate) async fn key(&self, session: SessionId) -> Result<Arc<SealKey>, StoreError> {
        if let Some(key) =
            self.inner.keys.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
        {
            return Ok(key);
        }
        self.read(move |connection, inner| inner.keys.of(connection, session)).await
    }
}

/// The blob that an event names, besides one for its own body.
fn named_blob(body: &EventBody) -> Option<String> {
    match body {
        EventBody::ToolResult(result) => Some(result.full_output.as_ref()?.blob.clone()),
        _ => None,
    }
}

/// The head of a session: from memory, else from its row.
pub(crate) fn take_head(
    write: &mut Write<'_>,
    inner: &Inner,
    session: SessionId,
) -> Result<Head, StoreError> {
    if let Some(head) = write.heads.remove(&session) {
        return Ok(head);
    }
    let (epoch, seq, sealed): (u64, u64, Vec<u8>) = write
        .connection
        .prepare_cached("SELECT epoch, head, view FROM sessions WHERE id = ?1")?
        .query_row([session.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?
        .ok_or(StoreError::NoSession(session))?;
    let view = open_view(write.connection, inner, session, &sealed)?;
    Ok(Head { epoch, seq, view })
}

pub(crate) fn view_context(session: SessionId) -> String {
    format!("{session} view")
}

fn open_view(
    connection: &Connection,
    inner: &Inner,
    session: SessionId,
    sealed: &[u8],
) -> Result<SessionView, StoreError> {
    let key = inner.keys.of(connection, session)?;
    let json = key.open(&view_context(session), sealed, "a session's view")?;
    serde_json::from_slice(&json).map_err(|source| StoreError::Damaged { what: "a session's view", source })
}
