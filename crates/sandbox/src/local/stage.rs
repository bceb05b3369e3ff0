//! The process that becomes bubblewrap: it puts the tree together and executes.
//!
//! ```text
//!   root:      own mount namespace ─▶ the tree, ids shifted ─▶ user namespace, id 0 is nobody outside ─┐
//!   a user:    own user and mount namespace ─▶ the tree ───────────────────────────────────────────────┴─▶ bwrap
//! ```
//!
//! Root's command is root of a range of ids that has no right on the host: what is the host's is
//! guarded by more than namespaces, `/proc/sys` above all. The files look as they do outside, because
//! the mounts shift them by as much.
//!
//! The network is made here, not by bubblewrap: its listeners have to be open before the command is.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::doors;
use super::plan::{HiddenPlace, Plan};
use super::tree::{Tree, memory, open, place};
use crate::userns::{Shift, with_shift};

/// The host's id of root in the local sandbox; apart from those of sessions and of users' ranges.
const FIRST_ID: u32 = 590_000_000;

/// Ids there.
const IDS: u32 = 65_536;

/// What root may still do inside, to its own files and processes.
const CAPABILITIES: &[&str] =
    &["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;

/// Everything that becomes of the process.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) plan: Plan,
    /// The folder of records; the tree is mounted on its `root`.
    pub(crate) folder: PathBuf,
    pub(crate) temporary: PathBuf,
    pub(crate) bwrap: PathBuf,
    pub(crate) shares_proc: bool,
    pub(crate) filter: Vec<u8>,
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// It gets the terminal on its input as its own.
    pub(crate) has_terminal: bool,
    /// Where the proxy waits for the listeners of the network.
    pub(crate) proxy: Option<UnixStream>,
}

/// Whether this is root of the machine, not of some user namespace.
pub(crate) fn is_root_of_machine() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    nix::unistd::geteuid().is_root() && whole
}

impl Stage {
    /// Puts the tree together and becomes bubblewrap; returns only with why that failed.
    pub(crate) fn run(mut self) -> String {
        match self.prepare() {
            Ok(mut command) => format!("{} could not be run: {}", self.bwrap.display(), command.exec()),
            Err(reason) => reason,
        }
    }

