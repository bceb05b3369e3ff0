//! The outer half of a test: an account with ids that the rest of the machine does not see.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::inside::{DIR, PROGRAM};

/// Ids that one sandbox takes, and the one for trials.
pub const USUAL: u32 = 65_536;

/// What the ordinary user has.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// Ids in `/etc/subuid` and `/etc/subgid`; none: no lines.
    pub ids: u32,
    /// Whether it has an account at all.
    pub account: bool,
    /// A command that root runs before, in the mount namespace of the test alone.
    pub before: &'static str,
}

impl Given {
    pub fn ids(ids: u32) -> Self {
        Self { ids, account: true, before: ":" }
    }
}

/// Takes the test's mount namespace, its account files over the machine's, and becomes the user.
const BECOME: &str = r#"set -eu
for name in passwd group subuid subgid; do mount --bind "$ETC/$name" "/etc/$name"; done
eval "$BEFORE"
exec setpriv --reuid "$ID" --regid "$ID" --clear-groups --inh-caps=-all -- "$@""#;

/// A control group that is the user's, with the controllers that the machine has free, and nobody else in it.
/// Where the machine has several trees it is shown the one of version 2 alone.
pub const DELEGATED: &str = r#"
    tree=/sys/fs/cgroup; [ -f $tree/cgroup.procs ] || tree=$tree/unified
    top=$tree/py-rootless-$ID; mkdir $top
    for controller in memory pids cpu; do
        echo +$controller >$tree/cgroup.subtree_control 2>/dev/null || true
    done
    chown $ID $top $top/cgroup.procs $top/cgroup.subtree_control
    echo $$ >$top/cgroup.procs
    [ $tree = /sys/fs/cgroup ] || mount --rbind $tree /sys/fs/cgroup"#;

/// Whether the machine has a tree of version 2.
pub fn has_unified_groups() -> bool {
    ["", "unified/"].iter().any(|tree| Path::new("/sys/fs/cgroup").join(tree).join("cgroup.procs").exists())
}

/// An ordinary user of a test's own.
struct Account {
    dir: TempDir,
    id: u32,
    /// The first of its given ids.
    first: u32,
    given: Given,
}

impl Account {
    fn make(given: Given) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix("py-").tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let made = Self { dir, id: 47_110 + number, first: 710_000_000 + number * 1_000_000, given };
        made.fill();
        made
    }

    fn fill(&self) {
        let path = |name: &str| self.dir.path().join(name);
        for name in ["home", "tmp"] {
            fs::create_dir(path(name)).unwrap();
            chown(path(name), Some(self.id), Some(self.id)).unwrap();
        }
        // The folder of the build may be root's alone.
        another_name(Path::new(env!("CARGO_BIN_EXE_patchyard")), &path("patchyard"));
        another_name(&std::env::current_exe().unwrap(), &path("test"));
        another_name(packed(), &path("slim.tar"));
        fs::create_dir(path("etc")).unwrap();
        let (id, home) = (self.id, path("home"));
        let add = |name: &str, line: String, condition: bool| {
            let text = fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
            let line = if condition { line } else { String::new() };
            fs::write(path("etc").join(name), format!("{text}{line}")).unwrap();
        };
        add("passwd", format!("ordinary:x:{id}:{id}::{}:/bin/sh\n", home.display()), self.given.account);
        add("group", format!("ordinary:x:{id}:\n"), self.given.account);
        let ids = format!("ordinary:{}:{}\n", self.first, self.given.ids);
        add("subuid", ids.clone(), self.given.ids > 0);
        add("subgid", ids, self.given.ids > 0);
    }

    /// The host's processes of this user and of its ids.
    fn processes(&self) -> Vec<i32> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_ours = |uid: u32| uid == self.id || (self.first..self.first + self.given.ids).contains(&uid);
        numbers.filter(|pid| ids_of(*pid).into_iter().any(is_ours)).collect()
    }
}

