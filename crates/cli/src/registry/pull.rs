//! Pulling one image.

use std::path::Path;
use std::sync::Arc;

use sandbox::images::{Caps, Descriptor, Digest, ImageError, Images, Pull};
use tokio::task::JoinSet;

use super::blobs::fetch;
use super::client::Registry;
use super::credentials::Credentials;
use super::error::RegistryError;
use super::reference::Reference;
use crate::output::{is_terminal, note};

/// Blobs that are fetched at a time.
const AT_A_TIME: usize = 3;

/// What a pull came to.
pub(crate) struct Pulled {
    /// Of the image's content.
    pub(crate) digest: Digest,
    /// It was unpacked before; only the name is fresh.
    pub(crate) was_there: bool,
}

/// Fetches an image and gives it a name.
pub(crate) async fn pull(
    data_dir: &Path,
    name: String,
    reference: Reference,
    insecure: bool,
) -> Result<Pulled, RegistryError> {
    let images = Images::of(data_dir);
    let login = Credentials::of(data_dir).get(&reference.registry)?;
    let registry = Arc::new(Registry::new(&reference.registry, login, insecure)?);
    let (manifest, bytes, parts) = registry.manifest(&reference).await?;
    let most = Caps::default().bytes;
    let all = parts.layers.iter().try_fold(parts.config.size, |sum, layer| sum.checked_add(layer.size));
    if all.is_none_or(|all| all > most) {
        return Err(registry.answer("the image", format!("layers of more than {most} bytes")));
    }
    let source = format!("{reference} ({manifest})");
    let (pull, digest) = begin(&images, &name, manifest, &source).await?;
    let Some(pull) = pull.map(Arc::new) else {
        return digest
            .map(|digest| Pulled { digest, was_there: true })
            .ok_or_else(|| registry.answer("the image", "what could neither be found nor pulled".into()));
    };
    let mut wanted: Vec<Descriptor> = Vec::new();
    for part in std::iter::once(parts.config).chain(parts.layers) {
        // The same layer may come twice; fetched twice at once it would be written over itself.
        if !wanted.iter().any(|known| known.digest == part.digest) {
            wanted.push(part);
        }
    }
    let count = wanted.len();
    let mut fetched = 0;
    let mut running = JoinSet::new();
    let mut waiting = wanted.into_iter();
    loop {
        while running.len() < AT_A_TIME
            && let Some(part) = waiting.next()
        {
            let (registry, pull) = (Arc::clone(&registry), Arc::clone(&pull));
            let repository = reference.repository.clone();
            running.spawn(async move { fetch(&registry, &repository, &part, &pull).await });
        }
        let Some(outcome) = running.join_next().await else { break };
        outcome.map_err(|_| registry.answer("a part", "what broke the fetching".into()))??;
        fetched += 1;
        if is_terminal() {
            note(&format!("fetched {fetched} of {count} parts"));
        }
    }
    let digest = blocking(&registry, move || {
        pull.describe(&bytes)?;
        // All tasks that had a part in it are done.
        let pull = Arc::into_inner(pull);
        pull.map(|pull| images.finish_pull(&name, pull, &source)).transpose()
    })
    .await?;
    let digest = digest.ok_or_else(|| registry.answer("the image", "what is still being fetched".into()))?;
    Ok(Pulled { digest, was_there: false })
}

/// Finds the image unpacked already, or begins its pull; while another process pulls it, waits, and finds
/// it then.
async fn begin(
    images: &Images,
    name: &str,
    manifest: Digest,
    source: &str,
) -> Result<(Option<Pull>, Option<Digest>), RegistryError> {
    let (images, name, source) = (images.clone(), name.to_owned(), source.to_owned());
    let begun = tokio::task::spawn_blocking(move || -> Result<_, ImageError> {
        if let Some(digest) = images.name_manifest(&name, &manifest, &source)? {
            return Ok((None, Some(digest)));
        }
        let pull = images.pull(&manifest)?;
        match images.name_manifest(&name, &manifest, &source)? {
            Some(digest) => pull.abandon().map(|()| (None, Some(digest))),
            None => Ok((Some(pull), None)),
        }
    });
    let broken = |_| ImageError::Bad { path: "pull".into(), why: "its preparation broke down".into() };
    Ok(begun.await.map_err(broken)??)
}

async fn blocking<T: Send + 'static>(
    registry: &Registry,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, RegistryError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| registry.answer("the image", "what broke the unpacking".into()))??)
}