    fn prepare(&mut self) -> Result<Command, String> {
        let ids = if is_root_of_machine() {
            let shift = Shift { stored: 0, seen: FIRST_ID, count: IDS };
            let ids = with_shift(shift, shift).map_err(|error| format!("no user namespace: {error}"))?;
            unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("no mount namespace: {error}"))?;
            Some(ids)
        } else {
            own_namespaces().map_err(|error| {
                format!(
                    "no user namespace for an ordinary user: {error}; allow them (sysctl \
                     user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
                )
            })?;
            None
        };
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .map_err(|error| format!("mounts cannot be made private: {error}"))?;
        let root = self.tree(ids.as_ref().map(AsFd::as_fd))?;
        read_only_input(root.as_fd())?;
        let filter = self.filter_descriptor().map_err(|error| format!("the filter: {error}"))?;
        let ids_are_roots = ids.is_some();
        if let Some(ids) = ids {
            become_root_of(&ids).map_err(|error| format!("the user namespace cannot be entered: {error}"))?;
        }
        self.network(ids_are_roots)?;
        nix::unistd::chdir("/").map_err(|error| format!("/: {error}"))?;
        only_standard(filter.as_raw_fd());
        let command = self.bwrap_command(filter.as_raw_fd());
        // It has to outlive this function: bubblewrap reads it.
        std::mem::forget(filter);
        Ok(command)
    }

    /// Opens the listeners in a network of its own and hands them over. Nobody inside has a right on it:
    /// it belongs to a user namespace outside of the command's, or to one that the command is root of
    /// without the right to administer networks.
    fn network(&mut self, is_root: bool) -> Result<(), String> {
        if is_root {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("no network namespace: {error}"))?;
        }
        let Some(proxy) = self.proxy.take() else { return Ok(()) };
        doors::offer(&proxy).map_err(|error| format!("the network: {error}"))
    }

    /// Mounts the whole tree on `root`; gives back that place, opened.
    fn tree(&self, ids: Option<BorrowedFd<'_>>) -> Result<OwnedFd, String> {
        let said = |what: &Path| {
            let what = what.display().to_string();
            move |error: io::Error| format!("{what}: {error}")
        };
        let machine = crate::mounts::open_path(Path::new("/")).map_err(said(Path::new("/")))?;
        let base = self.folder.join("root");
        let at = |path: &Path| place(machine.as_fd(), path);
        let (attributes, points) = match self.plan.is_guarded {
            true => (READ_ONLY, mount_points()),
            false => (0, mount_points()),
        };
        let source = Source { machine: machine.as_fd(), ids, points: &points };
        // All that is writable is copied before anything is changed.
        let mut writable = Vec::new();
        if self.plan.is_guarded {
            for path in self.plan.writable.iter().chain([&self.temporary]) {
                writable.push((path, source.copies(path, NO_DEVICES).map_err(said(path))?));
            }
        }
        let target = at(&base).map_err(said(&base))?;
        let copies = source.copies(Path::new("/"), attributes).map_err(said(Path::new("/")))?;
        for (path, tree) in &copies {
            if path == Path::new("/") {
                tree.attach(target.as_fd()).map_err(said(&base))?;
            } else {
                // A mount that is itself covered by another has no place any more.
                let root = at(&base).map_err(said(&base))?;
                if let Ok(target) = place(root.as_fd(), path) {
                    tree.attach(target.as_fd()).map_err(said(path))?;
                }
            }
        }
        let root = at(&base).map_err(said(&base))?;
        if !self.plan.is_guarded {
            return Ok(root);
        }
        let inside = |path: &Path| place(root.as_fd(), path);
        for (path, trees) in &writable {
            for (path, tree) in trees {
                tree.attach(inside(path).map_err(said(path))?.as_fd()).map_err(said(path))?;
            }
            let _ = path;
        }
        let again = |paths: &BTreeSet<PathBuf>, attributes: u64| -> Result<(), String> {
            for path in paths {
                let target = inside(path).map_err(said(path))?;
                let tree = self.cover(machine.as_fd(), &target, path).map_err(said(path))?;
                tree.set(attributes | NO_DEVICES, None).map_err(said(path))?;
                tree.attach(target.as_fd()).map_err(said(path))?;
            }
            Ok(())
        };
        again(&self.plan.pinned, 0)?;
        again(&self.plan.read_only, READ_ONLY)?;
        for hidden in &self.plan.hidden {
            self.hide(machine.as_fd(), root.as_fd(), hidden).map_err(said(&hidden.path))?;
        }
        Ok(root)
    }

    /// What is mounted over a guarded path: itself, or for a link what it leads to, if that is a file.
    fn cover(&self, machine: BorrowedFd<'_>, target: &OwnedFd, path: &Path) -> io::Result<Tree> {
        if !is_link(target)? {
            return Tree::copy(target.as_fd(), true);
        }
        let source = match fs::canonicalize(path) {
            Ok(real) if real.is_file() => real,
            _ => self.folder.join("empty"),
        };
        Tree::copy(place(machine, &source)?.as_fd(), false)
    }

    fn hide(&self, machine: BorrowedFd<'_>, root: BorrowedFd<'_>, hidden: &HiddenPlace) -> io::Result<()> {
        let target = place(root, &hidden.path)?;
        let is_folder = nix::sys::stat::fstat(&target)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if !is_folder {
            // Without devices on its mount, the null device cannot even be opened.
            let source = if hidden.is_masked { self.folder.join("empty") } else { "/dev/null".into() };
            let tree = Tree::copy(place(machine, &source)?.as_fd(), false)?;
            tree.set(READ_ONLY | NO_DEVICES, None)?;
            return tree.attach(target.as_fd());
        }
        let mut reopened = Vec::new();
        for path in &hidden.reopened {
            reopened.push((path, Tree::copy(place(root, path)?.as_fd(), true)?));
        }
        let mode = if hidden.is_masked || !reopened.is_empty() { "mode=0555" } else { "mode=0000" };
        memory(&target, &format!("{mode},size=1m"))?;
        let covered = place(root, &hidden.path)?;
        for (path, tree) in reopened {
            let Ok(rest) = path.strip_prefix(&hidden.path) else { continue };
            let inner = crate::mounts::path_of(&covered).join(rest);
            if tree_is_folder(path) {
                fs::create_dir_all(&inner)?;
            } else {
                fs::create_dir_all(inner.parent().unwrap_or(&inner))?;
                File::create(&inner)?;
            }
            tree.attach(place(root, path)?.as_fd())?;
        }
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        Ok(mount(None::<&str>, &crate::mounts::path_of(&covered), None::<&str>, flags, None::<&str>)?)
    }

    fn filter_descriptor(&self) -> io::Result<OwnedFd> {
        use std::io::Write as _;
        let memory = nix::sys::memfd::memfd_create(c"filter", nix::sys::memfd::MFdFlags::empty())?;
        let mut file = File::from(memory);
        file.write_all(&self.filter)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file.into())
    }

    fn bwrap_command(&self, filter: i32) -> Command {
        let mut command = Command::new(&self.bwrap);
        command.args(["--unshare-pid", "--unshare-ipc", "--unshare-uts"]);
        command.args(["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--bind"]);
        command.arg(self.folder.join("root")).arg("/").args(["--dev", "/dev"]);
        if self.shares_proc {
            command.args(["--ro-bind", "/proc", "/proc"]);
        } else {
            command.args(["--proc", "/proc"]);
        }
        if nix::unistd::geteuid().is_root() {
            command.args(["--cap-drop", "ALL"]);
            CAPABILITIES.iter().for_each(|capability| {
                command.args(["--cap-add", capability]);
            });
        }
        command.arg("--chdir").arg(&self.plan.working);
        command.args(["--seccomp", &filter.to_string(), "--"]);
        if self.has_terminal {
            // Bubblewrap leaves its session without a terminal: the command takes it for its own.
            command.args(["setsid", "--ctty"]);
        }
        command.args(&self.command);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Where copies of mounts come from.
struct Source<'a> {
    machine: BorrowedFd<'a>,
    ids: Option<BorrowedFd<'a>>,
    points: &'a [PathBuf],
}

