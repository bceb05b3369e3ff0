//! Forges: what the server says to GitHub, and to what speaks as GitHub does.
//!
//! ```text
//!  Forges (one for the server) ── at(address, token) ─▶ GitHub ─┬─ repositories, branches
//!    addresses by the rules of the operator                     ├─ pull requests, diffs, reviews
//!    answers kept by their ETag                                 ├─ issues, comments
//!    limits of each token                                       └─ check runs, annotations, logs
//! ```
//!
//! A question is asked again when no answer came. What changes something is sent once: before it is
//! sent again, the forge is asked whether it has it ([`GitHub::open_pull`], [`GitHub::comment`]).
//!
//! A token goes to its own forge over TLS, and into no error.

#![forbid(unsafe_code)]

mod address;
mod answer;
mod checks;
mod client;
mod error;
mod issues;
mod kept;
mod model;
mod pulls;
mod repositories;
mod resolve;
mod reviews;
mod token;

pub use address::{ForgeAddress, ForgeAddressError, RepoName};
pub use checks::Checks;
pub use client::{Forges, ForgesError, GitHub};
pub use error::ForgeError;
pub use issues::NewComment;
pub use model::{
    Annotation, Branch, CheckRun, Commit, CommitStatus, File, Issue, IssueComment, Pull, PullEnd, Repository,
    Review, ReviewComment, User,
};
pub use pulls::{EditPull, NewPull};
pub use token::Token;
