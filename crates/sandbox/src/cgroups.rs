//! Control groups: which limits hold here, and taking a sandbox's groups away.
//!
//! ```text
//!   /sys/fs/cgroup                    one tree (version 2)
//!   /sys/fs/cgroup/<controller>       one tree each (version 1)
//!              └── /patchyard/<sandbox>    made by the runtime, removed by us
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::sandbox_host::LimitReport;

/// The group under which all groups of sandboxes are.
pub(crate) const PARENT: &str = "/patchyard";

/// Where the trees are.
const TREES: &str = "/sys/fs/cgroup";

/// How long the kernel may take to empty the group of a dead sandbox.
const EMPTY: Duration = Duration::from_secs(5);

/// The roots of all trees.
fn trees() -> BTreeSet<PathBuf> {
    if is_unified() {
        return BTreeSet::from([PathBuf::from(TREES)]);
    }
    let entries = fs::read_dir(TREES).into_iter().flatten().flatten();
    // Links such as `cpu` to `cpu,cpuacct` name a tree twice.
    entries.filter_map(|entry| fs::canonicalize(entry.path()).ok()).filter(|path| path.is_dir()).collect()
}

/// Whether there is one tree, version 2.
pub(crate) fn is_unified() -> bool {
    Path::new(TREES).join("cgroup.controllers").exists()
}

/// Whether an ordinary user may make groups: in every tree, because runtimes want all or none.
pub(crate) fn are_delegated() -> bool {
    let parent = PARENT.trim_start_matches('/');
    let unique = format!("try-{}", std::process::id());
    let trees = trees();
    !trees.is_empty()
        && trees.iter().all(|tree| {
            let group = tree.join(parent).join(&unique);
            fs::create_dir(&group).and_then(|()| fs::remove_dir(&group)).is_ok()
        })
}

/// Kills what is left in a group, in every tree, and removes it.
pub(crate) fn remove(group: &str) -> io::Result<()> {
    for tree in trees() {
        let path = tree.join(group.trim_start_matches('/'));
        let until = Instant::now() + EMPTY;
        while let Err(error) = remove_tree(&path) {
            if Instant::now() > until {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
            kill_all(&path);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// Removes the parent group where nothing is left in it.
pub(crate) fn remove_parent() {
    for tree in trees() {
        let _ = fs::remove_dir(tree.join(PARENT.trim_start_matches('/')));
    }
}

/// Removes a group with the groups below. Their files go with them.
fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn kill_all(path: &Path) {
    let members = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_all(&entry.path());
        }
    }
}

/// How one limit is set and read back.
struct Limit {
    name: &'static str,
    /// Tree, file and value of version 1.
    split: (&'static str, &'static str, &'static str),
    /// Controller, file and value of version 2.
    unified: (&'static str, &'static str, &'static str),
}

const LIMITS: &[Limit] = &[
    Limit {
        name: "memory",
        split: ("memory", "memory.limit_in_bytes", "67108864"),
        unified: ("memory", "memory.max", "67108864"),
    },
    Limit { name: "pids", split: ("pids", "pids.max", "50"), unified: ("pids", "pids.max", "50") },
    Limit {
        name: "cpu",
        split: ("cpu", "cpu.cfs_quota_us", "50000"),
        unified: ("cpu", "cpu.max", "50000 100000"),
    },
];

/// No limit holds, because no group can be made for sandboxes of this user.
pub(crate) fn not_delegated(user: u32) -> Vec<LimitReport> {
    let mend = if is_unified() {
        "start it where one is: systemd-run --user --scope -p Delegate=yes patchyard serve".to_owned()
    } else {
        format!("as root: for t in {TREES}/*/; do mkdir -p $t{PARENT} && chown {user} $t{PARENT}; done")
    };
    let note = format!(
        "a sandbox can use more than it is promised: no control group is delegated to this user; {mend}, or start \
         it as root"
    );
    let report = |limit: &Limit| LimitReport { name: limit.name.into(), enforced: false, note: note.clone() };
    LIMITS.iter().map(report).collect()
}

/// Makes a group, sets each limit, reads it back, and removes the group.
pub(crate) fn probe(unique: &str) -> Vec<LimitReport> {
    LIMITS
        .iter()
        .map(|limit| {
            let (enforced, note) = match try_limit(limit, unique) {
                Ok(note) => (true, note),
                Err(error) => (
                    false,
                    format!(
                        "{error}; a sandbox can use more than it is promised: enable the controller `{}`",
                        limit.name
                    ),
                ),
            };
            LimitReport { name: limit.name.to_owned(), enforced, note }
        })
        .collect()
}

fn try_limit(limit: &Limit, unique: &str) -> io::Result<String> {
    let whole = Path::new(TREES);
    let is_unified = is_unified();
    let (controller, file, value) = if is_unified { limit.unified } else { limit.split };
    let tree = if is_unified { whole.to_owned() } else { whole.join(controller) };
    let parent = tree.join(PARENT.trim_start_matches('/'));
    if !tree.is_dir() {
        return Err(io::Error::other(format!("there is no {}", tree.display())));
    }
    let group = parent.join(unique);
    fs::create_dir_all(&group)?;
    let outcome = (|| {
        if is_unified {
            for above in [&tree, &parent] {
                let switch = above.join("cgroup.subtree_control");
                // Already on is fine; a real refusal shows below as a missing file.
                let _ = fs::write(switch, format!("+{controller}"));
            }
        }
        fs::write(group.join(file), value).map_err(|error| named(&group.join(file), &error))?;
        let read = fs::read_to_string(group.join(file))?;
        if read.trim() == value {
            return Ok(format!("control groups version {}, {file}", if is_unified { 2 } else { 1 }));
        }
        Err(io::Error::other(format!("{file} was set to {value} and reads {}", read.trim())))
    })();
    fs::remove_dir(&group)?;
    outcome
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
