//! Migrations: numbered, forward only, never edited once released.

use std::path::Path;

use rusqlite::Connection;

use crate::error::StoreError;

/// One text per schema version, from 1 on.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_first.sql"),
    include_str!("schema/0002_environments.sql"),
    include_str!("schema/0003_secrets.sql"),
    include_str!("schema/0004_git_credentials.sql"),
];

/// Brings the database to the newest schema; refuses a newer one than this program knows.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found, known });
    }
    for (index, text) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(text)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(known))?;
        transaction.commit()?;
    }
    Ok(())
}
