//! Values of an environment's secrets, sealed.

use std::collections::BTreeMap;

use protocol::ids::EnvironmentId;
use rusqlite::{Connection, params};

use crate::environments::key;
use crate::error::StoreError;
use crate::open::{Inner, Store};

impl Store {
    /// Keeps a value, in place of an earlier one.
    pub async fn set_secret(
        &self,
        environment: EnvironmentId,
        name: String,
        value: String,
    ) -> Result<(), StoreError> {
        let inner = self.inner.clone();
        self.write(move |write| {
            let key = key(write.connection, &inner, environment)?;
            let sealed = key.seal(&context(environment, &name), value.as_bytes())?;
            write
                .connection
                .prepare_cached(
                    "INSERT INTO secrets (environment, name, value) VALUES (?1, ?2, ?3)
                     ON CONFLICT (environment, name) DO UPDATE SET value = excluded.value",
                )?
                .execute(params![environment.to_string(), name, sealed])?;
            Ok(())
        })
        .await
    }

    /// Forgets a value; whether there was one.
    pub async fn remove_secret(&self, environment: EnvironmentId, name: String) -> Result<bool, StoreError> {
        self.write(move |write| {
            let removed = write
                .connection
                .prepare_cached("DELETE FROM secrets WHERE environment = ?1 AND name = ?2")?
                .execute(params![environment.to_string(), name])?;
            Ok(removed > 0)
        })
        .await
    }

    /// The values of an environment by their names.
    pub async fn secrets(&self, environment: EnvironmentId) -> Result<BTreeMap<String, String>, StoreError> {
        self.read(move |connection, inner| all(connection, inner, environment)).await
    }
}

fn all(
    connection: &Connection,
    inner: &Inner,
    environment: EnvironmentId,
) -> Result<BTreeMap<String, String>, StoreError> {
    let key = key(connection, inner, environment)?;
    let mut statement =
        connection.prepare_cached("SELECT name, value FROM secrets WHERE environment = ?1")?;
    let rows = statement.query_map([environment.to_string()], |row| {
        Ok((row.get::<_, String>("name")?, row.get::<_, Vec<u8>>("value")?))
    })?;
    let mut found = BTreeMap::new();
    for row in rows {
        let (name, sealed) = row?;
        let value = key.open(&context(environment, &name), &sealed, "a secret")?;
        let value = String::from_utf8(value).map_err(|_| StoreError::Unsealable("a secret"))?;
        found.insert(name, value);
    }
    Ok(found)
}

fn context(environment: EnvironmentId, name: &str) -> String {
    format!("{environment} secret {name}")
}
