//! Images: root file systems that sandboxes stand on.
//!
//! ```text
//!   <data>/images/<name>/rootfs                  looked at first
//!   /var/lib/patchyard/images/<name>/rootfs      shared by the machine
//!
//!   import: .new-<name>-<pid>/rootfs ── complete ── rename ──▶ <name>/rootfs
//! ```
//!
//! A tree keeps its ids from 0, and devices and setuid bits as they came; that is why only root may
//! enter the folder, and why a sandbox mounts it with its ids shifted, `nodev` and `nosuid`.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::sandbox_host::ImageInfo;

use crate::mounts;

/// The images of the machine.
const MACHINE: &str = "/var/lib/patchyard/images";

/// The longest name.
const MAX_NAME: usize = 64;

/// Why an image cannot be had or made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a name.
    #[error(
        "`{0}` is no name for an image: up to {MAX_NAME} of a-z, 0-9, `.`, `_`, `-`, not beginning with `.`"
    )]
    Name(String),
    /// There is no such image.
    #[error("there is no image `{name}`; known are: {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    Unknown {
        /// As asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Somebody else than root could have changed it.
    #[error("the image `{0}` is not owned by root and is not used; import it again")]
    NotRoots(String),
    /// There is one already.
    #[error("there is an image `{0}` already; choose another name or remove it first")]
    Exists(String),
    /// It does not hold a system.
    #[error("{} does not look like a root file system: it has no `usr` or `bin`", .0.display())]
    NoSystem(PathBuf),
    /// `tar` or `cp` refused.
    #[error("{program} could not read {}: {words}", .path.display())]
    Unpack {
        /// Which program.
        program: &'static str,
        /// What it was given.
        path: PathBuf,
        /// What it said.
        words: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The images that one data directory can use.
#[derive(Debug, Clone)]
pub struct Images {
    data: PathBuf,
    machine: PathBuf,
}

impl Images {
    /// Those of a data directory, and those of the machine.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { data: data_dir.join("images"), machine: MACHINE.into() }
    }

    /// All names, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for place in [&self.data, &self.machine] {
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if is_name(&name) && entry.path().join("rootfs").is_dir() {
                    names.insert(name);
                }
            }
        }
        names.into_iter().collect()
    }

    /// A word that changes exactly when the content of an image does: names are given again, and trees
    /// are never written after they were made.
    pub fn id(&self, name: &str) -> Result<String, ImageError> {
        let tree = self.open(name)?;
        let failed = |source| ImageError::Io { path: self.data.join(name), source };
        let metadata = fs::metadata(mounts::path_of(&tree)).map_err(failed)?;
        let changed = metadata.ctime().unsigned_abs() * 1_000_000_000 + metadata.ctime_nsec().unsigned_abs();
        Ok(format!("{:x}-{:x}-{changed:x}", metadata.dev(), metadata.ino()))
    }

    /// All images with their ids.
    #[must_use]
    pub fn infos(&self) -> Vec<ImageInfo> {
        let names = self.list().into_iter();
        names.filter_map(|name| Some(ImageInfo { id: self.id(&name).ok()?, name })).collect()
    }

    /// Opens the tree of an image.
    pub(crate) fn open(&self, name: &str) -> Result<OwnedFd, ImageError> {
        check_name(name)?;
        for place in [&self.data, &self.machine] {
            let path = place.join(name);
            let failed = |source| ImageError::Io { path: path.clone(), source };
            let Some(Ok(above)) = place.parent().map(mounts::open_path) else { continue };
            // Without following a link: a tree elsewhere on the host is no image.
            let folder = match mounts::open_beneath(above.as_fd(), &format!("images/{name}")) {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            if fs::metadata(mounts::path_of(&folder)).map_err(failed)?.uid() != 0 {
                return Err(ImageError::NotRoots(name.to_owned()));
            }
            return mounts::open_beneath(folder.as_fd(), "rootfs").map_err(failed);
        }
        Err(ImageError::Unknown { name: name.to_owned(), known: self.list() })
    }

    /// Takes in a directory, or a tar file: plain, or packed with gzip, zstd, xz or bzip2. To be called
    /// as root, because owners are kept. An image that is only half there is never seen.
    pub fn import(&self, name: &str, source: &Path) -> Result<(), ImageError> {
        check_name(name)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ImageError::Io { path, source }
        };
        let target = self.data.join(name);
        if target.exists() {
            return Err(ImageError::Exists(name.to_owned()));
        }
        let source_kind = fs::metadata(source).map_err(failed(source))?;
        if !self.data.exists() {
            private_folder(&self.data).map_err(failed(&self.data))?;
        }
        let new = self.data.join(format!(".new-{name}-{}", std::process::id()));
        private_folder(&new).map_err(failed(&new))?;
        let rootfs = new.join("rootfs");
        let outcome = fs::create_dir(&rootfs).map_err(failed(&rootfs)).and_then(|()| {
            if source_kind.is_dir() {
                copy(source, &rootfs)?;
            } else {
                unpack(source, &rootfs)?;
            }
            if !["usr", "bin"].iter().any(|name| fs::symlink_metadata(rootfs.join(name)).is_ok()) {
                return Err(ImageError::NoSystem(source.to_owned()));
            }
            fs::rename(&new, &target).map_err(failed(&target))
        });
        if outcome.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        outcome
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn copy(source: &Path, rootfs: &Path) -> Result<(), ImageError> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto", "--"]).arg(source.join(".")).arg(rootfs);
    say("cp", command, source)
}