impl Source<'_> {
    /// Copies of what is mounted at this path and below, outermost first.
    fn copies(&self, path: &Path, attributes: u64) -> io::Result<Vec<(PathBuf, Tree)>> {
        let start = place(self.machine, path)?;
        let Some(ids) = self.ids else {
            let tree = Tree::copy(start.as_fd(), true)?;
            tree.set(attributes, None)?;
            return Ok(vec![(path.to_owned(), tree)]);
        };
        let first = Tree::copy(start.as_fd(), false)?;
        first.set(attributes, Some(ids)).map_err(|error| {
            io::Error::other(format!(
                "its file system cannot shift ids for root ({error}); run this as a user"
            ))
        })?;
        let mut copies = vec![(path.to_owned(), first)];
        for point in self.points.iter().filter(|point| *point != path && point.starts_with(path)) {
            // These are bubblewrap's own.
            if point.starts_with("/proc") || point.starts_with("/dev") {
                continue;
            }
            let Ok(place) = place(self.machine, point) else { continue };
            let Ok(tree) = Tree::copy(place.as_fd(), false) else { continue };
            // Without shifted ids nothing there is the command's: so not writable either.
            if tree.set(attributes, Some(ids)).is_err() {
                tree.set(READ_ONLY, None)?;
            }
            copies.push((point.clone(), tree));
        }
        Ok(copies)
    }
}

fn own_namespaces() -> io::Result<()> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

fn become_root_of(ids: &OwnedFd) -> io::Result<()> {
    setns(ids, CloneFlags::CLONE_NEWUSER)?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group)?;
    Ok(setresuid(user, user, user)?)
}

/// Where something is mounted, in the order of mounting, each once.
fn mount_points() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = Vec::new();
    for field in table.lines().filter_map(|line| line.split(' ').nth(4)) {
        let point = PathBuf::from(unescaped(field));
        if !points.contains(&point) {
            points.push(point);
        }
    }
    points.sort();
    points
}

/// The kernel writes blank, tab, newline and backslash as three octal digits.
fn unescaped(field: &str) -> OsString {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

fn is_link(place: &OwnedFd) -> io::Result<bool> {
    Ok(nix::sys::stat::fstat(place)?.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

fn tree_is_folder(path: &Path) -> bool {
    path.is_dir()
}

/// A file on the standard input could be opened once more for writing, by way of `/proc/self/fd/0` and
/// the mount that it was opened on. So it is opened anew, on the read-only tree.
fn read_only_input(root: BorrowedFd<'_>) -> Result<(), String> {
    let input = io::stdin();
    let about = nix::sys::stat::fstat(&input).map_err(|error| format!("the standard input: {error}"))?;
    let flags = fcntl(&input, FcntlArg::F_GETFL).map_err(|error| format!("the standard input: {error}"))?;
    let is_read_only = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE == OFlag::O_RDONLY;
    if about.st_mode & libc::S_IFMT != libc::S_IFREG || !is_read_only || about.st_nlink == 0 {
        return Ok(());
    }
    let again = fs::read_link("/proc/self/fd/0")
        .and_then(|path| open(root, &path, libc::O_RDONLY))
        .map(File::from)
        .and_then(|mut file| {
            let now = file.metadata()?;
            if (now.dev(), now.ino()) != (about.st_dev, about.st_ino) {
                return Err(io::Error::other("another file is in its place"));
            }
            let offset = nix::unistd::lseek(&input, 0, nix::unistd::Whence::SeekCur)?;
            file.seek(SeekFrom::Start(offset.cast_unsigned()))?;
            Ok(file)
        })
        .map_err(|error| {
            format!("the file on the standard input cannot be opened read-only ({error}); send it by a pipe")
        })?;
    nix::unistd::dup2_stdin(&again).map_err(|error| format!("the standard input: {error}"))
}

/// Nothing but the standard descriptors and the filter is passed on.
fn only_standard(filter: i32) {
    let close = |first: i32, last: libc::c_uint| {
        // SAFETY: a system call on integers; nothing is closed before the program is replaced.
        unsafe {
            libc::syscall(libc::SYS_close_range, first.cast_unsigned(), last, libc::CLOSE_RANGE_CLOEXEC)
        };
    };
    close(3, libc::c_uint::MAX);
    // SAFETY: the descriptor is open; the caller holds it.
    let filter = unsafe { BorrowedFd::borrow_raw(filter) };
    let _ = fcntl(filter, FcntlArg::F_SETFD(FdFlag::empty()));
}
