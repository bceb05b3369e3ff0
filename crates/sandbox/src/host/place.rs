//! The folders that `sandbox-host` works in.
//!
//! ```text
//!   <data>/workspaces/<sandbox>/         its disk · state.json            root's
//!   <data>/layers/<layer>/               its disk · layer.json            root's
//!   <data>/run/sandboxes/<sandbox>.sock  what the guest answers on         the server's
//!   <data>/repos/<session>.git           read-only inside                  the server's
//!
//!   /run/patchyard/ids/                  ranges of ids of this machine; of a user in its home folder
//!   /run/patchyard/runtime/              the runtimes' own state; the same
//!   /run/patchyard/mnt/                  in memory, in our mount namespace only; of a user over /media or so
//!       ├── bin/                         the guest program
//!       ├── layers/                      where saved layers are mounted
//!       └── <sandbox>/                   mount points and bundle while it is started
//! ```
//!
//! The data directory may belong to the server's user, who is not trusted as root is. So our folders
//! in it are opened once, checked to be root's, and from then on named through the open descriptor.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::Uid;
use protocol::ids::{SandboxId, SessionId};

use super::config::{GuestProgram, HostConfig, HostError};
use super::rights::{Rights, User, given};
use crate::bundle::Group;
use crate::cgroups;
use crate::mounts;
use crate::runtime::Ground;
use crate::slots::Slots;

/// What belongs to the machine rather than to a data directory.
const MACHINE: &str = "/run/patchyard";

/// How long a dead predecessor's lock may outlive it: a child that it was just starting has it, too, until
/// it becomes another program.
const LET_GO: Duration = Duration::from_secs(3);

/// What the names of folders begin with that are a trial's and no sandbox's.
const TRIAL: &str = "try-";

/// The folders, opened.
#[derive(Debug)]
pub(crate) struct Place {
    /// The data directory's real path, for names that others read.
    data_path: PathBuf,
    data: OwnedFd,
    workspaces: OwnedFd,
    layers: OwnedFd,
    sockets: OwnedFd,
    /// The ranges of ids.
    pub(crate) slots: Slots,
    /// What the runtimes are given.
    pub(crate) runtimes: Ground,
    /// What we may do.
    pub(crate) rights: Rights,
    mounts: PathBuf,
    /// Whether there is a guest program.
    pub(crate) has_guest: bool,
    _only_one: Flock<File>,
}

impl Place {
    /// Makes and opens the folders. To be called as root, in our own mount namespace.
    pub(crate) fn open(config: &HostConfig) -> Result<Self, HostError> {
        let tried = |what: &str, path: &Path| {
            let what = format!("{what} {}", path.display());
            move |source| HostError::Io { what, source }
        };
        let data_path =
            fs::canonicalize(&config.data_dir).map_err(tried("find the data directory", &config.data_dir))?;
        let data = mounts::open_path(&data_path).map_err(tried("open", &data_path))?;
        let used = |path: &str| tried("use the folder", &data_path.join(path));
        let workspaces = own_folder(data.as_fd(), "workspaces", 0o700).map_err(used("workspaces"))?;
        let layers = own_folder(data.as_fd(), "layers", 0o700).map_err(used("layers"))?;
        let run = make_folder(data.as_fd(), "run", 0o711).map_err(used("run"))?;
        let sockets = own_folder(run.as_fd(), "sandboxes", 0o711).map_err(used("run/sandboxes"))?;
        let lock = mounts::path_of(&workspaces).join(".lock");
        let lock = File::options().create(true).append(true).open(lock).map_err(tried("lock", &data_path))?;
        let only_one = lock_soon(lock).map_err(|_| HostError::Busy(data_path.clone()))?;

        let Ours { ids, runtimes, mounts } = match &config.rights {
            Rights::User(user) => Ours::of_user(user, &data_path),
            Rights::Root | Rights::Missing(_) => Ours::of_machine(),
        }
        .map_err(tried("make the folders in", Path::new(MACHINE)))?;
        mounts::memory(&mounts).map_err(tried("mount a file system in memory at", &mounts))?;
        let bin = mounts.join("bin");
        for (name, mode) in [("layers", 0o700), ("empty", 0o711)] {
            let path = mounts.join(name);
            make_folder_at(&path, mode).map_err(tried("make", &path))?;
        }
        let has_guest = install_guest(&config.guest, &bin).map_err(tried("install the guest in", &bin))?;
        let slots = match &config.rights {
            Rights::User(user) => {
                given().and_then(|places| Slots::of_user(ids.clone(), places, user.more.clone()))
            }
            Rights::Root | Rights::Missing(_) => Slots::open(ids.clone()),
        };
        let slots = slots.map_err(tried("read", &ids))?;
        let groups = match &config.rights {
            Rights::User(_) => cgroups::delegated(),
            Rights::Root | Rights::Missing(_) => Some(Group::whole(cgroups::PARENT.to_owned())),
        };
        Ok(Self {
            data_path,
            data,
            workspaces,
            layers,
            sockets,
            slots,
            runtimes: Ground { state: runtimes, groups },
            rights: config.rights.clone(),
            mounts,
            has_guest,
            _only_one: only_one,
        })
    }

