//! What setups left for later sessions, as rows; the layers themselves are sandbox-host's.
//!
//! A row is written after its layer is there and goes before it does: a row without a layer, or a
//! layer without a row, is what a crash left, and is of no use to anybody.

use jiff::Timestamp;
use protocol::ids::{EnvironmentId, LayerId};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use crate::environments;
use crate::error::StoreError;
use crate::open::{Inner, Store};

/// What is known of the content of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupCacheFacts {
    /// The repository, for display.
    pub repository: String,
    /// The commit that is checked out.
    pub commit: String,
    /// Whether the setup script changed anything in the workspace, ignored files included.
    pub wrote_workspace: bool,
    /// Digest of what git says of the workspace; the same commit must say the same again.
    pub workspace_state: String,
    /// Whether a setup script ran.
    pub ran_script: bool,
    /// How long clone and setup took, in milliseconds.
    pub duration_ms: u64,
}

/// A layer to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSetupCache {
    /// The layer.
    pub layer: LayerId,
    /// Whose setup it was.
    pub environment: EnvironmentId,
    /// Digest of everything that the content depends on, the commit aside.
    pub key: Vec<u8>,
    /// Bytes on the host's disk.
    pub bytes: u64,
    /// What is known of it.
    pub facts: SetupCacheFacts,
}

/// A layer that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSetupCache {
    /// The layer.
    pub layer: LayerId,
    /// Whose setup it was.
    pub environment: EnvironmentId,
    /// Bytes on the host's disk.
    pub bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a session last began with it; the creation before that.
    pub used_at: Timestamp,
    /// What is known of it.
    pub facts: SetupCacheFacts,
}

const COLUMNS: &str = "layer, environment, bytes, created, used, facts";

impl Store {
    /// Remembers a layer. Of two with the same key the first stays, unless `replaces` names it: what
    /// comes back is the layer that is not remembered any more, or never was, for the caller to drop.
    pub async fn put_setup_cache(
        &self,
        cache: NewSetupCache,
        replaces: Option<LayerId>,
    ) -> Result<Option<LayerId>, StoreError> {
        let (inner, at) = (self.inner.clone(), self.inner.clock.now().as_millisecond());
        self.write(move |write| {
            let connection = write.connection;
            let there: Option<String> = connection
                .prepare_cached("SELECT layer FROM setup_caches WHERE cache_key = ?1")?
                .query_row([&cache.key], |row| row.get(0))
                .optional()?;
            let there = there.and_then(|layer| layer.parse::<LayerId>().ok());
            if there.is_some() && there != replaces {
                return Ok(Some(cache.layer));
            }
            connection
                .prepare_cached("DELETE FROM setup_caches WHERE cache_key = ?1")?
                .execute([&cache.key])?;
            let key = environments::key(connection, &inner, cache.environment)?;
            let json = serde_json::to_vec(&cache.facts)
                .map_err(|source| StoreError::Damaged { what: "a setup's facts to store", source })?;
            connection
                .prepare_cached(
                    "INSERT INTO setup_caches (layer, environment, cache_key, bytes, created, used, facts)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)",
                )?
                .execute(params![
                    cache.layer.to_string(),
                    cache.environment.to_string(),
                    cache.key,
                    cache.bytes,
                    at,
                    key.seal(&context(cache.layer), &json)?
                ])?;
            Ok(there)
        })
        .await
    }

    /// The layer with this key.
    pub async fn setup_cache(&self, key: Vec<u8>) -> Result<Option<StoredSetupCache>, StoreError> {
        self.read(move |connection, inner| {
            let found = connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM setup_caches WHERE cache_key = ?1"))?
                .query_row([key], Sealed::read)
                .optional()?;
            found.map(|sealed| sealed.open(connection, inner)).transpose()
        })
        .await
    }

    /// The layers of one environment, or of all, the last used first.
    pub async fn setup_caches(
        &self,
        environment: Option<EnvironmentId>,
    ) -> Result<Vec<StoredSetupCache>, StoreError> {
        self.read(move |connection, inner| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM setup_caches WHERE ?1 IS NULL OR environment = ?1 ORDER BY used DESC"
            ))?;
            let rows = statement.query_map([environment.map(|id| id.to_string())], Sealed::read)?;
            rows.map(|row| row?.open(connection, inner)).collect()
        })
        .await
    }

    /// Notes that a session began with a layer.
    pub async fn use_setup_cache(&self, layer: LayerId) -> Result<(), StoreError> {
        let at = self.inner.clock.now().as_millisecond();
        self.write(move |write| {
            write
                .connection
                .prepare_cached("UPDATE setup_caches SET used = ?2 WHERE layer = ?1")?
                .execute(params![layer.to_string(), at])?;
            Ok(())
        })
        .await
    }

    /// Forgets a layer; done also when it is not known.
    pub async fn forget_setup_cache(&self, layer: LayerId) -> Result<(), StoreError> {
        self.write(move |write| {
            write.connection.execute("DELETE FROM setup_caches WHERE layer = ?1", [layer.to_string()])?;
            Ok(())
        })
        .await
    }
}

fn context(layer: LayerId) -> String {
    format!("{layer} facts")
}

struct Sealed {
    layer: String,
    environment: String,
    bytes: u64,
    created: i64,
    used: i64,
    facts: Vec<u8>,
}

impl Sealed {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            layer: row.get("layer")?,
            environment: row.get("environment")?,
            bytes: row.get("bytes")?,
            created: row.get("created")?,
            used: row.get("used")?,
            facts: row.get("facts")?,
        })
    }

    fn open(self, connection: &rusqlite::Connection, inner: &Inner) -> Result<StoredSetupCache, StoreError> {
        let unreadable = StoreError::Unsealable("an id of a setup's layer");
        let (Ok(layer), Ok(environment)) = (self.layer.parse::<LayerId>(), self.environment.parse()) else {
            return Err(unreadable);
        };
        let key = environments::key(connection, inner, environment)?;
        let json = key.open(&context(layer), &self.facts, "a setup's facts")?;
        let facts = serde_json::from_slice(&json)
            .map_err(|source| StoreError::Damaged { what: "a setup's facts", source })?;
        let time = |millis| Timestamp::from_millisecond(millis).unwrap_or_default();
        Ok(StoredSetupCache {
            layer,
            environment,
            bytes: self.bytes,
            created_at: time(self.created),
            used_at: time(self.used),
            facts,
        })
    }
}
