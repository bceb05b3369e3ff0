//! Bringing the large files of a commit to a session, before its sandbox is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use protocol::ids::SessionId;
use reqwest::Url;
use tokio::time::{Instant, timeout_at};

use super::batch::{BatchRequest, Operation, Said};
use super::pointer::Pointer;
use super::scan;
use super::store::Objects;
use super::transfer::TransferError;
use crate::command::plain;
use crate::error::GitError;
use crate::front::upstream::{base, why};
use crate::front::{GitGateway, upstream::Upstream};
use crate::mirror::short_hash;
use crate::remote::Remote;
use crate::repositories::Repositories;

/// Objects of one batch, as many as git-lfs asks for.
const BATCH: usize = 100;

/// Objects that come at once.
const AT_ONCE: usize = 4;

/// How much a session begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LfsLimits {
    /// Bytes of large files together.
    pub bytes: u64,
    /// How many.
    pub objects: usize,
    /// How long they may take.
    pub time: Duration,
}

impl Default for LfsLimits {
    fn default() -> Self {
        Self { bytes: 4_000_000_000, objects: 10_000, time: Duration::from_secs(150) }
    }
}

/// The large files of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LargeFiles {
    /// Which of them stay pointers, and why, a sentence each.
    pub remarks: Vec<String>,
}

/// Files that stay pointers, by the reason.
#[derive(Default)]
struct Left(BTreeMap<String, (usize, u64)>);

impl Left {
    fn add(&mut self, pointer: &Pointer, reason: impl Into<String>) {
        let sum = self.0.entry(reason.into()).or_default();
        *sum = (sum.0 + 1, sum.1.saturating_add(pointer.size));
    }

    fn told(self) -> Vec<String> {
        let told = |(reason, (count, bytes)): (String, (usize, u64))| {
            let files = if count == 1 {
                "1 large file (LFS) stays a pointer".into()
            } else {
                format!("{count} large files (LFS) stay pointers")
            };
            format!("{files}, {} MB: {reason}.", bytes.div_ceil(1_000_000))
        };
        self.0.into_iter().map(told).take(8).collect()
    }
}

impl Repositories {
    /// Brings the large files of a commit beside the session's repository. What is there already is not asked
    /// for again; what cannot be had stays a pointer, and is told.
    pub async fn fetch_large_files(
        &self,
        session: SessionId,
        commit: &str,
        (remote, gateway): (Option<&Remote>, &GitGateway),
        limits: LfsLimits,
    ) -> Result<LargeFiles, GitError> {
        let repository = self.existing(session).await?;
        let objects = self.large_files(session).await?;
        let mut left = Left::default();
        let (mut room, mut count) = (limits.bytes, 0);
        let mut missing = Vec::new();
        for pointer in scan::of_commit(&repository, commit).await? {
            let fits = pointer.size <= room && count < limits.objects;
            if !fits {
                left.add(&pointer, "they are more than a session begins with, `lfs_bytes` and `lfs_objects` in [repositories]; `git lfs pull` gets them");
                continue;
            }
            (room, count) = (room - pointer.size, count + 1);
            if !objects.has(&pointer).await {
                missing.push(pointer);
            }
        }
        // Two paths may have one content.
        let missing: Vec<Pointer> = missing.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        if missing.is_empty() {
            return Ok(LargeFiles { remarks: left.told() });
        }
        let Some(remote) = remote else {
            let reason = "this session came without an address; begin one with `--repo URL`";
            missing.iter().for_each(|pointer| left.add(pointer, reason));
            return Ok(LargeFiles { remarks: left.told() });
        };
        let shared = Objects::at(self.mirrors.join(format!("{}.lfs", short_hash(&remote.url.to_string()))));
        let way = Way { upstream: &gateway.upstream, remote, base: base(remote)? };
        let until = Instant::now() + limits.time;
        for some in missing.chunks(BATCH) {
            for (pointer, done) in way.bring(some, (&shared, &objects), until).await {
                if let Err(reason) = done {
                    left.add(&pointer, plain(&reason));
                }
            }
        }
        Ok(LargeFiles { remarks: left.told() })
    }
}

/// The way to the large files of a repository.
struct Way<'a> {
    upstream: &'a Upstream,
    remote: &'a Remote,
    base: Url,
}

impl Way<'_> {
    /// Brings some; how each ended.
    async fn bring(
        &self,
        wanted: &[Pointer],
        (shared, own): (&Objects, &Objects),
        until: Instant,
    ) -> Vec<(Pointer, Result<(), String>)> {
        let late = || "there was no time left for it; `git lfs pull` gets it".to_owned();
        let request =
            BatchRequest { operation: Operation::Download, reference: None, objects: wanted.to_vec() };
        let asked = timeout_at(until, self.upstream.batch(self.remote, &self.base, &request)).await;
        let answer =
            match asked.map(|asked| asked.map_err(|error| error.to_string())).unwrap_or_else(|_| Err(late()))
            {
                Ok(answer) => answer,
                Err(reason) => return wanted.iter().map(|pointer| (*pointer, Err(reason.clone()))).collect(),
            };
        let each = answer.objects.into_iter().map(|(pointer, said)| async move {
            let work = async {
                // The host has said that this session may have it; whoever brought it before.
                if !shared.has(&pointer).await {
                    self.one(pointer, said, shared).await?;
                } else if let Said::Refused { words, .. } = said {
                    return Err(words);
                }
                own.link(shared, &pointer).await.map_err(|error| error.to_string())
            };
            (pointer, timeout_at(until, work).await.unwrap_or_else(|_| Err(late())))
        });
        stream::iter(each).buffer_unordered(AT_ONCE).collect().await
    }

    async fn one(&self, pointer: Pointer, said: Said, to: &Objects) -> Result<(), String> {
        let words = |error: TransferError| error.to_string();
        let todo = match said {
            Said::Do(todo) => todo,
            Said::Refused { words, .. } => return Err(words),
            Said::Nothing => return Err("its server has it not".into()),
        };
        let mut response = self
            .upstream
            .get_object(self.remote, &self.base, (&todo.action, todo.authenticated))
            .await
            .map_err(words)?;
        let mut incoming = to.begin(pointer).await.map_err(|error| error.to_string())?;
        while let Some(piece) =
            response.chunk().await.map_err(|error| why(self.remote, &error).to_string())?
        {
            incoming.push(piece).await?;
        }
        incoming.end().await
    }
}