fn unpack(source: &Path, rootfs: &Path) -> Result<(), ImageError> {
    let mut head = [0; 6];
    let read = File::open(source).and_then(|mut file| file.read(&mut head));
    let read = read.map_err(|error| ImageError::Io { path: source.to_owned(), source: error })?;
    let mut command = Command::new("tar");
    // By content, because names lie.
    match &head[..read] {
        [0x1f, 0x8b, ..] => command.arg("--gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => command.arg("--zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => command.arg("--xz"),
        [b'B', b'Z', b'h', ..] => command.arg("--bzip2"),
        _ => &mut command,
    };
    command.args(["--numeric-owner", "--preserve-permissions", "--same-owner", "--extract"]);
    command.arg("--directory").arg(rootfs).arg("--file").arg(source);
    say("tar", command, source)
}

fn say(program: &'static str, mut command: Command, path: &Path) -> Result<(), ImageError> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output();
    let output = output.map_err(|source| ImageError::Io { path: program.into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    Err(ImageError::Unpack { program, path: path.to_owned(), words: words.chars().take(300).collect() })
}

fn check_name(name: &str) -> Result<(), ImageError> {
    if is_name(name) { Ok(()) } else { Err(ImageError::Name(name.chars().take(MAX_NAME).collect())) }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(folder: &Path) -> Images {
        Images { data: folder.join("images"), machine: folder.join("machine/images") }
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        for name in ["", ".", "..", ".old", "a/b", "A", "a b", "é", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
        for name in ["slim", "python-3.12", "a_b", "0"] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn a_directory_and_a_packed_tar_become_images() {
        let folder = tempfile::tempdir().unwrap();
        let images = images(folder.path());
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("usr/bin")).unwrap();
        fs::write(tree.join("usr/bin/tool"), "x").unwrap();
        images.import("plain", &tree).unwrap();
        let tar = folder.path().join("no-name");
        let packed = Command::new("tar").arg("-czf").arg(&tar).arg("-C").arg(&tree).arg(".").status();
        assert!(packed.unwrap().success());
        images.import("packed", &tar).unwrap();
        assert_eq!(images.list(), ["packed", "plain"]);
        for name in ["plain", "packed"] {
            let file = folder.path().join("images").join(name).join("rootfs/usr/bin/tool");
            assert_eq!(fs::read_to_string(file).unwrap(), "x");
        }
        assert!(matches!(images.import("plain", &tree), Err(ImageError::Exists(_))));
    }

    #[test]
    fn what_is_no_system_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let images = images(folder.path());
        let junk = folder.path().join("junk");
        fs::write(&junk, "no tar").unwrap();
        assert!(matches!(images.import("junk", &junk), Err(ImageError::Unpack { .. })));
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).unwrap();
        assert!(matches!(images.import("empty", &empty), Err(ImageError::NoSystem(_))));
        assert_eq!(fs::read_dir(folder.path().join("images")).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_no_image() {
        let folder = tempfile::tempdir().unwrap();
        let images = images(folder.path());
        fs::create_dir_all(folder.path().join("images")).unwrap();
        fs::create_dir_all(folder.path().join("elsewhere/rootfs")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", folder.path().join("images/link")).unwrap();
        assert!(matches!(images.open("link"), Err(ImageError::Io { .. })));
        assert!(matches!(images.open("none"), Err(ImageError::Unknown { .. })));
    }
}
