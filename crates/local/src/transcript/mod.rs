//! The conversation as a file: lines of JSON, appended and never changed.
//!
//! ```text
//!  events of the agent ─ record ─▶ user · assistant · system lines, chained by uuid ─▶ <session>.jsonl
//!  --resume, --continue  ◀─ events ◀── reader ◀──────────────────────────────────────────┘
//! ```
//!
//! The lines are those that other programs of the field write and read; what they have no word for stands in a field
//! `patchyard` of a line, or in a line of its own. A line that is cut, because the process was killed while it wrote,
//! is left out.

mod find;
mod reader;
mod record;
mod writer;

pub(crate) use find::{newest, of_id};
pub(crate) use reader::{read, text_of};
pub(crate) use record::usage_fields;
pub(crate) use writer::{Facts, Transcript};
