//! The event log, and what is folded from it.
//!
//! ```text
//!  append ─┐                    ┌─ savepoint: epoch? seq, row, view ─┐
//!  append ─┼─▶ writer thread ──▶│  savepoint: …                      │── COMMIT ─▶ publish ─▶ ack
//!  delete ─┘   (one, batches)   └────────────────────────────────────┘
//!
//!  page · events · subscribe ──▶ a few read-only connections
//! ```
//!
//! One thread writes. What waits while it commits shares the next commit, each piece in a savepoint
//! of its own, so that a refused append never fails its neighbours. Subscribers are woken after the
//! commit and before the append is answered: what a writer knows to be durable, every reader sees.
//!
//! Bodies, session views and blobs are sealed with a key per session (`seal`); the columns beside
//! them hold no content.

#![forbid(unsafe_code)]

mod access;
mod blobs;
mod clock;
mod environments;
mod error;
mod git_credentials;
mod hub;
mod log;
mod open;
mod schema;
mod seal;
mod secrets;
mod sessions;
mod setup_caches;
#[cfg(feature = "steps")]
mod steps;
mod writer;

pub use access::{Access, Identity};
pub use blobs::MAX_BLOB_BYTES;
pub use clock::Clock;
pub use environments::StoredEnvironment;
pub use error::StoreError;
pub use git_credentials::GitCredential;
pub use hub::{Notice, Subscription};
pub use log::{Accepted, IdempotencyKey};
pub use open::Store;
pub use setup_caches::{NewSetupCache, SetupCacheFacts, StoredSetupCache};
#[cfg(feature = "steps")]
pub use steps::{Fate, Steps};
