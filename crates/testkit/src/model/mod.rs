//! The scripted model of the tests.
//!
//! ```text
//!  Script (turns in order, by depth, or matched) ─▶ ScriptedModel ◀── HTTP ── the code under test
//!                                                       │
//!                           requests() · violations() · assert_clean()
//! ```
//!
//! The server itself is `model_gateway::scripted`, which also plays the demo; here are the scripts, the
//! faults, and the invariants that every recorded request must hold. `Upstream` takes requests of any
//! client, as they come out of a gateway.

mod check;
mod script;
mod server;
mod turn;
mod upstream;

pub use model_gateway::scripted::Gate;
pub use script::{Script, When};
pub use server::{Recorded, ScriptedModel};
pub use turn::Turn;
pub use upstream::{Passed, Upstream};
