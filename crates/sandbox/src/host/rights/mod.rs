//! What `sandbox-host` may do here, found out before anything else.
//!
//! ```text
//!   root of the machine ──────────────────────────────────────────────▶ Root
//!   ordinary user ─┬ what is needed is there ─┬ a sandbox lives? its outer namespace ─┬▶ User
//!                  │                          └ none does: a namespace of our own ────┘
//!                  └ something is missing, or the kernel says no ────────────────────▶ Missing
//!
//!   inside of that namespace:   0 = the user     1 = for trials     2… = sandboxes, a range each
//! ```
//!
//! Of the user's own id no sandbox gets anything: it is what `sandbox-host` itself is inside.

mod account;
mod held;
mod missing;
mod namespace;
mod ranges;

pub use held::{Rights, User};

pub(crate) use ranges::{Given, SIZE, TRIAL, given};
