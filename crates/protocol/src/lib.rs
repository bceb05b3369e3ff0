//! The words that every part of patchyard shares.
//!
//! ```text
//!  ids ── event ── view            the log, and the one reducer that folds it
//!           │ rewind               what of it stands after going back to a checkpoint
//!           │
//!  conversation · thread           what becomes of what the model is sent, and agents of the agent
//!  agent_port · hands · attachment the seams between session, agent and sandbox
//!           │
//!  environment · network           in what sessions work, and what they may reach
//!  guest                           what host and guest say to each other
//!  sandbox_host · sandbox_spec     what the server may ask of the privileged process
//!  egress                          what it may ask of the process that sandboxes reach the network through
//!  git                             pushes, and what the server may use for them
//!  pull_request                    pull requests of sessions, and what can be chosen at a forge
//!  local                           what the proxy of the local sandbox asks the person
//!  api · shell · problem           what browsers and terminals see
//! ```
//!
//! Nothing here does IO, spawns, reads a clock or an environment variable: time and randomness
//! are passed in by the caller.

#![forbid(unsafe_code)]

pub mod agent_port;
pub mod api;
pub mod attachment;
pub mod conversation;
pub mod egress;
pub mod environment;
pub mod event;
pub mod git;
pub mod guest;
pub mod hands;
pub mod ids;
pub mod local;
pub mod network;
pub mod problem;
pub mod prompt;
pub mod pull_request;
pub mod question;
pub mod rewind;
pub mod sandbox_host;
pub mod sandbox_spec;
pub mod secret;
pub mod shell;
pub mod status;
pub mod thread;
pub mod tool;
pub mod usage;
pub mod view;
