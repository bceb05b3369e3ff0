//! One folder of images on disk.
//!
//! ```text
//!   find(name) ─┬▶ Stored: <name>/reference.json, the tree is .trees/<digest>/rootfs
//!               └▶ ByHand: <name>/rootfs
//! ```
//!
//! Names change hands under the lock; trees are made beside and only moved under it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::fstat;
use tempfile::TempDir;

use super::digest::Digest;
use super::error::{About, ImageError};
use super::name::is_name;
use super::record::{self, Reference, TreeRecord};
use crate::mounts;

/// A name, found.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// It refers to a tree by its digest.
    Stored(Reference),
    /// It holds a tree itself.
    ByHand,
}

/// A folder of images.
#[derive(Debug, Clone)]
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn of_name(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn of_tree(&self, digest: &Digest) -> PathBuf {
        self.0.join(".trees").join(digest.hex())
    }

    pub(super) fn reference(&self, name: &str) -> PathBuf {
        self.of_name(name).join("reference.json")
    }

    /// All names, in no order.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| is_name(name) && self.find(name).is_some()).collect()
    }

    /// What a name stands for here.
    pub(super) fn find(&self, name: &str) -> Option<Found> {
        match record::read::<Reference>(&self.reference(name)) {
            Some(reference) => self.of_tree(&reference.digest).is_dir().then_some(Found::Stored(reference)),
            None => self.of_name(name).join("rootfs").is_dir().then_some(Found::ByHand),
        }
    }

    /// The record of a tree.
    pub(super) fn tree_record(&self, digest: &Digest) -> Option<TreeRecord> {
        record::read(&self.of_tree(digest).join("image.json"))
    }

    /// Opens the tree behind a name; `None` when there is no such name here.
    pub(super) fn open(&self, name: &str) -> Result<Option<OwnedFd>, ImageError> {
        let Ok(place) = mounts::open_path(&self.0) else { return Ok(None) };
        // Without following a link: a tree elsewhere on the host is no image.
        let folder = match mounts::open_beneath(place.as_fd(), name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            folder => folder.about(&self.of_name(name))?,
        };
        if fstat(&folder).about(&self.of_name(name))?.st_uid != 0 {
            return Err(ImageError::NotRoots(name.to_owned()));
        }
        match self.find(name) {
            Some(Found::Stored(reference)) => {
                let tree = format!(".trees/{}/rootfs", reference.digest.hex());
                mounts::open_beneath(place.as_fd(), &tree).about(&self.of_tree(&reference.digest)).map(Some)
            }
            Some(Found::ByHand) => {
                mounts::open_beneath(folder.as_fd(), "rootfs").about(&self.of_name(name)).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Makes the folder, if there is none.
    pub(super) fn ensure(&self) -> Result<(), ImageError> {
        private_folder(&self.0.join(".trees")).about(&self.0)
    }

    /// Keeps others from changing what names stand for; held for moments only.
    pub(super) fn lock(&self) -> Result<Flock<File>, ImageError> {
        lock_file(&self.0.join(".lock"), FlockArg::LockExclusive)
    }

    /// A folder to make a tree in; it goes when it is dropped and was not published.
    pub(super) fn stage(&self) -> Result<Stage, ImageError> {
        self.ensure()?;
        let _lock = self.lock()?;
        let folder = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.0).about(&self.0)?;
        // While this is held, nobody takes the folder for a leftover of the dead.
        let alive = lock_file(&folder.path().join("alive"), FlockArg::LockExclusive)?;
        let stage = Stage { folder, _alive: alive };
        fs::create_dir(stage.rootfs()).about(stage.folder.path())?;
        Ok(stage)
    }
}

/// A tree in the making.
#[derive(Debug)]
pub(super) struct Stage {
    folder: TempDir,
    _alive: Flock<File>,
}

impl Stage {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn rootfs(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }
}

/// Makes a folder that only root may enter, and those above it.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn lock_file(path: &Path, how: FlockArg) -> Result<Flock<File>, ImageError> {
    let file = File::options().create(true).append(true).open(path).about(path)?;
    Flock::lock(file, how).map_err(|(_, errno)| errno).about(path)
}

/// The inode of a tree's top folder: what a tree is known by, whatever its name is at the moment.
pub(super) fn inode_of(rootfs: &Path) -> Option<u64> {
    fs::symlink_metadata(rootfs).ok().filter(fs::Metadata::is_dir).map(|metadata| metadata.ino())
}
