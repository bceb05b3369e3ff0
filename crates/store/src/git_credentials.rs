//! Credentials for hosts of repositories, sealed: one for each host.

use std::fmt;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::open::{Inner, Store};
use crate::seal::random;

/// A credential of one host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCredential {
    /// `host`, or `host:port` where the port is not 443.
    pub host: String,
    /// The user.
    pub user: String,
    /// The token or password.
    pub token: String,
    /// When it was set.
    pub set_at: Timestamp,
}

impl fmt::Debug for GitCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitCredential").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Store {
    /// Keeps a credential, in place of an earlier one of the same host.
    pub async fn set_git_credential(
        &self,
        host: String,
        user: String,
        token: String,
    ) -> Result<(), StoreError> {
        let (inner, set_at) = (self.inner.clone(), self.inner.clock.now());
        self.write(move |write| {
            remove(write.connection, &inner, &host)?;
            let id: String = random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
            let (key, data_key) = inner.keys.master().new_data_key(&key_context(&id))?;
            let body = serde_json::to_vec(&GitCredential { host, user, token, set_at })
                .map_err(|source| StoreError::Damaged { what: "a credential to store", source })?;
            let body = key.seal(&body_context(&id), &body)?;
            write
                .connection
                .prepare_cached("INSERT INTO git_credentials (id, data_key, body) VALUES (?1, ?2, ?3)")?
                .execute(params![id, data_key, body])?;
            Ok(())
        })
        .await
    }

    /// Forgets the credential of a host; whether there was one.
    pub async fn remove_git_credential(&self, host: String) -> Result<bool, StoreError> {
        let inner = self.inner.clone();
        self.write(move |write| remove(write.connection, &inner, &host)).await
    }

    /// All credentials, by host.
    pub async fn git_credentials(&self) -> Result<Vec<GitCredential>, StoreError> {
        let mut all = self.read(all).await?;
        all.sort_by(|(_, one), (_, other)| one.host.cmp(&other.host));
        Ok(all.into_iter().map(|(_, credential)| credential).collect())
    }
}

fn remove(connection: &Connection, inner: &Inner, host: &str) -> Result<bool, StoreError> {
    let mut removed = false;
    for (id, _) in all(connection, inner)?.into_iter().filter(|(_, credential)| credential.host == host) {
        connection.prepare_cached("DELETE FROM git_credentials WHERE id = ?1")?.execute([id])?;
        removed = true;
    }
    Ok(removed)
}

fn all(connection: &Connection, inner: &Inner) -> Result<Vec<(String, GitCredential)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id, data_key, body FROM git_credentials")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>("id")?, row.get::<_, Vec<u8>>("data_key")?, row.get::<_, Vec<u8>>("body")?))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let (id, data_key, body) = row?;
        let key = inner.keys.master().open_data_key(&key_context(&id), &data_key)?;
        let body = key.open(&body_context(&id), &body, "a credential")?;
        let credential = serde_json::from_slice(&body).map_err(|_| StoreError::Unsealable("a credential"))?;
        found.push((id, credential));
    }
    Ok(found)
}

fn key_context(id: &str) -> String {
    format!("{id} git credential key")
}

fn body_context(id: &str) -> String {
    format!("{id} git credential")
}