    /// The sandboxes that have a folder.
    pub(crate) fn sandboxes(&self) -> Vec<SandboxId> {
        let entries = fs::read_dir(mounts::path_of(&self.workspaces)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Makes a folder for what is tried under this name. It can hold ids, and tells a successor what was
    /// being tried should this process be killed meanwhile.
    pub(crate) fn begin_trial(&self, name: &str) -> io::Result<PathBuf> {
        make_folder(self.workspaces.as_fd(), &format!("{TRIAL}{name}"), 0o700)?;
        Ok(self.data_path.join("workspaces").join(format!("{TRIAL}{name}")))
    }

    /// Removes it.
    pub(crate) fn end_trial(&self, name: &str) {
        let _ = fs::remove_dir(mounts::path_of(&self.workspaces).join(format!("{TRIAL}{name}")));
    }

    /// The names of what was being tried and is not ended: by us, or by a killed predecessor.
    pub(crate) fn trials(&self) -> Vec<String> {
        let entries = fs::read_dir(mounts::path_of(&self.workspaces)).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(TRIAL)?.to_owned()))
            .collect()
    }

    /// The folder of the saved layers, for our own use.
    pub(crate) fn layers(&self) -> PathBuf {
        mounts::path_of(&self.layers)
    }

    /// The folder of disks that wait for a sandbox: on the file system of those in use.
    pub(crate) fn spare_disks(&self) -> PathBuf {
        mounts::path_of(&self.workspaces)
    }

    /// A sandbox's folder, for our own use.
    pub(crate) fn home(&self, sandbox: SandboxId) -> PathBuf {
        mounts::path_of(&self.workspaces).join(sandbox.to_string())
    }

    /// A sandbox's folder by a name that means the same to every process.
    pub(crate) fn home_name(&self, sandbox: SandboxId) -> PathBuf {
        self.data_path.join("workspaces").join(sandbox.to_string())
    }

    /// A sandbox's socket, for our own use.
    pub(crate) fn socket(&self, sandbox: SandboxId) -> PathBuf {
        mounts::path_of(&self.sockets).join(format!("{sandbox}.sock"))
    }

    /// A sandbox's socket as the opened folder and the name in it.
    pub(crate) fn socket_at(&self, sandbox: SandboxId) -> (BorrowedFd<'_>, String) {
        (self.sockets.as_fd(), format!("{sandbox}.sock"))
    }

    /// A sandbox's socket by the name that the server uses.
    pub(crate) fn socket_name(&self, sandbox: SandboxId) -> PathBuf {
        self.data_path.join("run/sandboxes").join(format!("{sandbox}.sock"))
    }

    /// Where a sandbox is assembled.
    pub(crate) fn workbench(&self, name: &str) -> PathBuf {
        self.mounts.join(name)
    }

    /// A folder that stays empty and stays there: what a waiting sandbox has in place of a repository.
    /// A folder that was removed could not be mounted over.
    pub(crate) fn empty(&self) -> PathBuf {
        self.mounts.join("empty")
    }

    /// The folder with the guest program.
    pub(crate) fn guest_bin(&self) -> PathBuf {
        self.mounts.join("bin")
    }

    /// Opens a session's repository, which has to be the server's own folder and no link.
    pub(crate) fn repository(&self, session: SessionId, owner: u32) -> io::Result<OwnedFd> {
        let folder = mounts::open_beneath(self.data.as_fd(), &format!("repos/{session}.git"))?;
        if fs::metadata(mounts::path_of(&folder))?.uid() == owner {
            return Ok(folder);
        }
        Err(io::Error::other("it does not belong to the server's user"))
    }
}

/// The folders that do not belong to a data directory.
struct Ours {
    ids: PathBuf,
    runtimes: PathBuf,
    mounts: PathBuf,
}

