//! Pull requests of sessions: effects outside that the log knows of before they happen.
//!
//! ```text
//!   wish ─ possible? ─▶ `pr.create` planned ─▶ branch pushed ─▶ claimed ─▶ forge asked ─▶ done, `pr.state`
//!                                └──────────────────┴──────────────┴─▶ failed, with the reason
//!   a crash in between: the next start finds the open wish in the log and goes on with it; the forge
//!   knows the branch and the wish's mark, so that there is one pull request whatever was lost
//! ```

mod follow;
mod open;
mod propose;

use forge::ForgeError;
use protocol::ids::SessionId;

use crate::forges::ForgesError;

pub(crate) use open::{Opening, resume};

/// Why a session has no pull request and gets none.
#[derive(Debug, thiserror::Error)]
pub enum PullRequestError {
    /// It came by a bundle.
    #[error(
        "this session has no remote repository; `patchyard sessions pull {0}` brings its branch home, and a pull \
         request is opened from there"
    )]
    NoRemote(SessionId),
    /// Nothing to propose.
    #[error("this session has changed nothing yet that a pull request could propose; send it a prompt first")]
    Nothing,
    /// Another request is at it.
    #[error("a pull request of this session is just being opened; wait a moment")]
    Busy,
    /// The branch is not there.
    #[error("{host} did not take the branch `{branch}`: {why}")]
    Unpushed {
        /// The forge.
        host: String,
        /// The session's branch.
        branch: String,
        /// What it or git said, and what to do.
        why: String,
    },
    /// Where it should go is not there.
    #[error("there is no branch `{base}` in {repository} any more; name another one with `--base`")]
    NoBase {
        /// The branch.
        base: String,
        /// Where.
        repository: String,
    },
    /// It would go where it comes from.
    #[error("the session works on `{0}` itself; name another branch with `--base`")]
    Same(String),
    /// The title.
    #[error("a title is one line of 1 to {0} characters")]
    Title(usize),
    /// The text.
    #[error("the text of a pull request has at most {0} characters")]
    Body(usize),
    /// The log.
    #[error("the wish could not be recorded ({0}); try again in a moment")]
    Log(String),
    /// The way to the forge.
    #[error(transparent)]
    Forge(#[from] ForgesError),
}

impl From<ForgeError> for PullRequestError {
    fn from(error: ForgeError) -> Self {
        Self::Forge(error.into())
    }
}
