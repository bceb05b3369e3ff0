//! Who may talk to the server: tokens, browser sessions and one-time codes.
//!
//! ```text
//!  serve prints a one-time code ─┬─ browser ─▶ browser session (cookie), 30 days
//!                                └─ terminal ─▶ token (header), until revoked
//! ```
//!
//! Only SHA-256 of a secret is stored; each has 256 random bits, so that no slow hash is needed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use crate::error::StoreError;
use crate::open::Store;
use crate::seal::random;

/// A kind of secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For terminals and scripts.
    Token,
    /// For one browser.
    Browser,
    /// Good for one exchange into one of the others.
    Code,
}

/// Whose secret it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What it was made for: "this machine", "browser", "login".
    pub name: String,
}

impl Access {
    fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Browser => "browser",
            Self::Code => "code",
        }
    }

    /// What a secret of this kind begins with, so that scanners and people know it.
    fn prefix(self) -> &'static str {
        match self {
            Self::Token => "pyt_",
            Self::Browser => "pyb_",
            Self::Code => "pyc_",
        }
    }

    fn lifetime(self) -> Option<SignedDuration> {
        match self {
            Self::Token => None,
            Self::Browser => Some(SignedDuration::from_hours(30 * 24)),
            Self::Code => Some(SignedDuration::from_hours(1)),
        }
    }
}

impl Store {
    /// Makes a secret; it is shown once and cannot be read back.
    pub async fn grant(&self, access: Access, name: &str) -> Result<String, StoreError> {
        let secret = format!("{}{}", access.prefix(), URL_SAFE_NO_PAD.encode(random::<32>()?));
        let (hash, name) = (digest(&secret), name.to_owned());
        let now = self.clock().now();
        self.write(move |write| insert(write.connection, access, &hash, &name, now)).await?;
        Ok(secret)
    }

    /// Whose secret this is, unless it is unknown or over.
    pub async fn identify(&self, access: Access, secret: &str) -> Result<Option<Identity>, StoreError> {
        let hash = digest(secret);
        let now = self.clock().now().as_second();
        self.read(move |connection, _| {
            Ok(connection
                .prepare_cached(
                    "SELECT name FROM access WHERE hash = ?1 AND kind = ?2 AND (expires IS NULL OR expires > ?3)",
                )?
                .query_row(params![hash, access.word(), now], |row| Ok(Identity { name: row.get(0)? }))
                .optional()?)
        })
        .await
    }

    /// Spends a one-time code for a new secret; `None` when the code is unknown, spent or over.
    pub async fn exchange(&self, code: &str, into: Access, name: &str) -> Result<Option<String>, StoreError> {
        let secret = format!("{}{}", into.prefix(), URL_SAFE_NO_PAD.encode(random::<32>()?));
        let (code, hash, name) = (digest(code), digest(&secret), name.to_owned());
        let now = self.clock().now();
        let spent = self
            .write(move |write| {
                let spent = write.connection.execute(
                    "DELETE FROM access WHERE hash = ?1 AND kind = 'code' AND expires > ?2",
                    params![code, now.as_second()],
                )?;
                if spent > 0 {
                    insert(write.connection, into, &hash, &name, now)?;
                }
                Ok(spent > 0)
            })
            .await?;
        Ok(spent.then_some(secret))
    }

    /// Ends a secret.
    pub async fn revoke(&self, secret: &str) -> Result<(), StoreError> {
        let hash = digest(secret);
        self.write(move |write| {
            write.connection.execute("DELETE FROM access WHERE hash = ?1", [hash])?;
            Ok(())
        })
        .await
    }
}

fn digest(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

fn insert(
    connection: &rusqlite::Connection,
    access: Access,
    hash: &[u8],
    name: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let expires = access.lifetime().map(|lifetime| now.as_second() + lifetime.as_secs());
    connection.execute("DELETE FROM access WHERE expires <= ?1", [now.as_second()])?;
    connection.execute(
        "INSERT INTO access (hash, kind, name, created, expires) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![hash, access.word(), name, now.as_second(), expires],
    )?;
    Ok(())
}
