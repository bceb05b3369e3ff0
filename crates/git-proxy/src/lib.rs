//! Session repositories: one bare repository per session, owned by the server.
//!
//! ```text
//!  bundle of a user ───┐                                   ┌─▶ read-only mount ─▶ workspace in the sandbox
//!  mirror of a URL ────┼─▶ repos/<session>.git ────────────┼─▶ diff, patch, memory files
//!  bundle of a guest ──┘   refs/heads/patchyard/<slug>-<id>└─▶ git fetch of the result, over HTTP
//!                          refs/patchyard/checkpoints/<n>
//!                          modules/<key>.git      submodules
//! ```
//!
//! git itself works on them, always in a repository that we created, with no configuration but
//! ours and no environment but ours ([`command`]): the host never runs git in a tree that a sandbox
//! can write. What a guest's bundle holds is what the sandbox claimed.

#![forbid(unsafe_code)]

mod command;
mod credential;
mod diff;
mod error;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod import;
mod lfs;
mod mirror;
mod modules;
mod object;
mod publish;
mod remote;
mod repositories;
mod serve;
#[cfg(feature = "stand-in")]
pub mod stand_in;

pub use credential::Credential;
pub use diff::MAX_DIFF_ROWS;
pub use error::GitError;
pub use front::{Attached, GitDoor, GitGateway, UpstreamError, root};
pub use import::{IDENTITY, Imported};
pub use lfs::{IncomingFile, LargeFiles, LfsLimits, WantedFile};
pub use mirror::FetchRules;
pub use modules::{AttachedModule, Credentials, Module, Modules};
pub use remote::{Remote, RemoteError};
pub use repositories::Repositories;
pub use serve::UploadPack;
