//! Pure decisions. What is unknown is denied; there is no "unset".
//!
//! ```text
//!  text ── RepositoryUrl::parse ──▶ scheme, host, path        (or why not)
//!  bytes ─ Host::parse ──▶ a destination in its one form     (or why not)
//!  NetworkRules ── NetworkPolicy::compile ──▶ decide, may_dial: where a session may connect to
//!  text ── Pattern::parse · variables::parse ──▶ what an environment may hold
//!  .gitmodules ── submodule::resolve, may_show ──▶ what else is fetched, and with whose credential (or why not)
//!  host ── resolved elsewhere ────▶ AddressRules::check ──▶ may be dialled (or why not)
//!  commands of a push ── PushRules::judge ──▶ refs that a session may push to (or why not)
//!  settings ── local::Layer, local::LocalPolicy ──▶ what a command on one's own machine may touch
//!  rules ── permissions::Permissions ──▶ decide: whether a tool of an agent may be used
//!  lists ── mcp::ServerLists ──▶ decide: which MCP servers may be used
//! ```
//!
//! No IO, no clock, no environment: who calls this resolves names and dials.

#![forbid(unsafe_code)]

pub mod access;
pub mod address;
pub mod host;
pub mod local;
pub mod mcp;
pub mod network;
pub mod pattern;
pub mod permissions;
pub mod push;
pub mod repository;
mod special;
pub mod submodule;
mod table;
mod trusted;
pub mod variables;
