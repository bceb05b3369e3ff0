//! Reading files of a commit, for what needs no sandbox: memory files and settings.

use protocol::ids::SessionId;

use crate::command::Git;
use crate::error::GitError;
use crate::repositories::Repositories;

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
