//! Large files of a session's branch: taken in from its sandbox, sent before the branch is pushed.
//!
//! ```text
//!   checkpoint ─▶ wanted: pointers that are new and not here ─▶ from the sandbox, hashed ─▶ repos/<session>.git/lfs
//!   push ─▶ pointers that are new ─ batch `upload` ─▶ those that the host has not ─ PUT, verify ─▶ there
//!                                                      └ not here either: the branch is not pushed, and it is said
//! ```

use std::collections::BTreeSet;
use std::io;

use axum::body::Bytes;
use futures::{StreamExt as _, stream};
use protocol::ids::SessionId;
use tokio_util::io::ReaderStream;

use super::batch::{BatchRequest, Operation, Said, Todo};
use super::pointer::Pointer;
use super::scan;
use super::store::{Incoming, Objects};
use super::transfer::Sent;
use crate::error::GitError;
use crate::front::GitGateway;
use crate::front::upstream::{Upstream, base};
use crate::remote::Remote;
use crate::repositories::Repositories;

/// Objects of one batch.
const BATCH: usize = 100;

/// Objects that go at once.
const AT_ONCE: usize = 4;

/// The most objects that one checkpoint brings.
const MOST: usize = 1000;

/// A large file that a session's repository has not.
#[derive(Debug)]
pub struct WantedFile {
    pointer: Pointer,
    objects: Objects,
}

impl WantedFile {
    /// Where it is below a folder of git LFS's objects.
    #[must_use]
    pub fn place(&self) -> String {
        self.pointer.oid.place()
    }

    /// How long it has to be.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pointer.size
    }

    /// Begins to take it in.
    pub async fn begin(&self) -> Result<IncomingFile, GitError> {
        Ok(IncomingFile(self.objects.begin(self.pointer).await?))
    }
}

/// A large file that comes in.
pub struct IncomingFile(Incoming);

impl IncomingFile {
    /// Takes the next piece; why it is refused.
    pub async fn push(&mut self, piece: Bytes) -> Result<(), String> {
        self.0.push(piece).await
    }

    /// Keeps it, where it is what it is called.
    pub async fn end(self) -> Result<(), String> {
        self.0.end().await
    }
}

impl Repositories {
    /// The large files that a commit brings on top of others, and that the session's repository has not.
    pub async fn wanted_large_files(
        &self,
        session: SessionId,
        commit: &str,
        known: &[String],
    ) -> Result<Vec<WantedFile>, GitError> {
        let (new, objects) = self.new_large_files(session, commit, known).await?;
        let mut wanted = Vec::new();
        for pointer in new {
            if wanted.len() < MOST && !objects.has(&pointer).await {
                wanted.push(WantedFile { pointer, objects: objects.clone() });
            }
        }
        Ok(wanted)
    }

    /// Whether a commit brings large files on top of others.
    pub async fn brings_large_files(
        &self,
        session: SessionId,
        commit: &str,
        known: &[String],
    ) -> Result<bool, GitError> {
        Ok(!self.new_large_files(session, commit, known).await?.0.is_empty())
    }

    /// Sends the large files that a commit brings on top of what its remote has. The inner error says why the
    /// branch would be broken there without them.
    pub async fn publish_large_files(
        &self,
        session: SessionId,
        branch: &str,
        (commit, known): (&str, &[String]),
        (remote, gateway): (&Remote, &GitGateway),
    ) -> Result<Result<(), String>, GitError> {
        let (new, objects) = self.new_large_files(session, commit, known).await?;
        let new: Vec<Pointer> = new.into_iter().collect();
        let base = base(remote)?;
        let upstream = &gateway.upstream;
        for some in new.chunks(BATCH) {
            let reference = Some(format!("refs/heads/{branch}"));
            let request = BatchRequest { operation: Operation::Upload, reference, objects: some.to_vec() };
            let answer = match upstream.batch(remote, &base, &request).await {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(error.to_string())),
            };
            let each = answer
                .objects
                .into_iter()
                .map(|(pointer, said)| send(upstream, remote, &base, &objects, pointer, said));
            let ended: Vec<Result<(), String>> = stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
            let failed: Vec<String> = ended.into_iter().filter_map(Result::err).collect();
            if let Some(first) = failed.first() {
                let count = failed.len();
                return Ok(Err(format!("{count} of its large files (LFS) cannot be sent: {first}")));
            }
        }
        Ok(Ok(()))
    }

    async fn new_large_files(
        &self,
        session: SessionId,
        commit: &str,
        known: &[String],
    ) -> Result<(BTreeSet<Pointer>, Objects), GitError> {
        let repository = self.existing(session).await?;
        let objects = Objects::of_repository(&repository);
        if !scan::uses_lfs(&repository, commit).await? {
            return Ok((BTreeSet::new(), objects));
        }
        Ok((scan::between(&repository, commit, known).await?, objects))
    }
}

async fn send(
    upstream: &Upstream,
    remote: &Remote,
    base: &reqwest::Url,
    objects: &Objects,
    pointer: Pointer,
    said: Said,
) -> Result<(), String> {
    let Todo { action, verify, authenticated } = match said {
        Said::Nothing => return Ok(()),
        Said::Refused { words, .. } => return Err(words),
        Said::Do(todo) => *todo,
    };
    let file = match tokio::fs::File::open(objects.place(&pointer)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "the content of {} is neither at {} nor in this session; put the file there again, or take it out \
                 of the branch",
                pointer.oid,
                remote.host()
            ));
        }
        Err(error) => return Err(format!("{} cannot be read: {error}", pointer.oid)),
    };
    // What has a name here was hashed when it came.
    let body = reqwest::Body::wrap_stream(ReaderStream::new(file));
    let sent = Sent { body, length: pointer.size, kind: "application/octet-stream" };
    let words = |error: super::transfer::TransferError| error.to_string();
    upstream.put_object(remote, base, (&action, authenticated), sent).await.map_err(words)?;
    if let Some(verify) = verify {
        upstream.verify_object(remote, base, (&verify, authenticated), pointer).await.map_err(words)?;
    }
    Ok(())
}
