//! Which large files a commit has, or some commits bring.
//!
//! ```text
//!   .gitattributes say `filter=lfs`? ─ no ─▶ none, and nothing else is read
//!                                     └ yes ─▶ blobs as small as pointers ─▶ those that are one
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use super::pointer::{MAX_POINTER, Pointer};
use crate::command::Git;
use crate::error::GitError;

/// The shortest pointer: its three lines with a size of one digit.
const MIN_POINTER: usize = 120;

/// Objects that one git is asked for.
const AT_ONCE: usize = 20_000;

/// The large files of a commit.
pub(super) async fn of_commit(repository: &Path, commit: &str) -> Result<BTreeSet<Pointer>, GitError> {
    if !uses_lfs(repository, commit).await? {
        return Ok(BTreeSet::new());
    }
    let listed = Git::new("ls-tree", Some(repository))
        .args(["ls-tree", "-r", "-l", "-z", "--full-tree", commit])
        .run()
        .await?;
    // `100644 blob <hash> <size>\t<path>`
    let small = listed.split(|byte| *byte == 0).filter_map(|entry| {
        let facts = entry.split(|byte| *byte == b'\t').next()?;
        let mut words = std::str::from_utf8(facts).ok()?.split_ascii_whitespace();
        let (mode, hash, size) = (words.next()?, words.nth(1)?, words.next()?.parse().ok()?);
        let fits = matches!(mode, "100644" | "100755") && is_small(size);
        fits.then(|| hash.to_owned())
    });
    pointers(repository, small.collect()).await
}

/// The large files that are in commits behind `tip` and in none behind `known`.
pub(super) async fn between(
    repository: &Path,
    tip: &str,
    known: &[String],
) -> Result<BTreeSet<Pointer>, GitError> {
    let specs: String = known.iter().map(|commit| format!("^{commit}\n")).collect();
    let listed = Git::new("rev-list", Some(repository))
        .args(["rev-list", "--objects", "--ignore-missing", "--stdin"])
        .input(format!("{tip}\n{specs}"))
        .run()
        .await?;
    let hashes = listed.split(|byte| *byte == b'\n').filter_map(|line| {
        let hash = line.split(|byte| *byte == b' ').next()?;
        Some(String::from_utf8_lossy(hash).into_owned()).filter(|hash| !hash.is_empty())
    });
    let hashes: Vec<String> = hashes.collect();
    let mut small = BTreeSet::new();
    for some in hashes.chunks(AT_ONCE) {
        let checked = Git::new("cat-file", Some(repository))
            .args(["cat-file", "--batch-check=%(objecttype) %(objectsize) %(objectname)", "--buffer"])
            .input(some.join("\n") + "\n")
            .text()
            .await?;
        small.extend(checked.lines().filter_map(|line| {
            let (size, hash) = line.strip_prefix("blob ")?.split_once(' ')?;
            is_small(size.parse().ok()?).then(|| hash.to_owned())
        }));
    }
    pointers(repository, small).await
}

pub(super) async fn uses_lfs(repository: &Path, commit: &str) -> Result<bool, GitError> {
    let asked = ["grep", "-q", "-F", "-e", "filter=lfs", commit, "--", ":(glob)**/.gitattributes"];
    Ok(Git::new("grep", Some(repository)).args(asked).ended().await?.success)
}

fn is_small(size: usize) -> bool {
    (MIN_POINTER..MAX_POINTER).contains(&size)
}

/// Those of these blobs that are pointers.
async fn pointers(repository: &Path, blobs: BTreeSet<String>) -> Result<BTreeSet<Pointer>, GitError> {
    let mut found = BTreeSet::new();
    let blobs: Vec<String> = blobs.into_iter().collect();
    for some in blobs.chunks(AT_ONCE) {
        let read = Git::new("cat-file", Some(repository))
            .args(["cat-file", "--batch", "--buffer"])
            .input(some.join("\n") + "\n")
            .run()
            .await?;
        let mut rest = read.as_slice();
        // `<hash> blob <size>\n<content>\n`
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let size = String::from_utf8_lossy(&rest[..end])
                .rsplit_once(' ')
                .and_then(|(_, size)| size.parse().ok());
            let Some(content) = size.and_then(|size: usize| rest.get(end + 1..end + 1 + size)) else { break };
            found.extend(Pointer::parse(content));
            rest = rest.get(end + 2 + content.len()..).unwrap_or_default();
        }
    }
    Ok(found)
}
