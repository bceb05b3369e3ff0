//! Appending and reading events.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use failpoint::{Rule, is_broken};
use jiff::Timestamp;
use protocol::api::MAX_QUEUED_PROMPTS;
use protocol::event::{Event, EventBody};
use protocol::ids::{Epoch, PromptId, Seq, SessionId, TurnId};
use protocol::prompt::QueuedPrompt;
use protocol::view::SessionView;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blobs::Prepared;
use crate::error::StoreError;
use crate::hub::Notice;
use crate::open::{Inner, Store};
use crate::sessions::{take_head, view_context};
use crate::writer::{Head, Write};

/// A request's key, chosen by the client, and what the request said.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// What kind of request, and on what.
    pub scope: String,
    /// The client's key.
    pub key: String,
    /// Digest of the request: the same key with another one is refused.
    pub fingerprint: Vec<u8>,
}

/// An answer, and whether it is the one of an earlier request with the same key.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted<T> {
    /// The answer.
    pub answer: T,
    /// Whether nothing was done this time.
    pub repeated: bool,
}

impl IdempotencyKey {
    pub(crate) fn lookup<T: DeserializeOwned>(
        &self,
        connection: &Connection,
    ) -> Result<Option<T>, StoreError> {
        let found: Option<(Vec<u8>, String)> = connection
            .prepare_cached("SELECT fingerprint, answer FROM accepted WHERE scope = ?1 AND key = ?2")?
            .query_row([&self.scope, &self.key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            None => Ok(None),
            Some((fingerprint, _)) if fingerprint != self.fingerprint => Err(StoreError::KeyReused),
            Some((_, answer)) => serde_json::from_str(&answer)
                .map(Some)
                .map_err(|source| StoreError::Damaged { what: "a stored answer", source }),
        }
    }

    pub(crate) fn remember<T: Serialize>(
        &self,
        connection: &Connection,
        owner: &str,
        at: Timestamp,
        answer: &T,
    ) -> Result<(), StoreError> {
        let answer = serde_json::to_string(answer)
            .map_err(|source| StoreError::Damaged { what: "an answer to store", source })?;
        connection
            .prepare_cached(
                "INSERT INTO accepted (scope, key, fingerprint, answer, session, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                self.scope,
                self.key,
                self.fingerprint,
                answer,
                owner,
                at.as_microsecond()
            ])?;
        Ok(())
    }
}

impl Store {
    /// Appends events in one transaction and returns the last `seq` once it is durable.
    pub async fn append(
        &self,
        session: SessionId,
        epoch: Epoch,
        turn: Option<TurnId>,
        causation: Option<Seq>,
        bodies: Vec<EventBody>,
    ) -> Result<Seq, StoreError> {
        let key = self.key(session).await?;
        let prepared = self.prepare(session, key, bodies).await?;
        let at = self.inner.clock.now();
        let inner = Arc::clone(&self.inner);
        self.write(move |write| {
            let head = append_prepared(write, &inner, session, epoch, at, (turn, causation), prepared)?;
            let seq = head.seq;
            write.heads.insert(session, head);
            Ok(seq)
        })
        .await
    }

