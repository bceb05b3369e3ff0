//! Running a recipe's scripts in the tree that is being built.
//!
//! ```text
//!   thread: own mounts, pids, ipc, host name ─▶ tree + /proc /dev /run ─▶ it is the root, the host's is gone
//!     └─ /bin/sh -eu script: root without the rights to mount, to make devices, to reach the kernel
//! ```
//!
//! A script has the machine's network, and the settings of its package clients. It is trusted as a
//! package that one installs is: it cannot reach the machine's files, but no user namespace and no
//! system call filter is around it. All mounts end with the thread.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::SFlag;
use nix::unistd::{chdir, pivot_root};

use super::walk;
use crate::mounts::path_of;

/// Where a script finds the recipe's folder.
const RECIPE: &str = "/run/recipe";

/// The last words of a script that are kept for a message.
const TAIL: usize = 4096;

/// What a script keeps of root's rights: those over files and processes of its own tree.
const KEPT: &[libc::c_ulong] = &[
    0,  // chown
    1,  // dac_override
    3,  // fowner
    4,  // fsetid
    5,  // kill
    6,  // setgid
    7,  // setuid
    8,  // setpcap
    10, // net_bind_service
    18, // sys_chroot
    29, // audit_write
    31, // setfcap
];

/// Devices that programs count on.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Files of the machine's package clients, and the variable that names each inside.
const SETTINGS: &[(&str, &str)] = &[
    ("/etc/pip.conf", "PIP_CONFIG_FILE"),
    (".config/pip/pip.conf", "PIP_CONFIG_FILE"),
    (".npmrc", "NPM_CONFIG_USERCONFIG"),
];

/// The certificates that the machine trusts.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Variables by which clients with certificates of their own are told of them.
const TRUST: &[&str] =
    &["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// How a script ended, and its last words.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) tail: String,
}

/// Runs one script of the recipe in the tree; what it says goes to `output` as it comes.
pub(super) fn run(
    rootfs: &Path,
    recipe: &Path,
    script: &Path,
    variables: &BTreeMap<String, String>,
    output: &mut (dyn Write + Send),
) -> io::Result<Ended> {
    // Namespaces and the root belong to a thread, so it has to be one of its own.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("recipe".into());
        let thread = thread.spawn_scoped(scope, || {
            let mut command = Command::new("/bin/sh");
            command.arg("-eu").arg(Path::new(RECIPE).join(script)).current_dir("/").env_clear();
            command.envs(machine_variables()).envs(enter(rootfs, recipe)?).envs(variables);
            follow(command, output)
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of the step broke down")))
    })
}

/// Makes the tree the root of this thread; variables that name the settings put into it.
fn enter(rootfs: &Path, recipe: &Path) -> io::Result<Vec<(&'static str, String)>> {
    let all = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
    unshare(all | CloneFlags::CLONE_NEWUTS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    bind(rootfs, rootfs, false)?;
    let top = OwnedFd::from(File::open(rootfs)?);
    devices(&top)?;
    memory(&top, "run", "mode=0755")?;
    let folder = inside(&top, "run")?;
    let run = path_of(&folder);
    fs::create_dir(run.join("recipe"))?;
    bind(recipe, &run.join("recipe"), true)?;
    let mut settings = settings(&run)?;
    for file in ["etc/resolv.conf", CERTIFICATES] {
        let host = Path::new("/").join(file);
        // A link in the tree would lead somewhere else: then the step goes without.
        if let (true, Ok(target)) = (host.exists(), inside(&top, file)) {
            bind(&fs::canonicalize(host)?, &path_of(&target), true)?;
            if file == CERTIFICATES {
                settings.extend(TRUST.iter().map(|name| (*name, format!("/{CERTIFICATES}"))));
            }
        }
    }
    chdir(rootfs)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(settings)
}

/// Opens something of the tree as a mere place, following no link.
fn inside(top: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(top, path, how)?)
}

fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
        // By name again: the descriptor still names what is below the new mount.
        let named = fs::read_link(target).unwrap_or_else(|_| target.to_owned());
        mount(None::<&str>, &named, None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

fn memory(top: &OwnedFd, folder: &str, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), &path_of(&inside(top, folder)?), Some("tmpfs"), flags, Some(options))?)
}

