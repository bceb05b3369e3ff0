//! The front of remote repositories for gits in sandboxes: smart HTTP, versions 0 to 2.
//!
//! ```text
//!  git in a sandbox ─▶ route ─┬─ refs, fetch ───────────────────────────────┬─▶ upstream, with the credential
//!                             └─ push ─▶ push_head ─▶ policy::push ─ yes ───┘
//!                                                        └ no ─▶ report, with the reason
//! ```
//!
//! The door is the identity: which repository it is, which branch may be pushed and what its server is shown
//! comes from the session, never from the client.

mod advertisement;
mod body;
mod door;
mod hide;
mod lfs;
mod pace;
pub(crate) mod pkt;
mod push;
pub(crate) mod push_head;
pub(crate) mod report;
mod route;
mod tickets;
pub(crate) mod upstream;

pub use door::{Attached, GitDoor, GitGateway};
pub use route::root;
pub use upstream::UpstreamError;
