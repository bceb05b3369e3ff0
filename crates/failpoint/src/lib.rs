//! Places before and after every step that outlives the server, where a test lets it die.
//!
//! ```text
//!  step: commit · request to another process · file · ref ─▶ reached(Before, …) ─▶ done ─▶ reached(After, …)
//!                                                                 │
//!        PATCHYARD_CRASH_TRACE=FILE   a line for each, numbered ◀─┤
//!        PATCHYARD_CRASH_AT=N[,M…]    at that number: kill -9  ◀──┘
//! ```
//!
//! Numbers go on where the last process stopped, so that a server that is started again after it died at
//! one does not die there again, and a second number is a crash in the middle of the recovery from the
//! first.
//!
//! Beside them stand the [rules](Rule) that the simulation (`crates/session/tests/simulation`) switches off,
//! each in turn, to see that it finds the harm: `PATCHYARD_BROKEN_RULE=NAME`.
//!
//! Only builds with debug assertions have them: what `make build` makes and people run has none, whatever its
//! environment says. No feature: one that a test needs would have to be switched on for the binary by
//! each of them, and a release could be built with it by accident.

#![forbid(unsafe_code)]

mod point;
mod rule;
mod trace;

pub use point::{AT, Side, TRACE, reached};
pub use rule::{BROKEN, Rule, is_broken};