    /// Queues a prompt as `prompt.queued`, unless too many wait, once per key.
    pub async fn queue_prompt(
        &self,
        session: SessionId,
        epoch: Epoch,
        queued: QueuedPrompt,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Accepted<(PromptId, Seq)>, StoreError> {
        let key = self.key(session).await?;
        let QueuedPrompt { prompt, text, delivery } = queued;
        let queued = EventBody::PromptQueued { prompt, text, delivery };
        let prepared = self.prepare(session, key, vec![queued]).await?;
        let at = self.inner.clock.now();
        let inner = Arc::clone(&self.inner);
        self.write(move |write| {
            if let Some(seen) = &idempotency
                && let Some(answer) = seen.lookup(write.connection)?
            {
                return Ok(Accepted { answer, repeated: true });
            }
            let head = take_head(write, &inner, session)?;
            if head.view.queued_prompts >= MAX_QUEUED_PROMPTS as u64 {
                return Err(StoreError::QueueFull(MAX_QUEUED_PROMPTS));
            }
            write.heads.insert(session, head);
            let head = append_prepared(write, &inner, session, epoch, at, (None, None), prepared)?;
            let answer = (prompt, head.seq);
            if let Some(seen) = &idempotency {
                seen.remember(write.connection, &session.to_string(), at, &answer)?;
            }
            // Only what is in the savepoint for good may be remembered here.
            write.heads.insert(session, head);
            Ok(Accepted { answer, repeated: false })
        })
        .await
    }

    /// Events after `after`, in order, at most `limit`, and the newest `seq` at that moment.
    pub async fn events(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<(Vec<Event>, Seq), StoreError> {
        self.read(move |connection, inner| {
            let head: Seq = connection
                .prepare_cached("SELECT head FROM sessions WHERE id = ?1")?
                .query_row([session.to_string()], |row| row.get(0))
                .optional()?
                .ok_or(StoreError::NoSession(session))?;
            let mut statement = connection.prepare_cached(
                "SELECT seq, at, epoch, kind, turn, causation, body, blob FROM events
                 WHERE session = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
            )?;
            let rows = statement
                .query_map(params![session.to_string(), after, head, limit], StoredEvent::read)?
                .collect::<Result<Vec<_>, _>>()?;
            let key = inner.keys.of(connection, session)?;
            let events =
                rows.into_iter().map(|row| row.open(inner, &key, session)).collect::<Result<Vec<_>, _>>()?;
            Ok((events, head))
        })
        .await
    }

    /// All events of one kind, in order; none where there is no such session.
    pub async fn events_of_kind(
        &self,
        session: SessionId,
        kind: &'static str,
    ) -> Result<Vec<Event>, StoreError> {
        self.events_of_kinds(session, &[kind]).await
    }

    /// All events of some kinds, in order; none where there is no such session.
    pub async fn events_of_kinds(
        &self,
        session: SessionId,
        kinds: &[&'static str],
    ) -> Result<Vec<Event>, StoreError> {
        let kinds = kinds.to_vec();
        self.read(move |connection, inner| {
            let places = vec!["?"; kinds.len()].join(", ");
            let mut statement = connection.prepare_cached(&format!(
                "SELECT seq, at, epoch, kind, turn, causation, body, blob FROM events
                 WHERE session = ? AND kind IN ({places}) ORDER BY seq"
            ))?;
            let id = session.to_string();
            let values = rusqlite::params_from_iter(std::iter::once(id.as_str()).chain(kinds));
            let rows = statement.query_map(values, StoredEvent::read)?.collect::<Result<Vec<_>, _>>()?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            let key = inner.keys.of(connection, session)?;
            rows.into_iter().map(|row| row.open(inner, &key, session)).collect()
        })
        .await
    }

    /// The session that a key made before, if it did.
    pub async fn accepted_session(&self, key: IdempotencyKey) -> Result<Option<SessionId>, StoreError> {
        self.read(move |connection, _| key.lookup(connection)).await
    }

    /// The whole log.
    pub async fn all_events(&self, session: SessionId) -> Result<Vec<Event>, StoreError> {
        Ok(self.events(session, 0, usize::try_from(i64::MAX).unwrap_or(usize::MAX)).await?.0)
    }
}

struct StoredEvent {
    seq: Seq,
    at: i64,
    epoch: Epoch,
    turn: Option<String>,
    causation: Option<Seq>,
    body: Option<Vec<u8>>,
    blob: Option<String>,
}

impl StoredEvent {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get("seq")?,
            at: row.get("at")?,
            epoch: row.get("epoch")?,
            turn: row.get("turn")?,
            causation: row.get("causation")?,
            body: row.get("body")?,
            blob: row.get("blob")?,
        })
    }

