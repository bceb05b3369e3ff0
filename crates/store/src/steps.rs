//! The writer without its thread: a simulation says when a batch is written, and how that ends.
//!
//! ```text
//!  asked ─▶ step ─┬─ Kept ───────▶ committed, published, answered
//!                 ├─ Refused ────▶ nothing written, and all are told: a full disk
//!                 ├─ LostBefore ─▶ nothing written, nobody is told ─┐
//!                 └─ LostAfter ──▶ written, nobody is told ─────────┴▶ the process is dead: no further step
//! ```

use std::path::Path;

use rusqlite::Connection;

use crate::clock::Clock;
use crate::error::StoreError;
use crate::open::Store;
use crate::writer::{Finish, Stepper, Writer, answer, keep};

/// How a batch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// As it should.
    Kept,
    /// The disk takes nothing.
    Refused,
    /// The process dies before the commit.
    LostBefore,
    /// The process dies after the commit.
    LostAfter,
}

/// What takes the writer's steps.
pub struct Steps {
    stepper: Stepper,
    /// Those who waited when the process died: never told, as nobody is by a process that is dead.
    untold: Vec<Finish>,
}

impl Store {
    /// Opens a data directory whose writer does nothing by itself.
    pub fn open_in_steps(dir: &Path, clock: Clock) -> Result<(Self, Steps), StoreError> {
        let mut steps = None;
        let store = Self::open_with(
            dir,
            clock,
            |master| master,
            |connection, hub| {
                let (writer, stepper) = Writer::new(connection, hub);
                steps = Some(Steps { stepper, untold: Vec::new() });
                Ok(writer)
            },
        )?;
        steps.map(|steps| (store, steps)).ok_or(StoreError::Closed)
    }
}

impl Steps {
    /// Waits until there is something to write; false when the store is closed.
    pub async fn asked(&mut self) -> bool {
        if self.stepper.next.is_none() {
            self.stepper.next = self.stepper.waiting.recv().await;
        }
        self.stepper.next.is_some()
    }

    /// Writes what was asked for up to now, as far as it fits into one batch.
    pub fn step(&mut self, fate: Fate) {
        let Some(first) = self.stepper.next.take() else { return };
        let full =
            || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        let (finishes, outcome) = self.stepper.step(first, |connection: &Connection| match fate {
            Fate::Kept | Fate::LostAfter => keep(connection),
            Fate::Refused | Fate::LostBefore => Err(full()),
        });
        match fate {
            Fate::Kept | Fate::Refused => answer(finishes, outcome.as_ref().err()),
            Fate::LostBefore | Fate::LostAfter => self.untold.extend(finishes),
        }
    }
}