/// Whose a process is, by what it cannot hide; nobody's when it has ended and is only not collected yet.
fn ids_of(pid: i32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    if status.contains("\nState:\tZ") {
        return Vec::new();
    }
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The group that [`DELEGATED`] makes.
fn groups_of(id: u32) -> Vec<PathBuf> {
    let trees = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    trees.iter().map(|tree| tree.join(format!("py-rootless-{id}"))).filter(|path| path.is_dir()).collect()
}

/// Removes a group with those below; the dead are in it for a moment still.
fn remove_group(group: &Path) {
    for below in fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_group(&below.path());
    }
    let until = Instant::now() + Duration::from_secs(10);
    while fs::remove_dir(group).is_err() && group.is_dir() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        for group in groups_of(self.id) {
            remove_group(&group);
        }
    }
}

/// Puts a big file where the user finds it; copied only where it has to be.
fn another_name(file: &Path, name: &Path) {
    if fs::hard_link(file, name).is_err() {
        fs::copy(file, name).unwrap();
    }
}

/// The image `slim` without compilers, as an archive; packed once for all tests of this build.
fn packed() -> &'static Path {
    static PACKED: OnceLock<PathBuf> = OnceLock::new();
    PACKED.get_or_init(|| {
        let tree = Path::new("/var/lib/patchyard/images/slim/rootfs");
        let about = fs::metadata(tree).expect("the image slim is missing; run scripts/setup");
        let name = format!("rootless-slim-{}-{}.tar", about.ino(), about.ctime());
        let archive = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if !archive.exists() {
            let new = archive.with_extension(format!("{}.new", std::process::id()));
            pack(tree, &new);
            fs::rename(new, &archive).unwrap();
        }
        archive
    })
}

fn pack(tree: &Path, archive: &Path) {
    let packed = Command::new("tar")
        .arg("-C")
        .arg(tree)
        .args(["--exclude=./usr/lib/gcc", "--exclude=./usr/include", "--exclude=./usr/share/perl"])
        .args(["--exclude=*.a", "--numeric-owner", "-cf"])
        .arg(archive)
        .arg(".")
        .status()
        .unwrap();
    assert!(packed.success(), "the image slim is missing; run scripts/setup");
}

/// Runs the inner half of a test as an ordinary user that has this, and looks whether anything is left.
pub fn as_ordinary_user(inner: &str, given: Given) {
    if !nix::unistd::geteuid().is_root() {
        return as_who_this_is(inner);
    }
    let account = Account::make(given);
    let dir = account.dir.path();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--", "sh", "-c", BECOME, "sh"])
        .arg(dir.join("test"))
        .args(["--exact", inner, "--ignored", "--nocapture"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("ETC", dir.join("etc"))
        .env("BEFORE", given.before)
        .env("ID", account.id.to_string())
        .env("HOME", dir.join("home"))
        .env("TMPDIR", dir.join("tmp"))
        .env(DIR, dir)
        .env(PROGRAM, dir.join("patchyard"))
        .current_dir(dir.join("home"))
        .stdin(Stdio::null());
    let ended = command.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let words = format!("{}{}", said(&ended.stdout), said(&ended.stderr));
    assert!(ended.status.success(), "{words}");
    assert!(words.contains("1 passed"), "the inner half did not run: {words}");
    nothing_is_left(&account);
}

/// What a sandbox is made of is gone: its processes, folders, ids and the runtime's state.
fn nothing_is_left(account: &Account) {
    // Who was killed last may need a moment.
    let until = Instant::now() + Duration::from_secs(10);
    while !account.processes().is_empty() {
        let lines = account.processes().into_iter().map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid} {}", String::from_utf8_lossy(&line))
        });
        assert!(Instant::now() < until, "processes are left: {:?}", lines.collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(20));
    }
    let given = account.first..account.first + account.given.ids;
    let state = account.dir.path().join("home/.local/state/patchyard");
    for folder in ["ids", "runtime/crun", "runtime/runsc"] {
        let names: Vec<_> = fs::read_dir(state.join(folder)).into_iter().flatten().flatten().collect();
        let names = names.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let left: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    let mut waiting = vec![account.dir.path().join("tmp"), account.dir.path().join("home")];
    while let Some(path) = waiting.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let is_image = path.components().any(|part| part.as_os_str() == "images");
        assert!(is_image || !given.contains(&about.uid()), "{} is left, owned by a sandbox", path.display());
        if about.is_dir() && !is_image {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// Where the runner is an ordinary user it is the one, if it can be.
fn as_who_this_is(inner: &str) {
    eprintln!(
        "SKIPPED: {inner} needs an account of its own, which only root can make; run this test as root"
    );
}
