//! Trees of files as tar streams and back, without following a single link.
//!
//! ```text
//!   path ── component by component, each opened in the one before, links refused ──▶ folder
//!   pack:   folder ─▶ tar        files and folders; links, devices and sockets are left out and told
//!   unpack: tar ─▶ folder        the same; a name that leads elsewhere ends it
//! ```
//!
//! Either end may be hostile: a sandbox whose files change while they are read, an archive that lies.
//! Used by the guest inside and by the terminal outside, for the two halves of one copy.

#![forbid(unsafe_code)]

mod beneath;
mod error;
mod pack;
mod unpack;

pub use error::ArchiveError;
pub use pack::{Packed, pack};
pub use unpack::{Unpacked, unpack};
