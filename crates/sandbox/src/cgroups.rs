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

use crate::bundle::Group;

/// The group in which root's `sandbox-host` makes those of sandboxes.
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

/// The group that was delegated to an ordinary user, made ready for groups of sandboxes; `None` where there
/// is none.
///
/// ```text
///   <delegated>/               what we were started in, with nobody else
///      ├── patchyard-host/     us: a group with controllers for others holds no process itself
///      └── patchyard/<sandbox>
/// ```
///
/// Of version 1 none can be: there only root may put the processes of other ids into a group.
pub(crate) fn delegated() -> Option<Group> {
    if !is_unified() {
        return None;
    }
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let base = own.strip_suffix(OURS).unwrap_or(own).trim_end_matches('/');
    let folder = Path::new(TREES).join(base.trim_start_matches('/'));
    let (ours, parent) = (folder.join(OURS.trim_start_matches('/')), format!("{base}{PARENT}"));
    // Nobody else's processes are moved.
    if !members(&folder).ok()?.iter().all(|pid| is_family(*pid)) {
        return None;
    }
    let made = Path::new(TREES).join(parent.trim_start_matches('/'));
    for new in [&ours, &made] {
        match fs::create_dir(new) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
            _ => {}
        }
    }
    // Those that were made while others were moved are found the next time; one that is ending cannot be
    // moved, and needs a moment.
    let mut left = members(&folder).ok()?;
    for _ in 0..MOVES {
        for pid in &left {
            let _ = fs::write(ours.join("cgroup.procs"), pid.to_string());
        }
        left = members(&folder).ok()?;
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if !left.is_empty() {
        return None;
    }
    for controller in ["memory", "pids", "cpu"] {
        // What is not there shows in the probe.
        let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    // Nobody else makes groups here: what a killed predecessor left is used again.
    let reports = probe(&parent, "probe");
    let [memory, pids, cpu] = ["memory", "pids", "cpu"]
        .map(|name| reports.iter().any(|report| report.name == name && report.enforced));
    Some(Group { path: parent, memory, pids, cpu, devices: false })
}

/// The group of `sandbox-host` and those that it was started with.
const OURS: &str = "/patchyard-host";

/// How often the processes of a group are looked for and moved.
const MOVES: usize = 200;

/// The processes of a group, without those of groups below.
fn members(group: &Path) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Whether a process is the one that started this one, or descends from it. One that is gone is nobody's
/// concern.
fn is_family(pid: u32) -> bool {
    let head = std::os::unix::process::parent_id();
    let mut next = pid;
    while next > 1 && next != head {
        let Ok(status) = fs::read_to_string(format!("/proc/{next}/status")) else { return next == pid };
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        next = parent.and_then(|parent| parent.trim().parse().ok()).unwrap_or(0);
    }
    next == head
}

/// Whether a process is in this group, in the one tree.
pub(crate) fn holds(group: &str, pid: i32) -> bool {
    let of = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    of.lines().filter_map(|line| line.strip_prefix("0::")).any(|path| path.starts_with(group))
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

/// Removes the group of all groups where nothing is left in it.
pub(crate) fn remove_parent(parent: &str) {
    for tree in trees() {
        let _ = fs::remove_dir(tree.join(parent.trim_start_matches('/')));
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
pub(crate) fn not_delegated() -> Vec<LimitReport> {
    let mend = if is_unified() {
        "no control group is delegated to this user; start it where one is: systemd-run --user --scope -p \
         Delegate=yes patchyard serve"
    } else {
        "control groups of version 1 cannot be delegated to a user; start the machine with version 2 \
         (systemd.unified_cgroup_hierarchy=1)"
    };
    let note = format!("a sandbox can use more than it is promised: {mend}, or start it as root");
    let report = |limit: &Limit| LimitReport { name: limit.name.into(), enforced: false, note: note.clone() };
    LIMITS.iter().map(report).collect()
}

/// Makes a group of this name in the parent, sets each limit, reads it back, and removes the group.
pub(crate) fn probe(parent: &str, unique: &str) -> Vec<LimitReport> {
    LIMITS
        .iter()
        .map(|limit| {
            let (enforced, note) = match try_limit(limit, parent, unique) {
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

fn try_limit(limit: &Limit, parent: &str, unique: &str) -> io::Result<String> {
    let whole = Path::new(TREES);
    let is_unified = is_unified();
    let (controller, file, value) = if is_unified { limit.unified } else { limit.split };
    let tree = if is_unified { whole.to_owned() } else { whole.join(controller) };
    let parent = tree.join(parent.trim_start_matches('/'));
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
