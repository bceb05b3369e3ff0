//! The ways to keep a disk, and to know one again.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{btrfs, image, project};
use crate::mounts;

/// The variable that names the one way to use.
const PINNED: &str = "PATCHYARD_DISK";

/// The folder of a disk that is not an image.
pub(super) const FOLDER: &str = "disk";

/// The folder for the socket of a guest that was given none: on the sandbox's own disk, where it can fill
/// nothing else.
pub(crate) const ATTACHMENT: &str = "attachment";

/// How a disk is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DiskKind {
    /// A btrfs subvolume with a quota group.
    Btrfs,
    /// A folder with a project quota.
    Project,
    /// An ext4 image on a loop device.
    Image,
    /// A folder without a limit.
    Folder,
}

/// What is written down of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskRecord {
    /// How it is kept.
    pub(crate) kind: DiskKind,
    /// The loop device of an image.
    pub(crate) device: Option<i32>,
}

/// A disk, ready to be mounted.
pub(crate) struct Disk {
    /// Its tree, with `upper` and `work`, mounted nowhere.
    pub(crate) tree: OwnedFd,
    /// What is written down of it.
    pub(crate) record: DiskRecord,
}

/// The size of the disk that is written over its end to see what happens.
const TRIAL: u64 = 8 * 1024 * 1024;

impl DiskKind {
    const ALL: [Self; 4] = [Self::Btrfs, Self::Project, Self::Image, Self::Folder];

    /// Its word in settings.
    fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Project => "project",
            Self::Image => "image",
            Self::Folder => "folder",
        }
    }

    /// Whether a disk of this kind ends where it should.
    pub(crate) fn is_limited(self) -> bool {
        self != Self::Folder
    }

    /// What limits it, for people.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Btrfs => "a btrfs subvolume with a quota group per sandbox",
            Self::Project => "a project quota per sandbox",
            Self::Image => "an ext4 image on a loop device per sandbox",
            Self::Folder => "nothing",
        }
    }

    /// The tree of a disk that a sandbox uses already.
    pub(crate) fn again(record: DiskRecord, home: &Path) -> io::Result<OwnedFd> {
        match record.device {
            Some(device) => image::again(device),
            None => mounts::tree(&home.join(FOLDER)),
        }
    }

    /// Makes a disk of this kind in a sandbox's folder. `number` is one that no other sandbox has.
    pub(crate) fn make(self, home: &Path, bytes: u64, number: u32) -> io::Result<Disk> {
        let folder = home.join(FOLDER);
        let (tree, device) = match self {
            Self::Image => {
                let made = image::make(&home.join(image::FILE), bytes)?;
                (made.tree, Some(made.device))
            }
            Self::Btrfs => (btrfs::make(&folder, bytes)?, None),
            Self::Project => (project::make(&folder, bytes, number)?, None),
            Self::Folder => {
                fs::create_dir(&folder)?;
                (mounts::tree(&folder)?, None)
            }
        };
        lay_out(&tree)?;
        Ok(Disk { tree, record: DiskRecord { kind: self, device } })
    }
}

/// Makes the two folders that an overlay needs, and the one for a guest's own socket. The owner and mode
/// of `upper` are those of `/` inside.
pub(super) fn lay_out(tree: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
    for name in ["upper", "work", ATTACHMENT, "upper/etc"] {
        let mode = Mode::from_bits_truncate(0o755);
        mkdirat(tree.as_fd(), name, mode)?;
        // Whatever the umask is.
        fchmodat(tree.as_fd(), name, mode, FchmodatFlags::FollowSymlink)?;
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    mounts::with_files_of_its_own(|| {
        let mut file = File::from(openat(tree.as_fd(), "upper/etc/resolv.conf", flags, Mode::empty())?);
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(NAME_SERVERS)
    })
}

/// Who answers for names in a sandbox: a listener on its own `lo`, where it has one.
const NAME_SERVERS: &[u8] = b"nameserver 127.0.0.1\n";

/// Finds the first kind that works in this folder, which has to be on the file system in question. The
/// note says why those before it do not.
pub(crate) fn find(folder: &Path) -> (DiskKind, String) {
    let pinned = std::env::var(PINNED).ok().filter(|name| !name.is_empty());
    let mut why_not = String::new();
    for kind in DiskKind::ALL {
        if pinned.as_deref().is_some_and(|name| name != kind.name()) {
            continue;
        }
        let home = folder.join(kind.name());
        let outcome = fs::create_dir(&home).and_then(|()| attempt(kind, &home));
        remove(&home);
        match outcome {
            Ok(()) => return (kind, why_not),
            Err(error) => {
                let _ =
                    write!(why_not, "{}{}: {error}", if why_not.is_empty() { "" } else { "; " }, kind.name());
            }
        }
    }
    (DiskKind::Folder, why_not)
}

/// Makes a small disk and writes over its end.
fn attempt(kind: DiskKind, home: &Path) -> io::Result<()> {
    // A project number that no sandbox can have.
    let disk = kind.make(home, TRIAL, project::TRIAL)?;
    if !kind.is_limited() {
        return Ok(());
    }
    let mut file = File::create(mounts::path_of(&disk.tree).join("upper/too-much"))?;
    let piece = vec![1; 1024 * 1024];
    for _ in 0..2 * TRIAL / piece.len() as u64 {
        // A limit that counts late shows when the data is on its way to the disk.
        match file.write_all(&piece).and_then(|()| file.sync_data()) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => return Ok(()),
            outcome => outcome?,
        }
    }
    Err(io::Error::other("a disk could be written over its end"))
}

/// What a disk of this kind is called in its folder.
pub(crate) fn name_of(kind: DiskKind) -> &'static str {
    if kind == DiskKind::Image { image::FILE } else { FOLDER }
}

/// Removes a sandbox's folder, or a layer's, with its disk.
pub(crate) fn remove(home: &Path) {
    btrfs::remove(&home.join(FOLDER));
    let _ = fs::remove_dir_all(home);
}
