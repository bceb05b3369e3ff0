//! What can go wrong between client and server.

use protocol::problem::Problem;

/// An error of the client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server does not answer.
    #[error(
        "cannot reach patchyard at {server}: {cause}; start it with `patchyard serve`, or name another with --server"
    )]
    Unreachable {
        /// The address.
        server: String,
        /// Why, as the system says it.
        cause: String,
    },
    /// The server's own answer.
    #[error("{}", sentence(.0))]
    Problem(Box<Problem>),
    /// An answer that is not patchyard's.
    #[error("{server} answered {what}; is it a patchyard of this version?")]
    Strange {
        /// The address.
        server: String,
        /// What it answered.
        what: String,
    },
    /// The address of the server is none.
    #[error("`{0}` is not a server's address; give one like http://127.0.0.1:7878")]
    BadServer(String),
    /// A file to upload.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl ClientError {
    /// What is at the bottom of such an error; what lies above repeats the address.
    pub(crate) fn unreachable(server: &str, error: &reqwest::Error) -> Self {
        let mut deepest: &dyn std::error::Error = error;
        while let Some(cause) = deepest.source() {
            deepest = cause;
        }
        let cause =
            if error.is_timeout() { "it did not answer in time".to_owned() } else { deepest.to_string() };
        Self::Unreachable { server: server.to_owned(), cause }
    }

    /// Whether the server said that the caller is not allowed.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Problem(problem) if matches!(problem.status, 401 | 403 | 421))
    }

    /// Whether the server could not be reached.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Title, detail and next step in one line.
fn sentence(problem: &Problem) -> String {
    let mut text = problem.title.clone();
    if !problem.detail.is_empty() {
        text.push_str(": ");
        text.push_str(&problem.detail);
    }
    if !problem.next.is_empty() && !text.contains(&problem.next) {
        text.push_str("; ");
        text.push_str(&problem.next);
    }
    text
}
