//! Why a search could not be made.

/// Why a search could not be made; each is one line for the model to read.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The argument is not a request.
    #[error("the request is not valid: {0}")]
    Request(#[source] serde_json::Error),
    /// The pattern is not a regular expression.
    #[error("the pattern is not a valid regular expression: {}", one_line(.0))]
    Pattern(#[source] grep_regex::Error),
    /// A file pattern is not one.
    #[error("the file pattern `{pattern}` is not valid: {}", one_line(.source))]
    Glob {
        /// As given.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: ignore::Error,
    },
    /// There is no such file type.
    #[error("there is no file type `{0}`; use a file pattern such as `*.{0}` instead")]
    Type(String),
    /// The place to search in is not there or may not be read.
    #[error("{path}: {source}")]
    Place {
        /// As given.
        path: String,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
}

/// An error's text without the drawing that points at the place.
fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
