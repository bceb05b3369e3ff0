//! What a commit names as its submodules.
//!
//! ```text
//!   .gitmodules, at most 256 KiB ─ git config ─▶ name, path, url        gitlinks of the tree ─▶ commit
//! ```
//!
//! git's own parser reads the file, so that nobody finds anything else in it than the sandbox's git does; and
//! of what it says only these two keys are looked at.

use std::collections::BTreeMap;
use std::path::Path;

use crate::command::Git;
use crate::error::GitError;

const FILE: &str = ".gitmodules";

/// The longest such file that is read.
const MAX_FILE: u64 = 256 * 1024;

/// A submodule as the repository names it: nothing of it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) url: String,
    /// What the tree has at the path.
    pub(super) commit: String,
}

/// The submodules of a commit, by their paths; or why its list cannot be used.
pub(super) async fn of(
    repository: &Path,
    commit: &str,
) -> Result<Result<Vec<Named>, &'static str>, GitError> {
    let entry = Git::new("ls-tree", Some(repository))
        .args(["--literal-pathspecs", "ls-tree", "-z", "-l", "--full-tree", commit, "--", FILE])
        .text()
        .await?;
    // `100644 blob <hash> <size>\t.gitmodules`
    let words: Vec<&str> = entry.split_ascii_whitespace().collect();
    let [mode, _, hash, size, ..] = words[..] else { return Ok(Ok(Vec::new())) };
    if !matches!(mode, "100644" | "100755") {
        return Ok(Err("the file .gitmodules is a link or a folder"));
    }
    if size.parse::<u64>().is_ok_and(|size| size > MAX_FILE) {
        return Ok(Err("the file .gitmodules is longer than 256 KiB"));
    }
    let read = Git::new("config", Some(repository))
        .args([
            "config",
            "--no-includes",
            "--blob",
            hash,
            "-z",
            "--get-regexp",
            r"^submodule\..*\.(path|url)$",
        ])
        .ended()
        .await?;
    if !read.success {
        // No such key is no error.
        let broken = !read.stderr.is_empty();
        return Ok(if broken { Err("the file .gitmodules cannot be read") } else { Ok(Vec::new()) });
    }
    let sections = sections(&read.stdout);
    let links = links(repository, commit, sections.values().filter_map(|one| one.path.as_deref())).await?;
    let named = sections.into_iter().filter_map(|(name, section)| {
        let (path, url) = (section.path?, section.url?);
        let commit = links.get(&path)?.clone();
        Some(Named { name, path, url, commit })
    });
    let mut named: Vec<Named> = named.collect();
    named.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Ok(named))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    path: Option<String>,
    url: Option<String>,
}

/// Reads `submodule.<name>.<key>\n<value>\0…`. What is said twice is said once too often: gits differ about
/// which of the two holds.
fn sections(said: &[u8]) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut doubtful = Vec::new();
    for entry in said.split(|byte| *byte == 0) {
        let Ok(entry) = std::str::from_utf8(entry) else { continue };
        let Some((key, value)) = entry.split_once('\n') else { continue };
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        let section = sections.entry(name.to_owned()).or_default();
        let place = if key == "path" { &mut section.path } else { &mut section.url };
        if place.replace(value.to_owned()).is_some() {
            doubtful.push(name.to_owned());
        }
    }
    for name in doubtful {
        sections.remove(&name);
    }
    sections
}

/// Those of these paths that a commit has a gitlink at.
async fn links(
    repository: &Path,
    commit: &str,
    paths: impl Iterator<Item = &str>,
) -> Result<BTreeMap<String, String>, GitError> {
    let usable = |path: &&str| !path.is_empty() && path.len() < 4096 && !path.starts_with('/');
    let paths: Vec<&str> = paths.filter(usable).collect();
    let mut links = BTreeMap::new();
    // As many at a time as the arguments of one git may hold.
    for some in paths.chunks(16) {
        if let Some(found) = listed(repository, commit, some).await? {
            links.extend(found);
            continue;
        }
        // A path that leads out of the tree makes git refuse them all.
        for path in some {
            links.extend(listed(repository, commit, &[path]).await?.into_iter().flatten());
        }
    }
    Ok(links)
}

/// The same for some of them; nothing where git refuses to look.
async fn listed(
    repository: &Path,
    commit: &str,
    paths: &[&str],
) -> Result<Option<Vec<(String, String)>>, GitError> {
    let listed = Git::new("ls-tree", Some(repository))
        .args(["--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--"])
        .args(paths)
        .ended()
        .await?;
    // `160000 commit <hash>\t<path>`
    let entries = listed.stdout.split(|byte| *byte == 0).filter_map(|entry| {
        let (facts, path) = std::str::from_utf8(entry).ok()?.split_once('\t')?;
        Some((path.to_owned(), facts.strip_prefix("160000 commit ")?.to_owned()))
    });
    Ok(listed.success.then(|| entries.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_not_used() {
        let said = b"submodule.a.path\nlib\0submodule.a.url\nhttps://h/x\0submodule.b.c.path\np\0submodule.b.c.url\nu\0\
            submodule.d.path\np\0submodule.d.path\nq\0submodule.d.url\nu\0submodule.e.path\0\xff\n\0odd\nx\0";
        let found = sections(said);
        let of = |path: &str, url: &str| Section { path: Some(path.into()), url: Some(url.into()) };
        assert_eq!(found.get("a"), Some(&of("lib", "https://h/x")));
        assert_eq!(found.get("b.c"), Some(&of("p", "u")));
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
