//! Diffs between two commits of a session's repository, made on the host from its own objects.

use protocol::api::{Diff, DiffFile, DiffRow, DiffRowKind, FileDiff, FileStatus};
use protocol::ids::SessionId;
use protocol::usage::DiffStat;

use crate::command::Git;
use crate::error::GitError;
use crate::repositories::Repositories;

/// The most rows of one file's diff.
pub const MAX_DIFF_ROWS: usize = 200_000;

/// Every diff: rename detection, nothing of the repository's own, the same on every machine.
const DIFF: &[&str] =
    &["diff-tree", "-r", "--no-ext-diff", "--no-textconv", "--no-color", "-M", "--diff-algorithm=histogram"];

impl Repositories {
    /// Files and counts.
    pub async fn diff(&self, session: SessionId, base: &str, commit: &str) -> Result<Diff, GitError> {
        let repository = self.existing(session).await?;
        let listed = Git::new("diff", Some(&repository))
            .args(DIFF)
            .args(["-z", "--raw", "--numstat", base, commit])
            .run()
            .await?;
        let files = parse_files(&listed);
        let stat = files.iter().fold(DiffStat::default(), |mut stat, file| {
            stat.additions += file.additions;
            stat.deletions += file.deletions;
            stat.files_changed += 1;
            stat
        });
        Ok(Diff { base: base.to_owned(), commit: commit.to_owned(), stat, files })
    }

    /// A patch that `git apply` takes on the base, binary files included.
    pub async fn patch(&self, session: SessionId, base: &str, commit: &str) -> Result<Vec<u8>, GitError> {
        let repository = self.existing(session).await?;
        Git::new("diff", Some(&repository))
            .args(DIFF)
            .args(["--patch", "--binary", "--full-index", base, commit])
            .run()
            .await
    }

    /// The rows of one file. `old_path` is the one before a rename.
    pub async fn file_diff(
        &self,
        session: SessionId,
        base: &str,
        commit: &str,
        path: &str,
        old_path: Option<&str>,
    ) -> Result<FileDiff, GitError> {
        let repository = self.existing(session).await?;
        let patch = Git::new("diff", Some(&repository))
            .arg("--literal-pathspecs")
            .args(DIFF)
            .args(["--patch", "--unified=3", base, commit, "--", path])
            .args(old_path)
            .run()
            .await?;
        let (rows, truncated) = parse_rows(&String::from_utf8_lossy(&patch));
        Ok(FileDiff { path: path.to_owned(), rows, truncated })
    }
}

/// Reads `--raw --numstat -z`: first every raw entry, then every count, in the same order.
///
/// `:<modes> <hashes> <status>\0<path>\0[<new path>\0]` and
/// `<added>\t<deleted>\t<path>\0` or `<added>\t<deleted>\t\0<path>\0<new path>\0`.
fn parse_files(listed: &[u8]) -> Vec<DiffFile> {
    let mut fields = listed.split(|byte| *byte == 0).map(String::from_utf8_lossy).peekable();
    let mut files = Vec::new();
    while let Some(raw) = fields.next_if(|field| field.starts_with(':')) {
        let status = match raw.rsplit(' ').next().and_then(|word| word.chars().next()) {
            Some('A') => FileStatus::Added,
            Some('D') => FileStatus::Deleted,
            Some('R') => FileStatus::Renamed,
            _ => FileStatus::Modified,
        };
        let Some(first) = fields.next() else { break };
        let (path, old_path) = match status {
            FileStatus::Renamed => (fields.next().unwrap_or_default().into_owned(), Some(first.into_owned())),
            _ => (first.into_owned(), None),
        };
        files.push(DiffFile { path, old_path, status, additions: 0, deletions: 0, binary: false });
    }
    for file in &mut files {
        let Some(counts) = fields.next() else { break };
        let mut words = counts.splitn(3, '\t');
        let (added, deleted) = (words.next().unwrap_or("-"), words.next().unwrap_or("-"));
        file.binary = added == "-";
        file.additions = added.parse().unwrap_or(0);
        file.deletions = deleted.parse().unwrap_or(0);
        if words.next().is_none_or(str::is_empty) {
            // A rename: the two paths follow.
            fields.nth(1);
        }
    }
    files
}

