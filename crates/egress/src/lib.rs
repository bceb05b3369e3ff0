//! The process that everything from a sandbox's network goes through, and the server's side of it.
//!
//! ```text
//!   sandbox's listeners ─▶ doors ─┬─ proxy: CONNECT · plain HTTP · SOCKS5 ─┐
//!                                 ├─ capture ──────────────────────────────┼─▶ judge ─▶ audit ─▶ dial ─▶ relay
//!                                 └─ names: answered here                  │     └ no ─▶ audit, 403, alert
//!   server ── control: Bind · Rules · Unbind · Watch ──────────────────────┘ policy
//!   the local sandbox, without a server ── local: one binding, a person ───┘
//! ```
//!
//! One canonical host is matched, logged, resolved, dialled and compared with what TLS and HTTP name.
//! Nothing is resolved before it is allowed, nothing is dialled before the allow is on record, and
//! without rules, record or address nothing is let through.

#![forbid(unsafe_code)]

mod audit;
mod binding;
mod bucket;
mod capture;
mod carry;
pub mod client;
mod confine;
mod control;
mod dial;
mod dns;
mod doors;
mod frame;
mod head;
mod hello;
mod http;
mod judge;
pub mod local;
mod names;
mod once;
mod own;
mod person;
pub mod process;
mod proxy;
mod refusal;
mod relay;
mod resolve;
mod socks;
mod stream;
mod tally;
mod upstream;

pub use audit::digest_of;
pub use confine::{ConfineError, confine};
pub use upstream::Upstream;
