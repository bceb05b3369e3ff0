//! The way to a model: a thin client of the streaming Messages API, and its front for agents in sandboxes.
//!
//! ```text
//!  Request ── body() ──▶ ModelClient ── POST /v1/messages ──▶ any server of the Messages API
//!                            │  ▲
//!     deltas, retries ◀──────┤  └── bytes ── sse ── assembler ──▶ Response (only after message_stop)
//!       (Observer)           └── RetryPolicy: which failures, how long
//!
//!  front: the same API for agents in sandboxes, without the key; passed on as it is, and counted
//!
//!  scripted: a real HTTP server on loopback that plays a model; `demo` drives the loop with it
//! ```
//!
//! Nothing here reads the environment: the key, the base URL and the model are passed in. The key is
//! a [`Secret`], which no `Debug`, error or log line shows.

#![forbid(unsafe_code)]

mod assemble;
mod block;
mod client;
mod config;
mod error;
pub mod front;
mod observe;
mod price;
mod request;
mod response;
mod retry;
pub mod scripted;
mod sse;

pub use block::Block;
pub use client::ModelClient;
pub use config::{Auth, ModelConfig, Secret, Thinking};
pub use error::ModelError;
pub use observe::{Delta, Observer, Retry, Silent};
pub use price::{PRICES_AS_OF, cost_micro_usd};
pub use request::{Message, Request, Role, Tool};
pub use response::{Response, StopCause};
pub use retry::RetryPolicy;
pub use sse::{SseEvent, SseParser, SseTooLong};
