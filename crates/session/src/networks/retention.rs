//! How long audit segments stay, and the authorities of sessions.
//!
//! ```text
//!   living session ─ archived or deleted ─▶ its segment stays for so many days ─▶ removed
//!                        └─ taken out of the archive: the days begin anew with the next time
//! ```
//!
//! A file's time is that of its last record, or of the deletion of its session. The authority of a session
//! that was deleted goes at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use protocol::ids::SessionId;
use store::StoreError;

use super::authority::authority_of;
use super::chain::{pushes_of, segment_of};
use crate::registry::Shared;

/// How often it is looked for segments whose time is over.
const EVERY: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What became of a session.
enum Fate {
    Lives,
    Archived(SystemTime),
    Deleted,
}

/// The days of a deleted session's segment begin.
pub(crate) fn deleted(folder: &Path, session: SessionId, now: SystemTime) {
    match fs::remove_file(authority_of(folder, session)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%session, %error, "the authority of a deleted session could not be removed");
        }
        _ => {}
    }
    for path in [segment_of(folder, session), pushes_of(folder, session)] {
        let touched = File::options().append(true).open(&path).and_then(|file| file.set_modified(now));
        match touched {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%session, %error, "an audit segment may be removed early");
            }
            _ => {}
        }
    }
}

/// Removes what is over, now and then, until the sessions are gone.
pub(crate) async fn keep(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        sweep(&shared).await;
    }
}

/// Removes what is over now.
pub(crate) async fn sweep(shared: &Shared) {
    let folder = shared.config.audit.clone();
    let days = DAY.saturating_mul(shared.config.audit_days);
    let now = SystemTime::from(shared.store.clock().now());
    let over = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age >= days);
    let found = match tokio::task::spawn_blocking(move || segments(&folder)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return tracing::warn!(%error, "the audit segments cannot be listed"),
        Err(_) => return,
    };
    for (session, path, changed) in found {
        // The authority of a deleted session goes at once: a crash may have been between the two.
        let is_authority = path.extension().is_some_and(|kind| kind == "authority");
        if !over(changed) && !is_authority {
            continue;
        }
        let is_over = match fate(shared, session).await {
            Ok(Fate::Deleted) => true,
            _ if !over(changed) => false,
            Ok(Fate::Archived(since)) => over(since),
            Ok(Fate::Lives) => false,
            Err(error) => {
                tracing::warn!(%session, %error, "whether an audit segment is still needed is not known");
                false
            }
        };
        if is_over && let Err(error) = tokio::fs::remove_file(&path).await {
            tracing::warn!(%session, %error, "an audit segment could not be removed");
        }
    }
}

async fn fate(shared: &Shared, session: SessionId) -> Result<Fate, StoreError> {
    // Setups that are tried out have no session.
    if shared.networks.sandbox_of(session).is_some() {
        return Ok(Fate::Lives);
    }
    match shared.store.session(session).await {
        Ok(view) if view.archived => Ok(Fate::Archived(view.updated_at.into())),
        Ok(_) => Ok(Fate::Lives),
        Err(StoreError::NoSession(_)) => Ok(Fate::Deleted),
        Err(error) => Err(error),
    }
}

/// All segments and authorities, with the time of each. What is neither is left alone.
fn segments(folder: &Path) -> io::Result<Vec<(SessionId, PathBuf, SystemTime)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let ends = [".pushes.jsonl", ".jsonl", ".authority"];
        let of = |name: &str| ends.iter().find_map(|end| name.strip_suffix(end)).map(str::parse);
        let Some(Ok(session)) = name.and_then(of) else { continue };
        let about = fs::symlink_metadata(&path)?;
        if about.is_file() {
            found.push((session, path, about.modified()?));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn segments_are_found_with_their_times_and_deletion_is_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(segments(&folder.path().join("none")).unwrap(), []);
        let session = SessionId::from(Ulid::from_parts(1, 1));
        let path = segment_of(folder.path(), session);
        for other in ["notes.txt", "x.jsonl"] {
            fs::write(folder.path().join(other), "").unwrap();
        }
        fs::create_dir(segment_of(folder.path(), SessionId::from(Ulid::from_parts(1, 2)))).unwrap();
        fs::write(&path, "line\n").unwrap();
        let (old, now) = (SystemTime::UNIX_EPOCH + DAY, SystemTime::UNIX_EPOCH + DAY * 100);
        File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(segments(folder.path()).unwrap(), [(session, path.clone(), old)]);
        let pushes = pushes_of(folder.path(), session);
        fs::write(&pushes, "{}").unwrap();
        assert!(
            segments(folder.path()).unwrap().iter().any(|(of, path, _)| (of, path) == (&session, &pushes))
        );
        fs::remove_file(&pushes).unwrap();
        let authority = authority_of(folder.path(), session);
        fs::write(&authority, "{}").unwrap();
        assert!(segments(folder.path()).unwrap().iter().any(|(_, path, _)| *path == authority));
        deleted(folder.path(), session, now);
        assert_eq!(segments(folder.path()).unwrap(), [(session, path.clone(), now)]);
        assert_eq!(fs::read(&path).unwrap(), b"line\n");
    }
}
