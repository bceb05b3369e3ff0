//! The search tools, run as ordinary commands inside the sandbox.
//!
//! ```text
//!   JSON request as one argument ──▶ walk ──▶ one JSON object on standard output
//!                     └── exit 2 and one line on standard error: the request made no sense
//! ```

mod error;
pub mod glob;
pub mod grep;
mod lines;
mod walk;

pub use error::SearchError;
