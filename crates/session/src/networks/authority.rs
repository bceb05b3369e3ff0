//! The authority of a session, made once and kept beside its audit segment.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use egress::make_authority;
use protocol::egress::AuthorityKey;
use protocol::ids::SessionId;

/// Where the authority of a session is.
pub(crate) fn authority_of(folder: &Path, session: SessionId) -> PathBuf {
    folder.join(format!("{session}.authority"))
}

/// Reads the authority of a session, or makes it. Sandboxes that trust it may be alive: it stays the same.
pub(super) fn open(folder: &Path, session: SessionId) -> io::Result<AuthorityKey> {
    let path = authority_of(folder, session);
    match fs::read(&path) {
        Ok(bytes) => return Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let made = make_authority(session).map_err(io::Error::other)?;
    // Whole or not at all, and whoever comes second takes what is there.
    let fresh = path.with_extension(format!("authority-{}", ulid::Ulid::generate()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(&made)?)?;
    file.sync_all()?;
    let linked = fs::hard_link(&fresh, &path);
    fs::remove_file(&fresh)?;
    match linked {
        Ok(()) => Ok(made),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(serde_json::from_slice(&fs::read(&path)?)?)
        }
        Err(error) => Err(error),
    }
}
