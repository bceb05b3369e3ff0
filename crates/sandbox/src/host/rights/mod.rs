//! What `sandbox-host` may do here, found out before anything else.
//!
//! ```text
//!   root of the machine ──────────────────────────────────────────────▶ Root
//!   ordinary user ─┬ what is needed is there ─┬ a sandbox lives? its outer namespace ─┬▶ User
//!                  │                          └ none does: a namespace of our own ────┘
//!                  └ something is missing, or the kernel says no ────────────────────▶ Missing
//!
//!   inside of that namespace:   0 = the user     1 = for trials     2… = sandboxes, a range each
//! ```
//!
//! Of the user's own id no sandbox gets anything: it is what `sandbox-host` itself is inside.

mod account;
mod missing;
mod namespace;
mod ranges;

use std::path::{Path, PathBuf};

pub(crate) use ranges::{Given, SIZE, TRIAL, given};

/// What this process may do with ids and mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// It is root of the machine.
    Root,
    /// It is root of a user namespace, over ids that an ordinary user was given.
    User(User),
    /// It is an ordinary user, without what sandboxes need; the words say what, and how to get it.
    Missing(String),
}

/// The ordinary user behind a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's id outside.
    pub(crate) uid: u32,
    /// Where it keeps what all its `sandbox-host`s share.
    pub(crate) state: PathBuf,
    /// How to get more ranges of ids.
    pub(crate) more: String,
}

impl Rights {
    /// Takes what rights there are. To be called before the process has threads: an ordinary user's
    /// process goes into a user namespace, that of the sandboxes of this data directory when some live.
    #[must_use]
    pub fn settle(data: &Path) -> Self {
        if nix::unistd::geteuid().is_root() {
            return Self::Root;
        }
        match namespace::enter(data) {
            Ok(user) => Self::User(user),
            Err(missing) => Self::Missing(missing.to_string()),
        }
    }

    /// The ordinary user's id outside.
    pub(crate) fn user_id(&self) -> Option<u32> {
        match self {
            Self::User(user) => Some(user.uid),
            Self::Root | Self::Missing(_) => None,
        }
    }
}
