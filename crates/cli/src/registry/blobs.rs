//! Fetching one blob.
//!
//! ```text
//!   part on disk, n bytes ─▶ GET from byte n ─▶ more bytes ─┬─ broken off ─▶ again from there
//!                                                           └─ complete ─▶ its digest ─┬▶ done
//!                                                              another one: once more, from 0
//! ```

use std::path::Path;
use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use sandbox::images::{Descriptor, Digest, ImageError, Pull};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt as _;

use super::client::{Registry, TRIES, pause};
use super::error::RegistryError;

/// Fetches a blob into a pull, or finds it there.
pub(super) async fn fetch(
    registry: &Registry,
    repository: &str,
    blob: &Descriptor,
    pull: &Arc<Pull>,
) -> Result<(), RegistryError> {
    let Descriptor { digest, size, .. } = *blob;
    if pull.has(&digest) {
        return Ok(());
    }
    let mut damaged = false;
    loop {
        fill(registry, repository, &digest, size, &pull.part(&digest)).await?;
        let checked = Arc::clone(pull);
        let checked = tokio::task::spawn_blocking(move || checked.complete(&digest, size)).await;
        match checked.map_err(|_| registry.answer("a part", "what broke the check of its digest".into()))? {
            // The beginning may be of an earlier, broken run.
            Err(ImageError::Mismatch { .. }) if !damaged => damaged = true,
            outcome => return Ok(outcome?),
        }
    }
}

/// Reads until the part has all its bytes. A try that brings something is none that failed.
async fn fill(
    registry: &Registry,
    repository: &str,
    digest: &Digest,
    size: u64,
    part: &Path,
) -> Result<(), RegistryError> {
    let failed = |source| RegistryError::Io { path: part.to_owned(), source };
    let mut tries = 0;
    loop {
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(part).await.map_err(failed)?;
        let mut at = file.metadata().await.map_err(failed)?.len();
        if at > size {
            at = 0;
        }
        if at == size && size > 0 {
            return Ok(());
        }
        let mut answer = registry.blob(repository, digest, at).await?;
        let is_rest = answer.status() == StatusCode::PARTIAL_CONTENT
            && answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).is_some_and(
                |range| {
                    range.strip_prefix("bytes ").is_some_and(|range| range.starts_with(&format!("{at}-")))
                },
            );
        if !is_rest {
            at = 0;
        }
        file.set_len(at).await.map_err(failed)?;
        tokio::io::AsyncSeekExt::seek(&mut file, std::io::SeekFrom::End(0)).await.map_err(failed)?;
        let begun = at;
        let broken = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    at += chunk.len() as u64;
                    if at > size {
                        drop(file);
                        let _ = tokio::fs::remove_file(part).await;
                        let words = format!("more than the {size} bytes that its manifest says");
                        return Err(registry.answer(&format!("part {digest}"), words));
                    }
                    file.write_all(&chunk).await.map_err(failed)?;
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        file.flush().await.map_err(failed)?;
        if at == size {
            return Ok(());
        }
        tries = if at > begun { 1 } else { tries + 1 };
        match broken {
            Some(error) if tries >= TRIES => return Err(registry.unreachable(tries, error)),
            None if tries >= TRIES => {
                let words = format!("{at} bytes, and its manifest says {size}");
                return Err(registry.answer(&format!("part {digest}"), words));
            }
            _ => tokio::time::sleep(pause(tries)).await,
        }
    }
}
