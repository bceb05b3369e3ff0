//! Environments as rows: sealed settings, one default, changes that know what they change.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::environment::EnvironmentSettings;
use protocol::ids::EnvironmentId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::error::StoreError;
use crate::log::{Accepted, IdempotencyKey};
use crate::open::{Inner, Store};
use crate::seal::SealKey;

/// An environment as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEnvironment {
    /// Its id.
    pub id: EnvironmentId,
    /// What people decided.
    pub settings: EnvironmentSettings,
    /// Whether sessions that name none get this one.
    pub default: bool,
    /// Hidden.
    pub archived: bool,
    /// Counts from 1.
    pub revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

const COLUMNS: &str = "id, archived, is_default, revision, created, updated, data_key, settings";

impl Store {
    /// Makes an environment; with a key that was seen before it answers as it did then. The first one
    /// of all becomes the default.
    pub async fn create_environment(
        &self,
        id: EnvironmentId,
        settings: EnvironmentSettings,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Accepted<StoredEnvironment>, StoreError> {
        let (inner, at) = (self.inner.clone(), self.inner.clock.now());
        self.write(move |write| {
            let connection = write.connection;
            if let Some(seen) = &idempotency
                && let Some(earlier) = seen.lookup::<EnvironmentId>(connection)?
            {
                return Ok(Accepted { answer: one(connection, &inner, earlier)?, repeated: true });
            }
            check_name(connection, &inner, id, &settings.name)?;
            let (key, sealed_key) = inner.keys.master().new_data_key(&key_context(id))?;
            let first =
                !connection.prepare_cached("SELECT 1 FROM environments WHERE is_default = 1")?.exists([])?;
            connection
                .prepare_cached(
                    "INSERT INTO environments (id, is_default, revision, created, updated, data_key, settings)
                     VALUES (?1, ?2, 1, ?3, ?3, ?4, ?5)",
                )?
                .execute(params![
                    id.to_string(),
                    first,
                    at.as_millisecond(),
                    sealed_key,
                    seal(&key, id, &settings)?
                ])?;
            if let Some(seen) = &idempotency {
                seen.remember(connection, &id.to_string(), at, &id)?;
            }
            Ok(Accepted { answer: one(connection, &inner, id)?, repeated: false })
        })
        .await
    }

    /// One environment, archived or not.
    pub async fn environment(&self, id: EnvironmentId) -> Result<StoredEnvironment, StoreError> {
        self.read(move |connection, inner| one(connection, inner, id)).await
    }

    /// The default environment, once there is one.
    pub async fn default_environment(&self) -> Result<Option<StoredEnvironment>, StoreError> {
        let all = self.environments(false).await?;
        Ok(all.into_iter().find(|environment| environment.default))
    }

    /// All that are archived, or all others: the default first, then by name.
    pub async fn environments(&self, archived: bool) -> Result<Vec<StoredEnvironment>, StoreError> {
        self.read(move |connection, inner| all(connection, inner, archived)).await
    }

    /// Replaces the settings of an environment whose newest revision is known.
    pub async fn edit_environment(
        &self,
        id: EnvironmentId,
        revision: u64,
        settings: EnvironmentSettings,
    ) -> Result<StoredEnvironment, StoreError> {
        let (inner, at) = (self.inner.clone(), self.inner.clock.now());
        self.write(move |write| {
            let connection = write.connection;
            let found = one(connection, &inner, id)?;
            if found.archived {
                return Err(StoreError::Archived);
            }
            if found.revision != revision {
                return Err(StoreError::Stale { given: revision, newest: found.revision });
            }
            check_name(connection, &inner, id, &settings.name)?;
            let key = key(connection, &inner, id)?;
            connection
                .prepare_cached(
                    "UPDATE environments SET settings = ?2, revision = revision + 1, updated = ?3 WHERE id = ?1",
                )?
                .execute(params![id.to_string(), seal(&key, id, &settings)?, at.as_millisecond()])?;
            one(connection, &inner, id)
        })
        .await
    }

    /// Hides an environment, or brings it back.
    pub async fn archive_environment(
        &self,
        id: EnvironmentId,
        archived: bool,
    ) -> Result<StoredEnvironment, StoreError> {
        let (inner, at) = (self.inner.clone(), self.inner.clock.now());
        self.write(move |write| {
            let connection = write.connection;
            let found = one(connection, &inner, id)?;
            if found.archived == archived {
                return Ok(found);
            }
            if archived && found.default {
                return Err(StoreError::ArchivesDefault);
            }
            if !archived {
                check_name(connection, &inner, id, &found.settings.name)?;
            }
            connection
                .prepare_cached(
                    "UPDATE environments SET archived = ?2, revision = revision + 1, updated = ?3 WHERE id = ?1",
                )?
                .execute(params![id.to_string(), archived, at.as_millisecond()])?;
            one(connection, &inner, id)
        })
        .await
    }

    /// Makes an environment the default.
    pub async fn make_default_environment(&self, id: EnvironmentId) -> Result<StoredEnvironment, StoreError> {
        let inner = self.inner.clone();
        self.write(move |write| {
            let connection = write.connection;
            if one(connection, &inner, id)?.archived {
                return Err(StoreError::Archived);
            }
            connection.execute("UPDATE environments SET is_default = 0 WHERE is_default = 1", [])?;
            connection.execute("UPDATE environments SET is_default = 1 WHERE id = ?1", [id.to_string()])?;
            one(connection, &inner, id)
        })
        .await
    }
}

/// The data key of an environment that exists.
pub(crate) fn key(connection: &Connection, inner: &Inner, id: EnvironmentId) -> Result<SealKey, StoreError> {
    let sealed: Vec<u8> = connection
        .prepare_cached("SELECT data_key FROM environments WHERE id = ?1")?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()?
        .ok_or(StoreError::NoEnvironment(id))?;
    inner.keys.master().open_data_key(&key_context(id), &sealed)
}

fn key_context(id: EnvironmentId) -> String {
    format!("{id} key")
}

fn settings_context(id: EnvironmentId) -> String {
    format!("{id} settings")
}

fn seal(key: &SealKey, id: EnvironmentId, settings: &EnvironmentSettings) -> Result<Vec<u8>, StoreError> {
    let json = serde_json::to_vec(settings)
        .map_err(|source| StoreError::Damaged { what: "an environment to store", source })?;
    key.seal(&settings_context(id), &json)
}

fn check_name(
    connection: &Connection,
    inner: &Inner,
    id: EnvironmentId,
    name: &str,
) -> Result<(), StoreError> {
    let same = |other: &StoredEnvironment| {
        other.id != id && other.settings.name.to_lowercase() == name.to_lowercase()
    };
    match all(connection, inner, false)?.iter().any(same) {
        true => Err(StoreError::NameTaken(name.to_owned())),
        false => Ok(()),
    }
}

fn one(connection: &Connection, inner: &Inner, id: EnvironmentId) -> Result<StoredEnvironment, StoreError> {
    let sealed = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM environments WHERE id = ?1"))?
        .query_row([id.to_string()], Sealed::read)
        .optional()?
        .ok_or(StoreError::NoEnvironment(id))?;
    sealed.open(inner, id)
}

fn all(connection: &Connection, inner: &Inner, archived: bool) -> Result<Vec<StoredEnvironment>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM environments WHERE archived = ?1"))?;
    let mut sorted = BTreeMap::new();
    for sealed in statement.query_map([archived], Sealed::read)? {
        let sealed = sealed?;
        let Ok(id) = sealed.id.parse::<EnvironmentId>() else { continue };
        let opened = sealed.open(inner, id)?;
        sorted.insert((!opened.default, opened.settings.name.to_lowercase(), id), opened);
    }
    Ok(sorted.into_values().collect())
}

/// A row before it is opened.
struct Sealed {
    id: String,
    archived: bool,
    default: bool,
    revision: u64,
    created: i64,
    updated: i64,
    data_key: Vec<u8>,
    settings: Vec<u8>,
}

impl Sealed {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            archived: row.get("archived")?,
            default: row.get("is_default")?,
            revision: row.get("revision")?,
            created: row.get("created")?,
            updated: row.get("updated")?,
            data_key: row.get("data_key")?,
            settings: row.get("settings")?,
        })
    }

    fn open(self, inner: &Inner, id: EnvironmentId) -> Result<StoredEnvironment, StoreError> {
        let key = inner.keys.master().open_data_key(&key_context(id), &self.data_key)?;
        let json = key.open(&settings_context(id), &self.settings, "an environment")?;
        let settings = serde_json::from_slice(&json)
            .map_err(|source| StoreError::Damaged { what: "an environment", source })?;
        let time = |millis| Timestamp::from_millisecond(millis).unwrap_or_default();
        Ok(StoredEnvironment {
            id,
            settings,
            default: self.default,
            archived: self.archived,
            revision: self.revision,
            created_at: time(self.created),
            updated_at: time(self.updated),
        })
    }
}