impl Ours {
    fn of_machine() -> io::Result<Self> {
        let machine = Path::new(MACHINE);
        let [ids, runtimes, mounts] = ["ids", "runtime", "mnt"].map(|name| machine.join(name));
        for (path, mode) in [(machine, 0o711), (&ids, 0o700), (&runtimes, 0o700), (&mounts, 0o711)] {
            make_folder_at(path, mode)?;
        }
        Ok(Self { ids, runtimes, mounts })
    }

    fn of_user(user: &User, data: &Path) -> io::Result<Self> {
        let [ids, runtimes] = ["ids", "runtime"].map(|name| user.state.join(name));
        for path in [&ids, &runtimes] {
            make_folder_at(path, 0o700)?;
        }
        // Shifted ids have to pass through it, who may not enter a user's own folders. In our mount
        // namespace any folder will do that nothing of ours is in.
        let is_used = |path: &Path| data.starts_with(path) || user.state.starts_with(path);
        let mounts = COVERED.iter().map(Path::new).find(|path| path.is_dir() && !is_used(path));
        let none = || io::Error::other(format!("there is none of the folders {}", COVERED.join(", ")));
        Ok(Self { ids, runtimes, mounts: mounts.ok_or_else(none)?.to_owned() })
    }
}

/// Folders that every system has and that hold nothing which `sandbox-host` needs.
const COVERED: [&str; 3] = ["/media", "/srv", "/mnt"];

/// Makes a folder in an opened one, unless it is there, and opens it. A link at its name is an error.
fn make_folder(parent: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
    let mode = Mode::from_bits_truncate(mode);
    let is_new = match mkdirat(parent, name, mode) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let folder = mounts::open_beneath(parent, name)?;
    // The mode that was asked for, whatever the mask is. Only of what is ours: the parent's owner may
    // have put something else at the name meanwhile.
    if is_new && fstat(&folder)?.st_uid == Uid::effective().as_raw() {
        fchmod(&folder, mode)?;
    }
    Ok(folder)
}

/// Makes a folder at a path that only root can change.
fn make_folder_at(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let parent = mounts::open_path(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().and_then(OsStr::to_str);
    make_folder(parent.as_fd(), name.ok_or_else(|| io::Error::other("a folder needs a name"))?, mode)
}

/// Makes and opens a folder that nobody but root can have made.
fn own_folder(parent: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
    let folder = make_folder(parent, name, mode)?;
    if fstat(&folder)?.st_uid == 0 {
        return Ok(folder);
    }
    Err(io::Error::other("it does not belong to root; remove it"))
}

/// Puts the guest program where sandboxes find it; false when there is none.
fn install_guest(program: &GuestProgram, bin: &Path) -> io::Result<bool> {
    let from_file;
    let bytes = match program {
        GuestProgram::Embedded => crate::guest_binary(),
        GuestProgram::File(path) => {
            from_file = fs::read(path)?;
            Some(from_file.as_slice())
        }
    };
    let Some(bytes) = bytes else { return Ok(false) };
    make_folder_at(bin, 0o755)?;
    let path = bin.join("patchyard-guest");
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555))?;
    symlink("patchyard-guest", bin.join("check-tools"))?;
    Ok(true)
}

/// Locks a file that another one should not hold for long.
fn lock_soon(mut file: File) -> Result<Flock<File>, Errno> {
    let until = Instant::now() + LET_GO;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, error)) if Instant::now() >= until => return Err(error),
            Err((same, _)) => file = same,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_with_its_mode_and_a_link_at_its_name_is_an_error() {
        let data = tempfile::tempdir().unwrap();
        let opened = mounts::open_path(data.path()).unwrap();
        let mode = |name: &str| fs::metadata(data.path().join(name)).unwrap().mode() & 0o7777;
        make_folder(opened.as_fd(), "new", 0o777).unwrap();
        assert_eq!(mode("new"), 0o777, "whatever the mask is");
        make_folder(opened.as_fd(), "new", 0o711).unwrap();
        assert_eq!(mode("new"), 0o777, "what is there stays as it is");
        for (link, target) in [("run", "new"), ("hanging", "nowhere")] {
            symlink(target, data.path().join(link)).unwrap();
            let error = make_folder(opened.as_fd(), link, 0o700).unwrap_err();
            assert!(error.to_string().contains("is a link"), "{error}");
        }
        assert_eq!(mode("new"), 0o777);
        assert!(!data.path().join("nowhere").exists());
    }
}