/// Reads the hunks of a one-file patch.
fn parse_rows(patch: &str) -> (Vec<DiffRow>, bool) {
    let mut rows = Vec::new();
    let (mut old, mut new, mut inside) = (0u32, 0u32, false);
    for line in patch.split('\n') {
        if rows.len() >= MAX_DIFF_ROWS {
            return (rows, true);
        }
        if let Some((first_old, first_new)) = hunk_start(line) {
            (old, new, inside) = (first_old, first_new, true);
            rows.push(DiffRow { kind: DiffRowKind::Hunk, old: None, new: None, text: line.to_owned() });
            continue;
        }
        if !inside {
            continue;
        }
        let text = |line: &str| line.get(1..).unwrap_or_default().trim_end_matches('\r').to_owned();
        match line.as_bytes().first() {
            Some(b' ') => {
                rows.push(DiffRow {
                    kind: DiffRowKind::Context,
                    old: Some(old),
                    new: Some(new),
                    text: text(line),
                });
                (old, new) = (old + 1, new + 1);
            }
            Some(b'+') => {
                rows.push(DiffRow { kind: DiffRowKind::Added, old: None, new: Some(new), text: text(line) });
                new += 1;
            }
            Some(b'-') => {
                rows.push(DiffRow {
                    kind: DiffRowKind::Deleted,
                    old: Some(old),
                    new: None,
                    text: text(line),
                });
                old += 1;
            }
            Some(b'\\') => {
                rows.push(DiffRow {
                    kind: DiffRowKind::Note,
                    old: None,
                    new: None,
                    text: text(line).trim().to_owned(),
                });
            }
            _ => inside = false,
        }
    }
    (rows, false)
}

/// First line numbers of `@@ -12,3 +14,5 @@ …`.
fn hunk_start(line: &str) -> Option<(u32, u32)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let first = |range: &str| range.split(',').next()?.parse().ok();
    Some((first(old)?, first(new)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_and_counts_are_read_with_renames_and_binaries() {
        let listed =
            b":100644 100644 a b M\0a b.txt\0:100644 000000 a 0 D\0gone\0:100644 100644 a b R090\0old\0new\0\
            1\t2\ta b.txt\x000\t3\tgone\0-\t-\t\0old\0new\0";
        let files = parse_files(listed);
        assert_eq!(files.len(), 3);
        assert_eq!((files[0].path.as_str(), files[0].additions, files[0].deletions), ("a b.txt", 1, 2));
        assert_eq!((files[1].status, files[1].deletions), (FileStatus::Deleted, 3));
        assert_eq!(
            (files[2].path.as_str(), files[2].old_path.as_deref(), files[2].binary),
            ("new", Some("old"), true)
        );
    }

    #[test]
    fn rows_carry_both_line_numbers() {
        let patch = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@ fn x\n a\n-b\n+-- c\n\\ No newline at end of file\n";
        let (rows, truncated) = parse_rows(patch);
        assert!(!truncated);
        let shown: Vec<_> = rows.iter().map(|row| (row.kind, row.old, row.new, row.text.as_str())).collect();
        assert_eq!(
            shown,
            [
                (DiffRowKind::Hunk, None, None, "@@ -1,2 +1,2 @@ fn x"),
                (DiffRowKind::Context, Some(1), Some(1), "a"),
                (DiffRowKind::Deleted, Some(2), None, "b"),
                (DiffRowKind::Added, None, Some(2), "-- c"),
                (DiffRowKind::Note, None, None, "No newline at end of file"),
            ]
        );
    }
}
