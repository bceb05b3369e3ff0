//! The link as hands.

use async_trait::async_trait;
use failpoint::{Side, reached};
use protocol::guest::{MAX_CHUNK, Reply, Request};
use protocol::hands::{DirEntry, ExecSpec, Execution, FileChunk, FileStat, Hands, HandsError};
use protocol::ids::ExecId;

use super::execution::GuestExecution;
use super::link::GuestLink;

/// Entries of one folder.
const MAX_ENTRIES: usize = 10_000;

#[async_trait]
impl Hands for GuestLink {
    async fn start(&self, spec: ExecSpec) -> Result<Box<dyn Execution>, HandsError> {
        Ok(Box::new(GuestExecution::start(self, spec).await?))
    }

    async fn attach(&self, exec: ExecId) -> Result<Box<dyn Execution>, HandsError> {
        Ok(Box::new(GuestExecution::attach(self, exec).await?))
    }

    fn release(&self, exec: ExecId) {
        // Nobody waits for the answer: a journal that stays costs the sandbox's disk, and has an end.
        let _ = self.shared().post(Request::Release { exec });
        reached(Side::After, "guest", || "release".into());
    }

    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileChunk, HandsError> {
        let mut whole = FileChunk { bytes: Vec::new(), size: 0 };
        loop {
            let read = whole.bytes.len() as u64;
            let wanted = (limit - read).min(MAX_CHUNK as u64);
            let request = Request::ReadFile {
                path: path.to_owned(),
                offset: offset.saturating_add(read),
                limit: wanted,
            };
            let Reply::Chunk(chunk) = self.shared().request(request).await? else {
                return Err(self.off_topic());
            };
            let got = chunk.bytes.len() as u64;
            if got > wanted {
                return Err(self.shared().broken("it broke the rules: more of a file than was asked for"));
            }
            whole.bytes.extend_from_slice(&chunk.bytes);
            whole.size = chunk.size;
            if got < wanted || whole.bytes.len() as u64 == limit {
                return Ok(whole);
            }
        }
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), HandsError> {
        let _one_at_a_time = self.shared().writing.lock().await;
        let mut parts = bytes.chunks(MAX_CHUNK).peekable();
        let mut offset = 0;
        loop {
            // An empty file has one part, too.
            let part = parts.next().unwrap_or_default();
            let last = parts.peek().is_none();
            let (path, bytes) = (path.to_owned(), part.to_vec());
            reached(Side::Before, "guest", || "write a file".into());
            let reply = self.shared().request(Request::WriteFile { path, offset, bytes, last }).await?;
            self.done(&reply)?;
            reached(Side::After, "guest", || "write a file".into());
            if last {
                return Ok(());
            }
            offset += part.len() as u64;
        }
    }

    async fn stat(&self, path: &str) -> Result<FileStat, HandsError> {
        match self.shared().request(Request::Stat { path: path.to_owned() }).await? {
            Reply::Stat(stat) => Ok(stat),
            _ => Err(self.off_topic()),
        }
    }

    async fn list(&self, path: &str) -> Result<Vec<DirEntry>, HandsError> {
        let Reply::Entries(mut entries) =
            self.shared().request(Request::List { path: path.to_owned() }).await?
        else {
            return Err(self.off_topic());
        };
        // A name that is a path would lead whoever joins it to its folder elsewhere.
        if entries
            .iter()
            .any(|entry| entry.name.contains(['/', '\0']) || matches!(&*entry.name, "" | "." | ".."))
        {
            return Err(self.shared().broken("it broke the rules: a name in a folder that is no name"));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.truncate(MAX_ENTRIES);
        Ok(entries)
    }
}
