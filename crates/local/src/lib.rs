//! A session on one's own machine: `patchyard -p`.
//!
//! ```text
//!  options, standard input ─▶ run ─▶ desk (what comes in) ─▶ our agent ⇄ LocalHands ⇄ a process for commands and files
//!                              │                                 │
//!                              └─ project, settings, model       └─ LocalPort ─▶ transcript · lines of JSON · result
//! ```
//!
//! The agent is that of the server, with hands on this machine: there is no sandbox around it, so that what no rule
//! allows is asked about, and refused where nobody can be asked.

#![forbid(unsafe_code)]

mod control;
mod conversation;
mod desk;
mod error;
mod hands;
mod home;
mod input;
mod model;
mod options;
mod port;
mod project;
mod run;
mod setup;
mod stream;
mod transcript;
mod updates;
mod uuid;

pub use error::LocalError;
pub use hands::LocalHands;
pub use options::{Asked, Conversation, Format, Options};
pub use run::run;
