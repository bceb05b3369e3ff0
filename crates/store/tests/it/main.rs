//! The store through its public door, on real files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod deletion;
mod environments;
mod log;
mod open;

use jiff::Timestamp;
use protocol::event::{EventBody, RepositoryOrigin, SessionCreated};
use protocol::ids::{PromptId, SessionId};
use protocol::prompt::{Delivery, QueuedPrompt};
use store::{Clock, Store};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::system()).unwrap();
        Self { dir, store }
    }

    async fn session(&self) -> SessionId {
        let id = new_id();
        self.store.create_session(id, created(), prompt_id(), "fix it".into(), None).await.unwrap();
        id
    }

    /// Closes the store and opens it again. The writer's thread lets go of the files a moment after
    /// the last handle, so the lock decides when it is done.
    fn reopen(self) -> Self {
        let Self { dir, store } = self;
        drop(store);
        let store = Store::open(dir.path(), Clock::system()).unwrap();
        Self { dir, store }
    }
}

fn new_id() -> SessionId {
    ulid::Ulid::generate().into()
}

fn prompt_id() -> PromptId {
    ulid::Ulid::generate().into()
}

fn waiting(text: &str) -> QueuedPrompt {
    QueuedPrompt { prompt: prompt_id(), text: text.into(), delivery: Delivery::Next }
}

fn created() -> SessionCreated {
    SessionCreated {
        existing_branch: false,
        title: "Fix the clock".into(),
        agent: "patchyard".into(),
        image: "slim".into(),
        environment: None,
        repository: RepositoryOrigin { name: "clock".into(), url: None, branch: Some("main".into()) },
        head: "a".repeat(40),
        base: "a".repeat(40),
        branch: "patchyard/fix-the-clock-00000000".into(),
        fork: None,
    }
}

fn error(text: &str) -> EventBody {
    EventBody::Error(protocol::event::SessionError {
        code: "test".into(),
        message: text.into(),
        retry_in_ms: None,
    })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}
