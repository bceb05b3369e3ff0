//! Blobs: what is too long for a row, one sealed file each, named by the content's SHA-256.
//!
//! ```text
//!  blobs/<session>/<sha256>      written whole under another name, synced, then renamed
//! ```
//!
//! A blob is written before the event that names it; one that no event names is harmless and goes
//! with its session.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use failpoint::{Side, reached};
use protocol::event::{BlobRef, EventBody};
use protocol::ids::SessionId;
use sha2::{Digest as _, Sha256};

use crate::error::StoreError;
use crate::open::Store;
use crate::seal::{SealKey, random};

/// Bodies over so many bytes are kept as blobs.
const MAX_ROW_BYTES: usize = 16 * 1024;

/// The largest blob.
pub const MAX_BLOB_BYTES: usize = 32 * 1024 * 1024;

pub(crate) struct Blobs {
    dir: PathBuf,
}

/// An event's body, ready for its row.
pub(crate) struct Prepared {
    pub(crate) body: EventBody,
    pub(crate) sealed: Option<Vec<u8>>,
    pub(crate) blob: Option<String>,
}

pub(crate) fn body_context(session: SessionId) -> String {
    format!("{session} event")
}

impl Blobs {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        fs::create_dir_all(&dir).map_err(|source| StoreError::io("create", &dir, source))?;
        Ok(Self { dir })
    }

    pub(crate) fn prepare(
        &self,
        session: SessionId,
        key: &SealKey,
        body: EventBody,
    ) -> Result<Prepared, StoreError> {
        let json = serde_json::to_vec(&body)
            .map_err(|source| StoreError::Damaged { what: "an event to store", source })?;
        if json.len() > MAX_ROW_BYTES {
            let blob = self.put(session, key, &json)?;
            return Ok(Prepared { body, sealed: None, blob: Some(blob) });
        }
        let sealed = key.seal(&body_context(session), &json)?;
        Ok(Prepared { body, sealed: Some(sealed), blob: None })
    }

    pub(crate) fn put(&self, session: SessionId, key: &SealKey, bytes: &[u8]) -> Result<String, StoreError> {
        if bytes.len() > MAX_BLOB_BYTES {
            return Err(StoreError::BlobTooLarge { size: bytes.len() as u64, cap: MAX_BLOB_BYTES as u64 });
        }
        let name = hex(&Sha256::digest(bytes));
        let dir = self.dir.join(session.to_string());
        let path = dir.join(&name);
        if path.exists() {
            return Ok(name);
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|source| StoreError::io("create", &dir, source))?;
        let sealed = key.seal(&blob_context(session, &name), bytes)?;
        reached(Side::Before, "blob", || "written".into());
        write_whole(&dir, &path, &sealed).map_err(|source| StoreError::io("write", &path, source))?;
        reached(Side::After, "blob", || "written".into());
        Ok(name)
    }

    pub(crate) fn get(&self, session: SessionId, key: &SealKey, name: &str) -> Result<Vec<u8>, StoreError> {
        if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(StoreError::NoBlob(name.chars().take(80).collect()));
        }
        let path = self.dir.join(session.to_string()).join(name);
        let sealed = fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => StoreError::NoBlob(name.to_owned()),
            _ => StoreError::io("read", &path, source),
        })?;
        key.open(&blob_context(session, name), &sealed, "a blob")
    }

    /// Sessions that have blobs.
    pub(crate) fn sessions(&self) -> Result<Vec<SessionId>, StoreError> {
        let failed = |source| StoreError::io("list", &self.dir, source);
        let mut sessions = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            sessions.extend(name.to_str().and_then(|name| name.parse::<SessionId>().ok()));
        }
        Ok(sessions)
    }

    pub(crate) fn delete_session(&self, session: SessionId) -> Result<(), StoreError> {
        let dir = self.dir.join(session.to_string());
        reached(Side::Before, "blob", || "all of a session removed".into());
        match fs::remove_dir_all(&dir) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::io("remove", dir, source)),
        }
    }
}

impl Store {
    /// Keeps bytes for a session.
    pub async fn put_blob(
        &self,
        session: SessionId,
        bytes: Vec<u8>,
        truncated: bool,
    ) -> Result<BlobRef, StoreError> {
        let key = self.key(session).await?;
        let inner = std::sync::Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            let blob = inner.blobs.put(session, &key, &bytes)?;
            Ok(BlobRef { blob, size: bytes.len() as u64, truncated })
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }

    /// The bytes of a blob.
    pub async fn blob(&self, session: SessionId, name: String) -> Result<Vec<u8>, StoreError> {
        let key = self.key(session).await?;
        let inner = std::sync::Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.blobs.get(session, &key, &name))
            .await
            .map_err(|_| StoreError::Closed)?
    }
}

fn blob_context(session: SessionId, name: &str) -> String {
    format!("{session} blob {name}")
}

fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let suffix: [u8; 8] = random().map_err(std::io::Error::other)?;
    let fresh = dir.join(format!(".{}", hex(&suffix)));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written?;
    fs::File::open(dir)?.sync_all()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
