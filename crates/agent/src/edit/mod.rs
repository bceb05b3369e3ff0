//! Where a text stands in a file, and what to say when it does not.
//!
//! ```text
//!  exact, once ──▶ replace        exact, several times ──▶ all of them, or an error with their lines
//!      │ not at all
//!      ▼
//!  equal but for CR LF, blanks at line ends, typographic quotes and dashes, and once ──▶ replace
//!      │ not at all, or more than once
//!      ▼
//!  error with the nearest real lines: nothing is ever applied by likeness
//! ```

mod matching;
mod nearest;

pub(crate) use matching::{Found, find, line_of, with_line_ends_of};
pub(crate) use nearest::nearest;
