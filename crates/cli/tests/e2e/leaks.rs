//! What sandboxes and sessions that are gone have left on the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::harness::TestServer;

use crate::insist::PATIENCE;

/// Notes the name of every sandbox that a data directory ever has.
pub(crate) struct Watch {
    ids: Arc<Mutex<BTreeSet<String>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    pub(crate) fn over(data: PathBuf) -> Self {
        let watch = Self { ids: Arc::default(), over: Arc::default() };
        let (ids, over) = (Arc::clone(&watch.ids), Arc::clone(&watch.over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let names = names(&data.join("workspaces")).into_iter();
                ids.lock().unwrap().extend(names.filter(|name| name.starts_with("sbx_")));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        watch
    }

    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.ids.lock().unwrap().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Waits until nothing is there any more: what a killed process left is taken away by the next one, in
/// its own time.
pub(crate) async fn nothing_left(server: &TestServer, watch: &Watch, ended: Option<i32>) {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = left(&server.data(), &watch.ids(), ended);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left: {left:#?}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything anywhere on the host that is of these sandboxes, or of sessions that are gone; once the
/// server has ended, of its data directory at all, but for the empty disks that its last `sandbox-host`
/// had ready: files, which the next one takes away.
fn left(data: &Path, ids: &BTreeSet<String>, ended: Option<i32>) -> BTreeSet<String> {
    let own = data.display().to_string();
    let of_ours =
        |text: &str| ended.is_some() && text.contains(&own) || ids.iter().any(|id| text.contains(id));
    let mut left = BTreeSet::new();
    for folder in ["repos", "uploads", "tmp", "run/sandboxes"] {
        left.extend(names(&data.join(folder)).into_iter().map(|name| format!("{folder}/{name}")));
    }
    let mut workspaces = names(&data.join("workspaces"));
    match ended {
        None => workspaces.retain(|name| ids.contains(name)),
        Some(host) => {
            workspaces.retain(|name| name != ".lock" && !name.starts_with(&format!("spare-{host}-")))
        }
    }
    left.extend(workspaces);
    let mut open = vec![PathBuf::from("/run/patchyard")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_holder = path.starts_with("/run/patchyard/ids");
            let text = if is_holder { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
            if of_ours(&path.display().to_string()) || of_ours(&text) {
                left.insert(format!("{} {text}", path.display()));
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            }
        }
    }
    let trees = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|tree| tree.path());
    for group in trees.chain([PathBuf::from("/sys/fs/cgroup")]).map(|tree| tree.join("patchyard")) {
        let paths = names(&group).into_iter().map(|name| group.join(name).display().to_string());
        left.extend(paths.filter(|path| of_ours(path)));
    }
    // Processes and the mounts of every namespace that one is in.
    let mut namespaces = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let text = |file: &str| {
            String::from_utf8_lossy(&fs::read(process.join(file)).unwrap_or_default()).into_owned()
        };
        for file in ["cmdline", "cgroup"] {
            left.extend(of_ours(&text(file)).then(|| format!("{}: {}", process.display(), text(file))));
        }
        if fs::read_link(process.join("ns/mnt")).is_ok_and(|namespace| namespaces.insert(namespace)) {
            left.extend(text("mountinfo").lines().filter(|line| of_ours(line)).map(str::to_owned));
        }
    }
    let loops = Command::new("losetup").args(["--all", "--noheadings"]).output().unwrap();
    let loops = String::from_utf8_lossy(&loops.stdout).into_owned();
    left.extend(loops.lines().filter(|line| of_ours(line)).map(str::to_owned));
    left
}

/// Files below a folder that hold these bytes.
pub(crate) fn holding(folder: &Path, wanted: &str, except: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if except.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(holding(&path, wanted, &[]));
        } else if written(&path).is_ok_and(|bytes| contains(&bytes, wanted.as_bytes())) {
            found.push(path);
        }
    }
    found
}

/// What was ever written to a file; the disk of a sandbox is mostly a hole.
fn written(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Seek as _, SeekFrom};

    use nix::unistd::{Whence, lseek};
    let mut file = fs::File::open(path)?;
    let (mut bytes, mut from) = (Vec::new(), 0);
    while let Ok(start) = lseek(&file, from, Whence::SeekData) {
        let end = lseek(&file, start, Whence::SeekHole)?;
        file.seek(SeekFrom::Start(start.cast_unsigned()))?;
        (&mut file).take((end - start).cast_unsigned()).read_to_end(&mut bytes)?;
        from = end;
    }
    Ok(bytes)
}

pub(crate) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
