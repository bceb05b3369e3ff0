//! Audit segments stay for a while after their session was put away, and no longer.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use protocol::event::EventBody;
use protocol::ids::SessionId;
use protocol::status::SandboxPhase;
use ulid::Ulid;

use crate::far_side::Silent;
use crate::{World, never};

const DAY: u64 = 24 * 3600;

impl World {
    fn segment(&self, session: SessionId) -> std::path::PathBuf {
        self.dir.path().join(format!("audit/{session}.jsonl"))
    }

    /// Writes a segment whose last record is so many days old.
    fn record(&self, session: SessionId, days: u64) {
        std::fs::create_dir_all(self.dir.path().join("audit")).unwrap();
        let file = std::fs::File::create(self.segment(session)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * DAY)).unwrap();
    }

    /// The server is started again, so many days from now; which of the segments are still there.
    async fn after_days(&self, days: i64, sessions: &[SessionId]) -> Vec<bool> {
        self.ahead.store(days, Ordering::SeqCst);
        self.sessions.recover().await.unwrap();
        sessions.iter().map(|session| self.segment(*session).exists()).collect()
    }
}

#[tokio::test]
async fn a_segment_goes_ninety_days_after_its_session_was_deleted_or_archived() {
    let world = World::new(Silent::Agent, never()).await;
    let (living, archived, deleted) = (world.session().await, world.session().await, world.session().await);
    // Of a setup that was tried out, or of a session that was deleted by an earlier version.
    let (unknown, recent) =
        (SessionId::from(Ulid::from_parts(1, 1)), SessionId::from(Ulid::from_parts(1, 2)));
    let all = [living, archived, deleted, unknown, recent];
    for session in [living, archived, deleted, unknown] {
        world.record(session, 100);
    }
    world.record(recent, 80);
    let note = world.dir.path().join("audit/readme");
    std::fs::write(&note, "not a segment").unwrap();
    world.sessions.handle(archived).await.unwrap().archive(true).await.unwrap();
    let suspended = |body: &EventBody| matches!(body, EventBody::SessionStatus(change) if change.sandbox == SandboxPhase::Suspended);
    world.until(archived, suspended).await;
    world.sessions.delete(deleted).await.unwrap();
    // The records are old, but archiving and deleting are of today.
    assert_eq!(world.after_days(0, &all).await, [true, true, true, false, true]);
    assert_eq!(world.after_days(89, &all).await, [true, true, true, false, false]);
    assert_eq!(world.after_days(91, &all).await, [true, false, false, false, false]);
    assert_eq!(world.after_days(10_000, &all).await, [true, false, false, false, false]);
    assert!(note.exists());
}
