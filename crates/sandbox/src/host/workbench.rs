//! Where a sandbox is assembled.
//!
//! ```text
//!   <in memory>/<sandbox>/ ── root        the overlay, or the tree, that becomes `/`
//!                          ├─ disk        what the sandbox writes: upper, work
//!                          ├─ attachment  of that the folder for the guest's own socket
//!                          ├─ doors       of its folder outside, that for the sockets of its doors
//!                          ├─ lower/0…    what it stands on: layers, then the image
//!                          ├─ repository  the session repository, or an empty folder
//!                          └─ bundle      config.json, and what the runtime says
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::bundle::{BundleSpec, config};
use crate::mounts;

/// Mount points of one sandbox. Dropped, our mounts of it are gone; a container that started has its
/// own.
pub(crate) struct Workbench {
    path: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) disk: PathBuf,
    pub(crate) attachment: PathBuf,
    pub(crate) doors: PathBuf,
    pub(crate) repository: PathBuf,
    pub(crate) bundle: PathBuf,
    lower: PathBuf,
}

impl Workbench {
    /// The one at this path, which need not exist.
    pub(crate) fn at(path: PathBuf) -> Self {
        let [root, disk, attachment, doors, repository, bundle, lower] =
            ["root", "disk", "attachment", "doors", "repository", "bundle", "lower"]
                .map(|name| path.join(name));
        Self { path, root, disk, attachment, doors, repository, bundle, lower }
    }

    /// Makes the folders.
    pub(crate) fn make(path: PathBuf) -> io::Result<Self> {
        let bench = Self::at(path);
        passage(&bench.path)?;
        let Self { root, disk, attachment, doors, repository, bundle, lower, .. } = &bench;
        for path in [root, disk, attachment, doors, repository, bundle, lower] {
            passage(path)?;
        }
        Ok(bench)
    }

    /// A mount point for one of the trees that the sandbox stands on.
    pub(crate) fn lower(&self, index: usize) -> io::Result<PathBuf> {
        let path = self.lower.join(index.to_string());
        passage(&path)?;
        Ok(path)
    }

    /// Takes away the mounts that an overlay has its own hold on.
    pub(crate) fn let_go_of_layers(&self) {
        for path in self.lowers() {
            mounts::detach(&path);
        }
        mounts::detach(&self.disk);
    }

    /// Writes what the runtime reads.
    pub(crate) fn write_config(&self, spec: &BundleSpec) -> io::Result<()> {
        fs::write(self.bundle.join("config.json"), serde_json::to_vec(&config(spec))?)
    }

    fn lowers(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.lower).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }
}

/// A folder that shifted ids pass through on their way to what they may see.
fn passage(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o711))
}

impl Drop for Workbench {
    fn drop(&mut self) {
        let lowers = self.lowers();
        let own = [&self.root, &self.disk, &self.attachment, &self.doors, &self.repository];
        for mount in own.into_iter().chain(&lowers) {
            mounts::detach(mount);
            // Never with what is in it: should it still be mounted, that is the sandbox's or the image's.
            let _ = fs::remove_dir(mount);
        }
        let _ = fs::remove_dir(&self.lower);
        let _ = fs::remove_dir_all(&self.bundle);
        let _ = fs::remove_dir(&self.path);
    }
}
