//! A disk as an ext4 file system in a sparse file.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::loop_device::{self, LoopDevice};
use crate::mounts::{self, Use};
use crate::process::{self, Outcome};

/// How long making a file system may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the file in a sandbox's folder and in a layer's.
pub(crate) const FILE: &str = "disk.img";

/// No journal: what is in it after a crash of the host is thrown away. Structures of the file system
/// that nobody has used yet are written when somebody does.
const FEATURES: [&str; 8] =
    ["-q", "-F", "-b4096", "-m0", "-O", "^has_journal,^resize_inode,^metadata_csum,uninit_bg", "-E", LAZY];
const LAZY: &str = "lazy_itable_init=1,nodiscard";

/// A disk that is mounted nowhere yet.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its tree.
    pub(crate) tree: OwnedFd,
    /// The loop device that shows it.
    pub(crate) device: i32,
}

/// Makes an image of this size with an empty file system.
pub(crate) fn make(path: &Path, bytes: u64) -> io::Result<Image> {
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let made = format(&file, bytes).and_then(|()| open(&file, Use::Write));
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made
}

/// Mounts an image that was made before, read-only.
pub(crate) fn reopen(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(&File::open(path)?, Use::Run)?.tree)
}

/// The tree of an image that is in use: the kernel finds the file system that is there already.
pub(super) fn again(device: i32) -> io::Result<OwnedFd> {
    mounts::file_system(c"ext4", &LoopDevice::path_of(device), Use::Write)
}

/// Waits until nobody writes to the image of this sandbox or layer any more; false when it takes too
/// long.
pub(crate) fn wait_until_free(device: i32, holder: &str, at_most: Duration) -> bool {
    let until = Instant::now() + at_most;
    // The kernel takes the last mount away after the last process is gone, and tells nobody.
    while !loop_device::is_free_of(device, &format!("{holder}/{FILE}")) {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

fn format(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    let program =
        ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].map(Path::new).into_iter().find(|path| path.exists());
    let program = program.ok_or_else(|| io::Error::other("mkfs.ext4 is missing; install it: e2fsprogs"))?;
    // By its descriptor: the program does not have ours, through which the path may lead.
    let arguments = FEATURES.into_iter().chain(["/proc/self/fd/3"]);
    let ended = process::run(program, arguments, Some(file.as_fd()), PATIENCE)?;
    if ended.outcome == Outcome::Success {
        return Ok(());
    }
    Err(io::Error::other(format!("mkfs.ext4 failed: {}", ended.said.trim())))
}

fn open(file: &File, how: Use) -> io::Result<Image> {
    let device = LoopDevice::attach(file.as_fd(), how != Use::Write)?;
    let tree = mounts::file_system(c"ext4", &LoopDevice::path_of(device.number()), how)?;
    Ok(Image { tree, device: device.number() })
}
