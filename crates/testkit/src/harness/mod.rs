//! The real binary, started for one test and gone after it.
//!
//! ```text
//!  Serve (program, model, configuration) ── start ─▶ TestServer ─┬─ cli(…)      the binary as client
//!        │                                               │        ├─ get · post  raw HTTP
//!        └─ outcome: a start that ends by itself         │        ├─ follow      server-sent events
//!                                                        │        └─ stop · kill · start_again
//!  Repo: a git repository of a user                      └─ dropped: processes, sandboxes, folder go
//!  GitHost: a git server on loopback
//! ```
//!
//! Nothing here sleeps to wait for patchyard: a wait ends with a line, an event or a process that the
//! product shows, or fails the test after [`DEADLINE`].

mod answer;
mod command;
mod follow;
mod git_backend;
mod git_host;
mod git_lfs;
mod leftovers;
mod must;
mod process;
mod repo;
mod serve;
mod server;

pub use answer::Answer;
pub use command::{DEADLINE, Finished, run};
pub use follow::{Follower, Frame, Resume};
pub(crate) use git_backend::{Tls, cgi};
pub use git_host::{GitHost, GitRequest};
pub use git_lfs::{LFS_SECRET, LfsFault, oid_of, pointer_to};
pub use leftovers::Sandbox;
pub use must::Must;
pub use process::Part;
pub use repo::{Repo, Traces};
pub use serve::Serve;
pub use server::TestServer;
