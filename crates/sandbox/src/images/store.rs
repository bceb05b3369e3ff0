//! The images that one data directory can use: finding, opening, naming, removing.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::collect::collect;
use super::digest::Digest;
use super::error::{About, ImageError};
use super::holders;
use super::name::check_name;
use super::place::{Found, Place, Stage, inode_of};
use super::record::{self, HandRecord, ImageConfig, Reference, TreeRecord};
use super::summary::{fingerprint, summary};

/// The images of the machine.
const MACHINE: &str = "/var/lib/patchyard/images";

/// The images that one data directory can use.
#[derive(Debug, Clone)]
pub struct Images {
    pub(super) data: Place,
    pub(super) machine: Place,
}

/// What there is to know of an image.
#[derive(Debug, Clone, Serialize)]
pub struct ImageInfo {
    /// Its name.
    pub name: String,
    /// Of its content.
    pub digest: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// When the name was given; unknown for a tree made by hand.
    pub created: Option<Timestamp>,
    /// Where it came from, for people.
    pub source: String,
    /// How many sandboxes stand on it.
    pub in_use: usize,
}

/// What the removal of an image came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// How many sandboxes stand on its tree still, which is why that stays for now.
    pub in_use: usize,
}

/// What is published beside a tree.
pub(super) struct Origin {
    pub(super) source: String,
    pub(super) manifest: Option<Digest>,
    pub(super) recipe: Option<Digest>,
    pub(super) config: ImageConfig,
}

