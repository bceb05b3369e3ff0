//! Files by name: the newest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{SearchError, walk};

/// Files that are given.
const MAX_FILES: usize = 100;

/// What to look for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    pattern: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    exclude: Vec<String>,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    files: Vec<String>,
    truncated: bool,
}

/// Answers a request, `{"pattern", "path"?, "exclude"?}`, with `{"files", "truncated"}`: paths, newest change
/// first, at most 100. Ignored and hidden files are found too; `.git` is not looked into.
pub fn run(request: &str) -> Result<String, SearchError> {
    let request: Request = serde_json::from_str(request).map_err(SearchError::Request)?;
    let path = request.path.unwrap_or_else(|| ".".to_owned());
    let (base, pattern) = anchor(&path, &request.pattern);
    walk::place(&base.to_string_lossy())?;
    let globs = [pattern.as_str()];
    let limits = walk::Limits { globs: &globs, exclude: &request.exclude, ..walk::Limits::default() };

    // The smallest of the kept ones is on top, so that a huge tree costs no more than the answer.
    let mut newest: BinaryHeap<Reverse<(SystemTime, Reverse<PathBuf>)>> = BinaryHeap::new();
    let mut truncated = false;
    for entry in walk::files(&base, &limits)? {
        let changed = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
        newest.push(Reverse((changed.unwrap_or(SystemTime::UNIX_EPOCH), Reverse(entry.into_path()))));
        if newest.len() > MAX_FILES {
            newest.pop();
            truncated = true;
        }
    }
    let files = newest
        .into_sorted_vec()
        .into_iter()
        .map(|Reverse((_, Reverse(path)))| path.to_string_lossy().into_owned())
        .collect();
    serde_json::to_string(&Found { files, truncated }).map_err(SearchError::Request)
}

/// Where to walk, and the pattern below that. An absolute pattern brings its own place.
fn anchor(path: &str, pattern: &str) -> (PathBuf, String) {
    if !pattern.starts_with('/') {
        return (path.into(), pattern.strip_prefix("./").unwrap_or(pattern).to_owned());
    }
    let components: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let is_plain = |part: &&&str| !part.contains(['*', '?', '[', '{', '\\']);
    let plain = components.iter().take_while(is_plain).count().min(components.len().saturating_sub(1));
    let base = Path::new("/").join(components[..plain].join("/"));
    // The leading slash keeps the first part at the top: `/*.rs` is no `*.rs` at any depth.
    (base, format!("/{}", components[plain..].join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_pattern_is_anchored_at_its_plain_part() {
        let cases = [
            ("/a/b/*.rs", "/a/b", "/*.rs"),
            ("/a/**/c.rs", "/a", "/**/c.rs"),
            ("/a/b/c.rs", "/a/b", "/c.rs"),
            ("/*", "/", "/*"),
            ("/", "/", "/"),
        ];
        for (pattern, base, rest) in cases {
            assert_eq!(anchor("/elsewhere", pattern), (base.into(), rest.to_owned()), "{pattern}");
        }
        assert_eq!(anchor("/w", "./src/*.ts"), ("/w".into(), "src/*.ts".to_owned()));
    }
}
