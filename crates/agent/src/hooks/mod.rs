//! Hooks: commands of the repository or the operator that run at certain moments.
//!
//! ```text
//!  settings ── read ──▶ Hooks ── of(event, subject) ──▶ handlers, each once
//!                                      │ in the sandbox, all at the same time; JSON on standard input
//!                                      ▼
//!              exit code, standard output, standard error ── answer ──▶ Answer ── Said::join ──▶ Said
//! ```
//!
//! A hook that fails, hangs or says nonsense decides nothing; only the exit code 2 and a JSON answer do.

mod answer;
mod config;
mod run;

pub use answer::at_start;
pub use config::{Event, Handler, Hooks};
pub use run::{Ran, run};

pub(crate) use answer::{Decision, Said};
pub(crate) use config::read;
pub(crate) use run::call;
