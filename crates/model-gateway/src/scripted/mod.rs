//! A model that is played: a real HTTP server on loopback that speaks the streaming Messages API.
//!
//! ```text
//!  ModelClient ── POST /v1/messages ──▶ ScriptedServer ── Call ──▶ Player ── Reply ──▶ events, paced
//!                                                                    │
//!                                    demo: a rule machine over the conversation it is shown
//! ```
//!
//! The agent reaches it through the very client that reaches a real model. `patchyard demo` plays
//! [`demo`] when there is no key; the tests add scripts, faults and checks in the crate `testkit`.

pub mod demo;
mod demo_text;
mod events;
mod reply;
mod server;

pub use reply::{Fault, Gate, Reply};
pub use server::{Call, Player, ScriptedServer};
