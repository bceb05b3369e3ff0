//! The Messages API for agents that live in a sandbox: passed on with the server's key, and counted.
//!
//! ```text
//!  in the sandbox                the server                                            outside
//!  agent ─ HTTP, no key ─▶ endpoint? ─ body ─▶ needs ⊆ allowed? ─ tokens left? ─ key ─▶ Messages API
//!        ◀─ as it comes ──── no key in it ◀─── meter ─▶ Account (the session's log) ◀──────┘
//! ```
//!
//! Who asks is known by the [`ModelDoor`] that the request came in by: nothing that it says changes that.
//! What is not known is refused, in the shape of the API's own errors.

mod door;
mod endpoint;
mod exchange;
mod headers;
mod meter;
mod needs;
mod refusal;

pub use door::{Account, ModelDoor, ModelGateway};
pub use needs::Allowed;
