//! An image on its way from a registry.
//!
//! ```text
//!   .pulls/<manifest>/  lock · oci-layout · index.json · blobs/sha256/<digest>, <digest>.part
//!        begin ─▶ blobs come, in any order, also over several runs ─▶ finish: imported, folder removed
//! ```
//!
//! Who fetches is somebody else; here is where the parts go, and that one process at a time works on one
//! image.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};

use super::digest::{Digest, Hashing};
use super::error::{About, ImageError};
use super::name::check_name;
use super::place::{lock_file, private_folder};
use super::record::{self, Reference, TreeRecord};
use super::store::{Images, check_root};

/// A layout that is being filled; dropped before its end it stays, to be taken up again.
#[derive(Debug)]
pub struct Pull {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Images {
    /// Whether this manifest was unpacked before: then the name is given to its tree, and nothing has to
    /// be fetched.
    pub fn name_manifest(
        &self,
        name: &str,
        manifest: &Digest,
        source: &str,
    ) -> Result<Option<Digest>, ImageError> {
        check_root()?;
        check_name(name)?;
        if !self.data.path().is_dir() {
            return Ok(None);
        }
        let digest = {
            let _lock = self.data.lock()?;
            let trees = fs::read_dir(self.data.path().join(".trees")).into_iter().flatten().flatten();
            let mut records =
                trees.filter_map(|tree| record::read::<TreeRecord>(&tree.path().join("image.json")));
            let Some(tree) = records.find(|record| record.manifest == Some(*manifest)) else {
                return Ok(None);
            };
            let (digest, created) = (tree.digest, Timestamp::now());
            self.refer(name, &Reference { digest, source: source.to_owned(), created, recipe: None })?;
            digest
        };
        super::collect::collect(&self.data)?;
        Ok(Some(digest))
    }

    /// Begins, or takes up again, the pull of the image with this manifest. Waits while another process
    /// pulls the same.
    pub fn pull(&self, manifest: &Digest) -> Result<Pull, ImageError> {
        check_root()?;
        self.data.ensure()?;
        let folder = self.data.path().join(".pulls").join(manifest.hex());
        loop {
            private_folder(&folder.join("blobs/sha256")).about(&folder)?;
            let lock = lock_file(&folder.join("lock"), FlockArg::LockExclusive)?;
            // The one before us may have finished, and removed the folder with the lock.
            if same_file(&lock, &folder.join("lock")) {
                return Ok(Pull { folder, _lock: lock });
            }
        }
    }

    /// Imports a pull that is complete; a name that is there already goes over to it.
    pub fn finish_pull(&self, name: &str, pull: Pull, source: &str) -> Result<Digest, ImageError> {
        check_name(name)?;
        let digest = self.import_pulled(name, &pull.folder, source.to_owned())?;
        fs::remove_dir_all(&pull.folder).about(&pull.folder)?;
        Ok(digest)
    }
}

impl Pull {
    /// Removes what was begun: it turned out not to be needed.
    pub fn abandon(self) -> Result<(), ImageError> {
        fs::remove_dir_all(&self.folder).about(&self.folder)
    }

    /// Where the bytes of a blob are written; what is there already need not be fetched again.
    #[must_use]
    pub fn part(&self, digest: &Digest) -> PathBuf {
        self.blob(digest).with_extension("part")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// Whether a blob is complete.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// Takes a blob as complete, if it is what its digest says; if not, its part is removed.
    pub fn complete(&self, digest: &Digest, size: u64) -> Result<(), ImageError> {
        let part = self.part(digest);
        let (found, bytes) = File::open(&part).and_then(|file| Hashing::new(file).finish()).about(&part)?;
        if found != *digest || bytes != size {
            fs::remove_file(&part).about(&part)?;
            return Err(ImageError::mismatch("what the registry sent", digest, &found));
        }
        fs::rename(&part, self.blob(digest)).about(&part)
    }

    /// Writes the documents that make the blobs an image: the manifest, and what refers to it.
    pub fn describe(&self, manifest: &[u8]) -> Result<(), ImageError> {
        let digest = Digest::of(manifest);
        let write = |path: &Path, bytes: &[u8]| fs::write(path, bytes).about(path);
        write(&self.blob(&digest), manifest)?;
        write(&self.folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let one = serde_json::json!({ "digest": digest, "size": manifest.len() });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [one] });
        write(&self.folder.join("index.json"), index.to_string().as_bytes())
    }
}

fn same_file(lock: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let there: io::Result<_> = fs::metadata(path);
    lock.metadata()
        .is_ok_and(|here| there.is_ok_and(|there| (here.dev(), here.ino()) == (there.dev(), there.ino())))
}
