//! The rights that are held.

use std::path::{Path, PathBuf};

use super::namespace;

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
