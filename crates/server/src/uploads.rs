//! Bundles on their way in: streamed to a file, good for one session and one hour.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use protocol::api::{MAX_BUNDLE_BYTES, Upload};
use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use ulid::Ulid;

use crate::reply::Reply;

/// How long an unused upload is kept.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The folder of uploads. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    dir: PathBuf,
}

impl Uploads {
    /// Those in `dir`, which is made when missing; what a crash left goes.
    pub(crate) async fn open(dir: PathBuf) -> std::io::Result<Self> {
        fs::create_dir_all(&dir).await?;
        let this = Self { dir };
        this.sweep(Duration::ZERO).await?;
        Ok(this)
    }

    /// Takes a bundle in, at most [`MAX_BUNDLE_BYTES`].
    pub(crate) async fn receive(&self, body: Body) -> Result<Upload, Reply> {
        let failed = |source: std::io::Error| {
            tracing::error!(error = %source, "an upload could not be kept");
            Reply::new(
                507,
                "upload_not_kept",
                "the upload could not be kept",
                "check the free space of the data directory",
            )
        };
        self.sweep(LIFETIME).await.map_err(failed)?;
        let upload = format!("upl_{}", Ulid::generate());
        let path = self.path(&upload).ok_or_else(unknown)?;
        let mut file = fs::File::create_new(&path).await.map_err(failed)?;
        let mut chunks = body.into_data_stream();
        let mut size = 0u64;
        let result = loop {
            match chunks.next().await {
                None => break file.flush().await.map_err(failed),
                Some(Err(error)) => {
                    let reply = Reply::new(400, "upload_cut", "the upload ended early", "send it again");
                    break Err(reply.detail(error.to_string()));
                }
                Some(Ok(chunk)) => {
                    size += chunk.len() as u64;
                    if size > MAX_BUNDLE_BYTES {
                        break Err(Reply::new(
                            413,
                            "bundle_too_large",
                            format!("the bundle is over {} MB", MAX_BUNDLE_BYTES / 1_000_000),
                            "send fewer branches, or a snapshot without history",
                        ));
                    }
                    if let Err(error) = file.write_all(&chunk).await {
                        break Err(failed(error));
                    }
                }
            }
        };
        if let Err(reply) = result {
            let _ = fs::remove_file(&path).await;
            return Err(reply);
        }
        Ok(Upload { upload, size })
    }

    /// The file of an upload that is there.
    pub(crate) async fn find(&self, upload: &str) -> Result<PathBuf, Reply> {
        let path = self.path(upload).ok_or_else(unknown)?;
        match fs::try_exists(&path).await {
            Ok(true) => Ok(path),
            _ => Err(unknown()),
        }
    }

    /// An upload is good once.
    pub(crate) async fn spend(&self, upload: &str) {
        if let Some(path) = self.path(upload) {
            let _ = fs::remove_file(path).await;
        }
    }

    fn path(&self, upload: &str) -> Option<PathBuf> {
        let ulid = upload.strip_prefix("upl_")?;
        Ulid::from_string(ulid).ok()?;
        Some(self.dir.join(upload))
    }

    async fn sweep(&self, older_than: Duration) -> std::io::Result<()> {
        let mut entries = fs::read_dir(&self.dir).await?;
        while let Some(entry) = entries.next_entry().await? {
            let age = entry.metadata().await.and_then(|meta| meta.modified()).map(|at| at.elapsed());
            if matches!(age, Ok(Ok(age)) if age >= older_than) {
                let _ = fs::remove_file(entry.path()).await;
            }
        }
        Ok(())
    }
}

fn unknown() -> Reply {
    Reply::new(
        400,
        "upload_not_found",
        "there is no such upload",
        "upload the bundle again: one is good for one session and one hour",
    )
}
