//! The server's link to one sandbox's guest.
//!
//! ```text
//!   GuestLink (Hands) ──▶ requests by id ──▶ writer ══▶ guest
//!        ▲                                               ║
//!   Execution ◀── queue, as long as its credit ◀── reader ◀╝
//!                                                   │ anything that breaks the rules
//!                                                   ▼
//!                                dead: every call fails with `Gone`, for good
//! ```
//!
//! Everything that the guest says is hostile. It can make this link fail, and nothing more: frames are
//! capped before they are read, output beyond the credit or for no running command ends the link, and
//! memory is bounded by the credits given. A flood of small messages is read at a pace, a guest that does
//! not read what it is sent is given up.

mod counters;
mod execution;
mod hands;
mod link;
mod pace;
mod queue;
mod shared;
mod wire;

pub use link::GuestLink;