fn devices(top: &OwnedFd) -> io::Result<()> {
    memory(top, "dev", "mode=0755,size=64k")?;
    let folder = inside(top, "dev")?;
    let dev = path_of(&folder);
    for name in DEVICES {
        File::create(dev.join(name))?;
        mount(
            Some(&Path::new("/dev").join(name)),
            &dev.join(name),
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(link))?;
    }
    fs::create_dir(dev.join("pts"))?;
    let options = Some("newinstance,ptmxmode=0666,mode=0620");
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), MsFlags::MS_NOSUID, options)?;
    fs::create_dir(dev.join("shm"))?;
    memory(&folder, "shm", "mode=1777")
}

/// Shows the settings of the machine's package clients, which may hold passwords: they are in no image.
fn settings(run: &Path) -> io::Result<Vec<(&'static str, String)>> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let mut named = Vec::new();
    fs::create_dir(run.join("settings"))?;
    for (file, variable) in SETTINGS {
        let source = home.join(file);
        let name = file.replace('/', "-");
        if source.is_file() {
            File::create(run.join("settings").join(&name))?;
            bind(&fs::canonicalize(source)?, &run.join("settings").join(&name), true)?;
            named.push((*variable, format!("/run/settings/{name}")));
        }
    }
    Ok(named)
}

/// Variables of the machine that package clients go by: proxies, mirrors and certificates.
fn machine_variables() -> Vec<(String, String)> {
    let is_passed = |name: &str| {
        let name = name.to_ascii_uppercase();
        name.ends_with("_PROXY")
            || ["PIP_", "UV_", "NPM_CONFIG_", "CARGO_REGISTRIES_", "GOPROXY", "GOSUMDB"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
    };
    // A path of the machine leads nowhere inside.
    let variables = std::env::vars().filter(|(name, value)| is_passed(name) && !value.starts_with('/'));
    let mut variables: Vec<_> = variables.collect();
    let own = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
    ];
    variables.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    variables
}

fn follow(mut command: Command, output: &mut (dyn Write + Send)) -> io::Result<Ended> {
    let (mut reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    // SAFETY: the function makes system calls on constant arguments only: it takes no lock and
    // allocates nothing, as has to be between fork and exec.
    unsafe { command.pre_exec(confine) };
    let mut child = command.spawn()?;
    // Our ends of the pipe, which would keep it open.
    drop(command);
    let mut tail = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        // Whether somebody reads it is nothing to the build.
        let _ = output.write_all(&buffer[..read]);
        tail.extend_from_slice(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    let status = child.wait()?;
    Ok(Ended { status, tail: String::from_utf8_lossy(&tail).into_owned() })
}

/// In the new process: its own `/proc`, in which the kernel's settings cannot be changed, and only the
/// rights that are kept.
fn confine() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(c"proc"), c"/proc", Some(c"proc"), flags, None::<&std::ffi::CStr>)?;
    for place in [c"/proc/sys", c"/proc/sysrq-trigger", c"/proc/irq", c"/proc/bus"] {
        let none = None::<&std::ffi::CStr>;
        match mount(Some(place), place, none, MsFlags::MS_BIND, none) {
            Ok(()) => {
                let flags = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(none, place, none, flags, none)?;
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    for capability in 0..64 {
        if KEPT.contains(&capability) {
            continue;
        }
        // SAFETY: a system call on numbers.
        let outcome = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if outcome != 0 {
            // Beyond the last one that this kernel knows.
            return match Errno::last() {
                Errno::EINVAL => Ok(()),
                errno => Err(errno.into()),
            };
        }
    }
    Ok(())
}

/// Whether nothing is mounted below a folder any more: what is emptied there is only the tree's.
pub(super) fn is_clear(folder: &Path) -> io::Result<bool> {
    let below = format!(" {}/", folder.display());
    Ok(!fs::read_to_string("/proc/self/mountinfo")?.contains(&below))
}

/// Empties a folder of the tree, if it is one; of files only, or with the folders in it.
pub(super) fn empty(rootfs: &Path, folder: &str, folders_too: bool) -> io::Result<()> {
    let top = OwnedFd::from(File::open(rootfs)?);
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let folder = match openat2(&top, folder, how) {
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => return Ok(()),
        folder => folder?,
    };
    if folders_too {
        return walk::names(folder.as_fd())?.iter().try_for_each(|name| walk::remove(folder.as_fd(), name));
    }
    walk::walk(folder.as_fd(), &mut |seen| match walk::kind(&seen.stat) {
        SFlag::S_IFDIR => Ok(()),
        _ => walk::remove(seen.parent, seen.name),
    })
}
