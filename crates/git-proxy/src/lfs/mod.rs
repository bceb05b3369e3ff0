//! Large files: git LFS between sandboxes, the server and hosts of repositories.
//!
//! ```text
//!   git-lfs in a sandbox ─▶ front: batch ─▶ the host; its addresses stay here, names of ours go in
//!   a session begins ─▶ scan: pointers of the commit ─▶ fetch ─▶ repos/<session>.git/lfs/objects, read-only inside
//!   a checkpoint ─▶ store: objects of the sandbox ─┘      └─▶ publish: before the branch is pushed
//! ```
//!
//! Every object is hashed on its way; what is not what it is called breaks off.

pub(crate) mod batch;
mod fetch;
pub(crate) mod hashed;
pub(crate) mod pointer;
mod publish;
mod scan;
pub(crate) mod store;
pub(crate) mod transfer;

pub use fetch::{LargeFiles, LfsLimits};
pub use publish::{IncomingFile, WantedFile};
