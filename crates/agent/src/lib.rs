//! The coding agent: a loop outside the sandbox, with its hands inside.
//!
//! ```text
//!              session's log ── restore ──▶ History (a fold of events)
//!                    ▲                         │ messages
//!   turn ──▶ loop ── append ◀── blocks ◀── ModelClient ── deltas ──▶ port.live
//!              │                │
//!              │                └─ tool calls, durable before they start; rules and hooks decide
//!              └──▶ tools ──▶ Hands (the guest) ──▶ tool.result ──▶ append ──▶ next request
//! ```
//!
//! [`PatchyardAgent`] implements `protocol::agent_port::Agent`. It keeps nothing that the log does not
//! have: the messages of a request are folded out of events, live and after a restart by the same
//! function, so that the bytes before the newest message never change and prompt caches hold.

#![forbid(unsafe_code)]

mod agent;
mod answer;
mod batch;
mod compact;
mod config;
mod context;
mod edit;
mod gate;
mod guard;
mod history;
pub mod hooks;
pub mod library;
mod life;
mod live;
mod managed;
pub mod mcp;
pub mod memory;
mod mentions;
mod outcome;
mod patch;
mod recap;
mod response;
mod room;
mod settings;
mod skills;
mod slash;
mod spent;
mod steering;
mod stream_text;
mod threads;
mod tools;
mod turn;
mod uses;

pub use agent::PatchyardAgent;
pub use config::{AgentConfig, Caps, Environment, Where, Words};
pub use library::Library;
pub use life::Offer;
pub use managed::{Managed, ManagedError};
pub use memory::{Memory, MemoryFile};
pub use response::tool_response;
pub use settings::{Ground, Scope, Settings, SettingsFile};
pub use slash::OWN as OWN_COMMANDS;
pub use steering::Steering;
