//! Sessions: what turns a prompt into work.
//!
//! ```text
//!  Sessions (registry) ── Handle ──▶ driver task, one per live session, sole owner of its state
//!                                      │  decides with `machine` (pure)
//!                                      ├─ provision: sandbox-host → guest → workspace → setup → hooks
//!                                      ├─ turn: Agent ⇄ AgentPort ⇄ log
//!                                      └─ checkpoint: workspace → session repository → diffstat
//! ```
//!
//! `environments` is in what sessions work, and what their setups leave for later ones; `network` what
//! they may reach; `gateways` are the doors that each sandbox has whatever it may reach; `forges` are what
//! pull requests go to.
//!
//! The driver keeps nothing that the log does not hold: after a restart `recover` folds the log and
//! re-attaches to the sandboxes that still live.

#![forbid(unsafe_code)]

mod acp;
mod agents;
mod checkpoint;
mod config;
mod copies;
mod create;
mod credentials;
mod deletion;
mod driver;
mod environments;
mod error;
mod forges;
mod fork;
mod gateways;
mod large_files;
pub mod machine;
mod names;
mod network;
mod networks;
mod port;
mod project;
mod provision;
mod pull_requests;
mod push;
mod recorder;
mod recover;
mod registry;
mod secrets;
mod shells;
mod turn;
mod warm;

pub use agent::Caps;
pub use agents::{AgentSpec, Agents, ModelSource};
pub use config::{Deadlines, SessionConfig};
pub use copies::Copy;
pub use create::{NewRepository, NewSession};
pub use credentials::CredentialError;
pub use driver::Handle;
pub use environments::EnvironmentError;
pub use environments::caches::CacheLimits;
pub use error::SessionError;
pub use forges::ForgesError;
pub use git_proxy::LfsLimits;
pub use network::OperatorNetwork;
pub use networks::AskingError;
pub use provision::trust::TrustedAuthorities;
pub use pull_requests::PullRequestError;
pub use registry::Sessions;
pub use secrets::{OperatorSecret, OperatorSecrets, SecretError};
pub use shells::{ShellOutput, ShellViewer};