impl Images {
    /// Those of a data directory, and those of the machine.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { data: Place::at(data_dir.join("images")), machine: Place::at(MACHINE.into()) }
    }

    /// All names, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.places().iter().flat_map(|place| place.names()).collect();
        names.into_iter().collect()
    }

    /// Opens the tree of an image.
    ///
    /// Nothing keeps the tree from being collected; [`Self::open_for`] does.
    pub(crate) fn open(&self, name: &str) -> Result<OwnedFd, ImageError> {
        let (place, _) = self.locate(name)?;
        // Between the look at the name and the opening the name may have been given to another tree.
        match place.open(name) {
            Ok(Some(tree)) => Ok(tree),
            Err(ImageError::NotRoots(name)) => Err(ImageError::NotRoots(name)),
            _ => place.open(name)?.ok_or_else(|| self.unknown(name)),
        }
    }

    /// Opens the tree of an image for a sandbox, and keeps it from being removed for as long as the
    /// sandbox's folder, `holder`, exists: also over restarts, and without anything to be given back.
    /// The folder has to exist already, and its path to be the same for every process.
    pub fn open_for(&self, name: &str, holder: &Path) -> Result<OwnedFd, ImageError> {
        let (place, _) = self.locate(name)?;
        let _lock = place.lock()?;
        let tree = place.open(name)?.ok_or_else(|| self.unknown(name))?;
        holders::hold(place, tree.as_fd(), holder).about(place.path())?;
        Ok(tree)
    }

    /// Tells that the sandbox with this folder has ended. What was not told is found out by the folder
    /// being gone, so this only keeps the records few.
    pub fn release(&self, holder: &Path) -> Result<(), ImageError> {
        self.places().iter().try_for_each(|place| holders::release(place, holder).about(place.path()))
    }

    /// The digest of an image's content: its tree and its configuration. Differs exactly when one of
    /// these does, so that what was made on top of an image can be kept by it.
    ///
    /// Costs the reading of a small file; for a tree made by hand a look at every file's state, and the
    /// reading of them all when something changed.
    pub fn id(&self, name: &str) -> Result<Digest, ImageError> {
        match self.locate(name)? {
            (_, Found::Stored(reference)) => Ok(reference.digest),
            (place, Found::ByHand) => Ok(by_hand(place, name)?.digest),
        }
    }

    /// How commands are to be run in an image: nothing special in one made by hand.
    pub fn config(&self, name: &str) -> Result<ImageConfig, ImageError> {
        let (place, found) = self.locate(name)?;
        Ok(match found {
            Found::Stored(reference) => {
                let record = place.tree_record(&reference.digest);
                record.ok_or_else(|| self.unknown(name))?.config
            }
            Found::ByHand => ImageConfig::default(),
        })
    }

    /// Everything about every image, by name.
    pub fn describe(&self) -> Result<Vec<ImageInfo>, ImageError> {
        self.list().iter().map(|name| self.describe_one(name)).collect()
    }

    fn describe_one(&self, name: &str) -> Result<ImageInfo, ImageError> {
        let (place, found) = self.locate(name)?;
        let in_use = |rootfs: &Path| -> Result<usize, ImageError> {
            let _lock = place.lock()?;
            let held = holders::held(place);
            Ok(inode_of(rootfs).and_then(|inode| held.get(&inode).copied()).unwrap_or(0))
        };
        let name = name.to_owned();
        Ok(match found {
            Found::Stored(Reference { digest, source, created, .. }) => {
                let record = place.tree_record(&digest).ok_or_else(|| self.unknown(&name))?;
                let in_use = in_use(&place.of_tree(&digest).join("rootfs"))?;
                ImageInfo { name, digest, size: record.size, created: Some(created), source, in_use }
            }
            Found::ByHand => {
                let HandRecord { digest, size, .. } = by_hand(place, &name)?;
                let in_use = in_use(&place.of_name(&name).join("rootfs"))?;
                let source = "made by hand".to_owned();
                ImageInfo { name, digest, size, created: None, source, in_use }
            }
        })
    }

    /// Takes a name away. Its tree goes when no other name refers to it and no sandbox stands on it:
    /// at once, or by the next command that changes images after that.
    pub fn remove(&self, name: &str) -> Result<Removed, ImageError> {
        check_root()?;
        let (place, _) = self.locate(name)?;
        if place.path() != self.data.path() {
            return Err(ImageError::Elsewhere { name: name.to_owned(), place: place.path().to_owned() });
        }
        let in_use = {
            let _lock = place.lock()?;
            let rootfs = match place.find(name).ok_or_else(|| self.unknown(name))? {
                Found::Stored(reference) => place.of_tree(&reference.digest).join("rootfs"),
                Found::ByHand => place.of_name(name).join("rootfs"),
            };
            let held = holders::held(place);
            let in_use = inode_of(&rootfs).and_then(|inode| held.get(&inode).copied()).unwrap_or(0);
            move_aside(place, name)?;
            in_use
        };
        collect(place)?;
        Ok(Removed { in_use })
    }

    /// Gives a complete tree its place and its name; what the name stood for before is let go.
    pub(super) fn publish(
        &self,
        name: &str,
        stage: Stage,
        origin: Origin,
        replace: bool,
    ) -> Result<Digest, ImageError> {
        let place = &self.data;
        let rootfs = stage.rootfs();
        let tree = fs::File::open(&rootfs).about(&rootfs)?;
        let measured = summary(tree.as_fd(), &origin.config).about(&rootfs)?;
        let digest = measured.digest;
        let record = TreeRecord {
            digest,
            size: measured.size,
            created: Timestamp::now(),
            manifest: origin.manifest,
            config: origin.config,
        };
        record::write(&stage.path().join("image.json"), &record).about(stage.path())?;
        // A name must not outlive a loss of power that its tree did not.
        nix::unistd::syncfs(&tree).about(&rootfs)?;
        {
            let _lock = place.lock()?;
            if !replace && place.find(name).is_some() {
                return Err(ImageError::Exists(name.to_owned()));
            }
            let target = place.of_tree(&digest);
            if !target.exists() {
                let whole = tempfile::Builder::new().prefix(".new-").tempdir_in(place.path());
                let whole = whole.about(place.path())?;
                for part in ["rootfs", "image.json"] {
                    fs::rename(stage.path().join(part), whole.path().join(part)).about(whole.path())?;
                }
                fs::rename(whole.path(), &target).about(&target)?;
            }
            let Origin { source, recipe, .. } = Origin { config: ImageConfig::default(), ..origin };
            self.refer(name, &Reference { digest, source, created: Timestamp::now(), recipe })?;
        }
        drop(stage);
        collect(place)?;
        Ok(digest)
    }

    /// Makes a name stand for a tree; to be called under the lock.
    pub(super) fn refer(&self, name: &str, reference: &Reference) -> Result<(), ImageError> {
        let place = &self.data;
        if let Some(Found::ByHand) = place.find(name) {
            move_aside(place, name)?;
        }
        let folder = place.of_name(name);
        super::place::private_folder(&folder).about(&folder)?;
        record::write(&place.reference(name), reference).about(&folder)
    }

    fn places(&self) -> [&Place; 2] {
        [&self.data, &self.machine]
    }

    pub(super) fn locate(&self, name: &str) -> Result<(&Place, Found), ImageError> {
        check_name(name)?;
        for place in self.places() {
            if let Some(found) = place.find(name) {
                // Also says so when somebody else than root could have changed it, or a link is there.
                place.open(name)?;
                return Ok((place, found));
            }
        }
        Err(self.unknown(name))
    }

    fn unknown(&self, name: &str) -> ImageError {
        ImageError::Unknown { name: name.to_owned(), known: self.list() }
    }
}

/// Changes of images are root's: only root can keep the owners in a tree.
pub(super) fn check_root() -> Result<(), ImageError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(ImageError::NotRoot) }
}

/// Takes a name out of the way, to be collected.
fn move_aside(place: &Place, name: &str) -> Result<(), ImageError> {
    let old = tempfile::Builder::new().prefix(".old.").tempdir_in(place.path()).about(place.path())?.keep();
    fs::rename(place.of_name(name), old.join(name)).about(&place.of_name(name))
}

/// What a tree made by hand comes to, remembered for as long as nothing in it is touched.
fn by_hand(place: &Place, name: &str) -> Result<HandRecord, ImageError> {
    let (rootfs, memory) = (place.of_name(name).join("rootfs"), place.of_name(name).join(".summary.json"));
    let tree = fs::File::open(&rootfs).about(&rootfs)?;
    let fingerprint = fingerprint(tree.as_fd()).about(&rootfs)?;
    if let Some(record) = record::read::<HandRecord>(&memory).filter(|old| old.fingerprint == fingerprint) {
        return Ok(record);
    }
    let summary = summary(tree.as_fd(), &ImageConfig::default()).about(&rootfs)?;
    let record = HandRecord { fingerprint, digest: summary.digest, size: summary.size };
    // Where it cannot be kept, it is only worked out again.
    let _ = record::write(&memory, &record);
    Ok(record)
}
