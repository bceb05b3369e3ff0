//! The process that everything from a sandbox's network goes through, and the server's side of it.
//!
//! ```text
//!   sandbox's listeners ─▶ doors ─┬─ proxy: CONNECT · plain HTTP · SOCKS5 ─┐
//!                                 ├─ capture ──────────────────────────────┼─▶ judge ─▶ audit ─▶ dial ─┬▶ relay
//!                                 └─ names: answered here                  │     └ no ─▶ audit, 403    └▶ intercept
//!   server ── control: Bind · Rules · Unbind · Watch ──────────────────────┘ policy
//!   the local sandbox, without a server ── local: one binding, a person ───┘
//! ```
//!
//! One canonical host is matched, logged, resolved, dialled and compared with what TLS and HTTP name.
//! Nothing is resolved before it is allowed, nothing is dialled before the allow is on record, and
//! without rules, record or address nothing is let through.

#![forbid(unsafe_code)]

mod audit;
mod authorities;
mod authority;
mod binding;
mod body;
mod bucket;
mod budget;
mod capture;
mod carry;
pub mod client;
mod confine;
mod control;
mod dial;
mod dns;
mod doors;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod head;
mod hello;
mod host_tls;
mod http;
mod intercept;
mod judge;
mod key_store;
pub mod listener;
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
mod secrets;
mod shards;
mod socks;
mod stream;
mod tally;
mod upstream;
mod websocket;

pub use audit::digest_of;
pub use authorities::{Authorities, AuthoritiesError};
pub use authority::{AuthorityError, make_authority};
pub use confine::{ConfineError, confine};
pub use upstream::Upstream;
