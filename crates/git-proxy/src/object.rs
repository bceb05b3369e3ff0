//! Reading files of a commit, for what needs no sandbox: memory files and settings.

use std::collections::HashSet;
use std::path::Path;

use protocol::ids::SessionId;

use crate::command::Git;
use crate::error::GitError;
use crate::repositories::Repositories;

/// Bytes of many files together.
const MAX_FILES: usize = 32 * 1024 * 1024;

/// Bytes of paths that one git is given.
const MAX_ARGUMENTS: usize = 64 * 1024;

impl Repositories {
    /// Paths of all files of a commit; those that are no UTF-8 are left out.
    pub async fn paths(&self, session: SessionId, commit: &str) -> Result<Vec<String>, GitError> {
        let repository = self.existing(session).await?;
        let listed = Git::new("ls-tree", Some(&repository))
            .args(["ls-tree", "-r", "-z", "--name-only", "--full-tree", commit])
            .run()
            .await?;
        Ok(listed
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty())
            .filter_map(|path| String::from_utf8(path.to_owned()).ok())
            .collect())
    }

    /// A file's content, `None` when there is none, it is a link or a module, or over `cap` bytes.
    pub async fn file(
        &self,
        session: SessionId,
        commit: &str,
        path: &str,
        cap: u64,
    ) -> Result<Option<Vec<u8>>, GitError> {
        let repository = self.existing(session).await?;
        let entry = Git::new("ls-tree", Some(&repository))
            .args(["--literal-pathspecs", "ls-tree", "-z", "-l", "--full-tree", commit, "--", path])
            .text()
            .await?;
        // `100644 blob <hash> <size>\t<path>`
        let mut words = entry.split_ascii_whitespace();
        let (mode, _, hash, size) = (words.next(), words.next(), words.next(), words.next());
        let regular = matches!(mode, Some("100644" | "100755"));
        let small = size.and_then(|size| size.parse::<u64>().ok()).is_some_and(|size| size <= cap);
        let (true, true, Some(hash)) = (regular, small, hash) else { return Ok(None) };
        Git::new("cat-file", Some(&repository)).args(["cat-file", "blob", hash]).run().await.map(Some)
    }

    /// The content of many files at once; those that [`Self::file`] has no content for are left out, and what is
    /// beyond 32 MiB in all.
    pub async fn files(
        &self,
        session: SessionId,
        commit: &str,
        paths: &[String],
        cap: u64,
    ) -> Result<Vec<(String, Vec<u8>)>, GitError> {
        let repository = self.existing(session).await?;
        let (mut files, mut room, mut rest) = (Vec::new(), MAX_FILES, paths);
        while !rest.is_empty() {
            // As many as fit into the arguments of one git.
            let mut length = 0;
            let fit = rest.iter().take_while(|path| {
                length += path.len() + 1;
                length <= MAX_ARGUMENTS
            });
            let count = fit.count().max(1);
            let (now, later) = rest.split_at(count);
            rest = later;
            let listed = Git::new("ls-tree", Some(&repository))
                .args(["--literal-pathspecs", "ls-tree", "-z", "-l", "--full-tree", commit, "--"])
                .args(now)
                .run()
                .await?;
            let entries = listed
                .split(|byte| *byte == 0)
                .filter_map(|entry| entry_of(std::str::from_utf8(entry).ok()?));
            // Beside a path below it, a folder is listed with all that is in it.
            let wanted: HashSet<&str> = now.iter().map(String::as_str).collect();
            let fits = |(path, _, size): &(String, String, usize)| {
                let fits = wanted.contains(path.as_str()) && *size as u64 <= cap && *size <= room;
                room -= if fits { *size } else { 0 };
                fits
            };
            let entries: Vec<_> = entries.filter(fits).collect();
            files.extend(contents(&repository, entries).await?);
        }
        Ok(files)
    }

    /// The first commits of a history, sorted: what two copies of one repository have in common.
    pub async fn roots(&self, session: SessionId, commit: &str) -> Result<Vec<String>, GitError> {
        let repository = self.existing(session).await?;
        let listed = Git::new("rev-list", Some(&repository))
            .args(["rev-list", "--max-parents=0", "--end-of-options", commit])
            .text()
            .await?;
        let mut roots: Vec<String> = listed.lines().map(ToOwned::to_owned).collect();
        roots.sort();
        Ok(roots)
    }
}

/// Path, hash and size of a regular file: `100644 blob <hash> <size>\t<path>`.
fn entry_of(entry: &str) -> Option<(String, String, usize)> {
    let (facts, path) = entry.split_once('\t')?;
    let mut words = facts.split_ascii_whitespace();
    let (mode, _, hash, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    matches!(mode, "100644" | "100755").then_some(())?;
    Some((path.to_owned(), hash.to_owned(), size.parse().ok()?))
}

/// Reads `<hash> blob <size>\n<content>\n`, one after the other.
async fn contents(
    repository: &Path,
    entries: Vec<(String, String, usize)>,
) -> Result<Vec<(String, Vec<u8>)>, GitError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: String = entries.iter().map(|(_, hash, _)| format!("{hash}\n")).collect();
    let batch =
        Git::new("cat-file", Some(repository)).args(["cat-file", "--batch"]).input(hashes).run().await?;
    let mut rest = batch.as_slice();
    let mut files = Vec::with_capacity(entries.len());
    for (path, _, size) in entries {
        let Some(line) = rest.iter().position(|byte| *byte == b'\n') else { break };
        let Some(content) = rest.get(line + 1..line + 1 + size) else { break };
        files.push((path, content.to_vec()));
        rest = rest.get(line + 2 + size..).unwrap_or_default();
    }
    Ok(files)
}