    fn open(
        self,
        inner: &Inner,
        key: &crate::seal::SealKey,
        session: SessionId,
    ) -> Result<Event, StoreError> {
        let json = match (self.body, self.blob) {
            (Some(sealed), _) => key.open(&crate::blobs::body_context(session), &sealed, "an event")?,
            (None, Some(blob)) => inner.blobs.get(session, key, &blob)?,
            (None, None) => return Err(StoreError::Unsealable("an event without a body")),
        };
        let body = serde_json::from_slice(&json)
            .map_err(|source| StoreError::Damaged { what: "an event", source })?;
        Ok(Event {
            session,
            seq: self.seq,
            at: Timestamp::from_microsecond(self.at).unwrap_or_default(),
            epoch: self.epoch,
            turn: self.turn.and_then(|turn| turn.parse().ok()),
            causation: self.causation,
            body,
        })
    }
}

/// Appends to the session's log inside the writer, if this is the newest epoch.
pub(crate) fn append_prepared(
    write: &mut Write<'_>,
    inner: &Inner,
    session: SessionId,
    given: Epoch,
    at: Timestamp,
    place: (Option<TurnId>, Option<Seq>),
    prepared: Vec<Prepared>,
) -> Result<Head, StoreError> {
    let head = take_head(write, inner, session)?;
    if head.epoch != given && !is_broken(Rule::Fencing) {
        let newest = head.epoch;
        write.heads.insert(session, head);
        inner.fenced.fetch_add(1, Ordering::Relaxed);
        return Err(StoreError::Fenced { session, given, newest });
    }
    append_to(write, inner, session, Some(head), at, place, prepared)
}

/// Appends after a head; without one it begins the log.
pub(crate) fn append_to(
    write: &mut Write<'_>,
    inner: &Inner,
    session: SessionId,
    mut head: Option<Head>,
    at: Timestamp,
    (turn, causation): (Option<TurnId>, Option<Seq>),
    prepared: Vec<Prepared>,
) -> Result<Head, StoreError> {
    let mut events = Vec::with_capacity(prepared.len());
    for piece in prepared {
        let seq = head.as_ref().map_or(1, |head| head.seq + 1);
        let epoch = head.as_ref().map_or(0, |head| head.epoch);
        insert(write.connection, session, seq, epoch, at, (turn, causation), &piece)?;
        let event = Event { session, seq, at, epoch, turn, causation, body: piece.body };
        head = Some(match head {
            Some(mut head) => {
                head.view.apply(&event);
                head.seq = seq;
                head
            }
            None => {
                Head { epoch, seq, view: SessionView::begin(&event).ok_or(StoreError::NoSession(session))? }
            }
        });
        events.push(event);
    }
    let head = head.ok_or(StoreError::NoSession(session))?;
    save_head(write, inner, session, &head)?;
    write.notices.push(Notice::Appended { events: Arc::new(events), view: Arc::new(head.view.clone()) });
    Ok(head)
}

fn insert(
    connection: &Connection,
    session: SessionId,
    seq: Seq,
    epoch: Epoch,
    at: Timestamp,
    (turn, causation): (Option<TurnId>, Option<Seq>),
    piece: &Prepared,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO events (session, seq, at, epoch, kind, turn, causation, body, blob)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            session.to_string(),
            seq,
            at.as_microsecond(),
            epoch,
            piece.body.kind(),
            turn.map(|turn| turn.to_string()),
            causation,
            piece.sealed,
            piece.blob,
        ])?;
    Ok(())
}

fn save_head(write: &Write<'_>, inner: &Inner, session: SessionId, head: &Head) -> Result<(), StoreError> {
    let json = serde_json::to_vec(&head.view)
        .map_err(|source| StoreError::Damaged { what: "a view to store", source })?;
    let sealed = inner.keys.of(write.connection, session)?.seal(&view_context(session), &json)?;
    write
        .connection
        .prepare_cached("UPDATE sessions SET head = ?2, archived = ?3, view = ?4 WHERE id = ?1")?
        .execute(params![session.to_string(), head.seq, head.view.archived, sealed])?;
    Ok(())
}
