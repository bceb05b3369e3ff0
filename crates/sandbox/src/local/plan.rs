//! The policy, applied to this file system as it is now: which mounts the command gets.
//!
//! ```text
//!   everything read-only
//!     └─ writable   the working directory, allowWrite, TMPDIR
//!          └─ pinned     folders on the way to something protected: not to be renamed away
//!               └─ read-only  protected files, denyWrite; placeholders where there is nothing yet
//!                    └─ hidden    denyRead, masked credentials; with what allowRead opens again below
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use policy::local::{LocalPolicy, PathEntry, Scope, UnixSockets};

use super::error::LocalError;
use super::protected::{self, IN_CLAUDE, IN_GIT, Kind, NAMES};
use super::survey::{Survey, survey};

/// The most repositories below a folder that are guarded one by one.
const MAX_REPOSITORIES: usize = 40;

/// Something that the command does not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HiddenPlace {
    pub(crate) path: PathBuf,
    /// It is there and empty, rather than closed.
    pub(crate) is_masked: bool,
    /// What is seen below all the same.
    pub(crate) reopened: Vec<PathBuf>,
    scope: Scope,
}

/// Which mounts a command gets.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) working: PathBuf,
    /// False: the tree is the machine's own.
    pub(crate) is_guarded: bool,
    pub(crate) writable: Vec<PathBuf>,
    pub(crate) pinned: BTreeSet<PathBuf>,
    pub(crate) read_only: BTreeSet<PathBuf>,
    pub(crate) absent: Vec<(PathBuf, Kind)>,
    pub(crate) hidden: Vec<HiddenPlace>,
    pub(crate) remarks: Vec<String>,
}

impl Plan {
    /// Looks at the file system and decides. Changes nothing.
    pub(crate) fn make(policy: &LocalPolicy, working: &Path) -> Result<Self, LocalError> {
        let mut plan = Self { working: working.to_owned(), is_guarded: true, ..Self::default() };
        if policy.filesystem_disabled {
            plan.is_guarded = false;
            plan.remarks.push("sandbox.filesystem.disabled: files are not guarded".into());
            return Ok(plan);
        }
        if is_machine(working) {
            return Err(LocalError::Refused(format!(
                "{} would be writable as a whole; run this in a project's folder",
                working.display()
            )));
        }
        let seen = plan.look(policy);
        plan.writable.push(working.to_owned());
        for (entry, paths) in policy.allow_write.iter().zip(&seen.allow_write) {
            plan.allow(entry, paths);
        }
        plan.writable.sort();
        plan.writable.dedup();
        for root in plan.writable.clone() {
            plan.guard(&root, NAMES);
        }
        plan.guard_repositories(&seen.below);
        for (entry, paths) in policy.deny_write.iter().zip(&seen.deny_write) {
            plan.deny_write(entry, paths);
        }
        plan.pin();
        plan.hide(policy, &seen)?;
        Ok(plan)
    }

    /// All globs and paths of the policy as the paths that they mean, with one look per folder.
    fn look(&mut self, policy: &LocalPolicy) -> Seen {
        let lists = [
            &policy.allow_write,
            &policy.deny_write,
            &policy.deny_read,
            &policy.masked_files,
            &policy.allow_read,
        ];
        let entries: Vec<&PathEntry> = lists.iter().flat_map(|list| list.iter()).collect();
        let mut roots: Vec<&Path> = vec![&self.working];
        roots.extend(entries.iter().filter(|e| e.pattern.literal().is_none()).map(|e| e.pattern.root()));
        roots.sort_by_key(|root| *root != self.working);
        let mut looked: Vec<&Path> = Vec::new();
        let mut below = Survey::default();
        let mut meant: Vec<BTreeSet<PathBuf>> = vec![BTreeSet::new(); entries.len()];
        let mut remarks = Vec::new();
        for root in roots {
            if looked.contains(&root) {
                continue;
            }
            looked.push(root);
            let concerned: Vec<usize> = (0..entries.len())
                .filter(|index| {
                    let pattern = &entries[*index].pattern;
                    pattern.literal().is_none()
                        && (pattern.root() == root || root.starts_with(pattern.root()))
                })
                .collect();
            let globs: Vec<_> = concerned.iter().map(|index| entries[*index].pattern.matcher()).collect();
            let mut found = survey(root, &globs);
            if !found.is_complete {
                remarks.push(format!(
                    "{} holds more than is looked through: repositories and globs deep in it are not guarded",
                    root.display()
                ));
            }
            for (index, paths) in concerned.iter().zip(std::mem::take(&mut found.meant)) {
                meant[*index].extend(paths);
            }
            if root == self.working {
                below = found;
            }
        }
        for (entry, meant) in entries.iter().zip(&mut meant) {
            meant.extend(entry.pattern.literal().map(Path::to_owned));
        }
        self.remarks.append(&mut remarks);
        let mut meant = meant.into_iter();
        let mut take = |list: &Vec<PathEntry>| meant.by_ref().take(list.len()).collect();
        Seen {
            allow_write: take(&policy.allow_write),
            deny_write: take(&policy.deny_write),
            deny_read: take(&policy.deny_read),
            masked: take(&policy.masked_files),
            allow_read: take(&policy.allow_read),
            below,
        }
    }

    fn allow(&mut self, entry: &PathEntry, paths: &BTreeSet<PathBuf>) {
        for path in paths {
            match fs::canonicalize(path) {
                // A link may lead out of what a repository may open.
                Ok(real) if entry.scope.is_of_repository() && !real.starts_with(&self.working) => {
                    self.remarks.push(format!("{}: leads out of the repository; left out", entry.text));
                }
                Ok(real) if is_machine(&real) => {
                    self.remarks.push(format!("{}: would open the whole machine; left out", entry.text));
                }
                Ok(real) => self.writable.push(real),
                Err(_) => self.remarks.push(format!("{}: is not there, so it is not opened", entry.text)),
            }
        }
    }

    /// Guards the protected names in a folder.
    fn guard(&mut self, folder: &Path, names: &[(&str, Kind)]) {
        if !folder.is_dir() {
            return;
        }
        for (name, kind) in names {
            self.protect(&folder.join(name), *kind);
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| protected::kind(name).is_some()) {
                self.protect(&entry.path(), Kind::File);
            }
            for (special, inside) in [(".git", IN_GIT), (".claude", IN_CLAUDE)] {
                if name.eq_ignore_ascii_case(special) {
                    self.guard_inside(&entry.path(), inside);
                }
            }
        }
        for special in [".git", ".claude"] {
            if fs::symlink_metadata(folder.join(special)).is_err() {
                self.absent.push((folder.join(special), Kind::Folder));
            }
        }
        let is_git = folder.join("HEAD").exists() && folder.join("objects").exists();
        if is_git {
            self.guard_inside(folder, IN_GIT);
        }
        if folder.file_name().is_some_and(|name| name == ".claude") {
            self.guard_inside(folder, IN_CLAUDE);
        }
    }

    /// Guards the names in `.git` and `.claude`; one that is a link or a file is guarded itself.
    fn guard_inside(&mut self, folder: &Path, names: &[(&str, Kind)]) {
        let is_folder = fs::symlink_metadata(folder).is_ok_and(|about| about.is_dir());
        // An empty one may be the placeholder of another run.
        if !is_folder || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()) {
            self.protect(folder, Kind::Folder);
            return;
        }
        for (name, kind) in names {
            self.protect(&folder.join(name), *kind);
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if names.iter().any(|(known, _)| name.eq_ignore_ascii_case(known)) {
                self.protect(&entry.path(), Kind::File);
            }
        }
    }

    fn guard_repositories(&mut self, below: &Survey) {
        const NAMES_BELOW: &[(&str, Kind)] = &[
            (".mcp.json", Kind::File),
            (".gitmodules", Kind::File),
            (".vscode", Kind::Folder),
            (".idea", Kind::Folder),
        ];
        if below.repositories.len() > MAX_REPOSITORIES {
            self.remarks.push(format!(
                "there are {} repositories below; the first {MAX_REPOSITORIES} are guarded",
                below.repositories.len()
            ));
        }
        for repository in below.repositories.iter().take(MAX_REPOSITORIES) {
            self.guard(repository, NAMES_BELOW);
        }
        for claude in below.claude.iter().take(MAX_REPOSITORIES) {
            self.guard_inside(claude, IN_CLAUDE);
        }
    }

    /// One path that is not to be changed, made, removed or renamed.
    fn protect(&mut self, path: &Path, kind: Kind) {
        let Ok(about) = fs::symlink_metadata(path) else {
            self.absent.push((path.to_owned(), kind));
            return;
        };
        if about.is_file() && about.nlink() > 1 {
            self.remarks.push(format!(
                "{} has another name (a hard link), by which a command could change it",
                path.display()
            ));
        }
        if about.is_symlink()
            && let Ok(real) = fs::canonicalize(path)
            && self.is_writable(&real)
        {
            self.read_only.insert(real);
        }
        self.read_only.insert(path.to_owned());
    }

    fn is_writable(&self, path: &Path) -> bool {
        self.writable.iter().any(|root| path.starts_with(root))
    }

    fn deny_write(&mut self, entry: &PathEntry, paths: &BTreeSet<PathBuf>) {
        for path in paths {
            let (real, is_there) = resolved(path);
            if !self.is_writable(&real) {
                continue;
            }
            if is_there {
                self.protect(path, Kind::File);
                self.protect(&real, Kind::File);
            } else {
                self.absent.push((real.clone(), Kind::File));
                if real != *path {
                    self.remarks.push(format!("{}: kept from being made at {}", entry.text, real.display()));
                }
            }
        }
    }

    /// Folders between a writable one and something guarded, so that none is renamed away with it.
    fn pin(&mut self) {
        let guarded = self.read_only.iter().chain(self.absent.iter().map(|(path, _)| path));
        for path in guarded {
            let Some(root) = self.writable.iter().rev().find(|root| path.starts_with(root)) else { continue };
            let between = path.ancestors().skip(1).take_while(|folder| folder != root);
            self.pinned.extend(between.map(Path::to_owned));
        }
        let writable = &self.writable;
        self.read_only.retain(|path| writable.iter().any(|root| path.starts_with(root)));
    }

    fn hide(&mut self, policy: &LocalPolicy, seen: &Seen) -> Result<(), LocalError> {
        let mut hidden: Vec<HiddenPlace> = Vec::new();
        for (entries, meant, is_masked) in
            [(&policy.deny_read, &seen.deny_read, false), (&policy.masked_files, &seen.masked, true)]
        {
            for (entry, paths) in entries.iter().zip(meant) {
                for path in paths.iter().filter_map(|path| fs::canonicalize(path).ok()) {
                    let links = fs::metadata(&path)
                        .map_or(1, |about| if about.is_file() { about.nlink() } else { 1 });
                    if links > 1 {
                        self.remarks.push(format!(
                            "{} has another name (a hard link), by which a command could read it",
                            path.display()
                        ));
                    }
                    match hidden.iter_mut().find(|known| known.path == path) {
                        Some(known) => {
                            known.is_masked &= is_masked;
                            known.scope = known.scope.max(entry.scope);
                        }
                        None => hidden.push(HiddenPlace {
                            path,
                            is_masked,
                            reopened: Vec::new(),
                            scope: entry.scope,
                        }),
                    }
                }
            }
        }
        for (entry, paths) in policy.allow_read.iter().zip(&seen.allow_read) {
            for path in paths.iter().filter_map(|path| fs::canonicalize(path).ok()) {
                for place in hidden.iter_mut().filter(|place| place.scope <= entry.scope) {
                    if path != place.path && path.starts_with(&place.path) {
                        place.reopened.push(path.clone());
                    }
                }
            }
        }
        hidden.sort_by(|a, b| a.path.cmp(&b.path));
        for place in hidden {
            let is_inside = |outer: &HiddenPlace, path: &Path| {
                path.starts_with(&outer.path) && !outer.reopened.iter().any(|open| path.starts_with(open))
            };
            if is_inside(&place, &self.working) {
                return Err(LocalError::Refused(format!(
                    "the settings deny reading {}, where this was started; open it with allowRead",
                    place.path.display()
                )));
            }
            if !self.hidden.iter().any(|outer| is_inside(outer, &place.path)) {
                self.hidden.push(place);
            }
        }
        Ok(())
    }

    /// Takes the sockets of this machine out of sight, but for those that are named.
    pub(crate) fn hide_sockets(&mut self, policy: &LocalPolicy) {
        let UnixSockets::Listed(listed) = &policy.unix_sockets else { return };
        let mut allowed = Vec::new();
        for entry in listed {
            match entry.pattern.literal().map(fs::canonicalize) {
                Some(Ok(path)) => allowed.push(path),
                _ => self.remarks.push(format!("{}: there is no such socket", entry.text)),
            }
        }
        self.remarks.push("sockets that are made while the command runs are within its reach".into());
        let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let paths = table.lines().filter_map(|line| line.find(" /").map(|at| &line[at + 1..]));
        let found: BTreeSet<PathBuf> = paths.filter_map(|path| fs::canonicalize(path).ok()).collect();
        for path in found.into_iter().filter(|path| !allowed.contains(path)) {
            if !self.hidden.iter().any(|outer| path.starts_with(&outer.path)) {
                self.hidden.push(HiddenPlace {
                    path,
                    is_masked: false,
                    reopened: Vec::new(),
                    scope: Scope::Managed,
                });
            }
        }
    }
}

/// What the policy's entries mean on this file system, entry by entry.
struct Seen {
    allow_write: Vec<BTreeSet<PathBuf>>,
    deny_write: Vec<BTreeSet<PathBuf>>,
    deny_read: Vec<BTreeSet<PathBuf>>,
    masked: Vec<BTreeSet<PathBuf>>,
    allow_read: Vec<BTreeSet<PathBuf>>,
    below: Survey,
}

/// Folders that are the machine, not somebody's work.
fn is_machine(path: &Path) -> bool {
    path == Path::new("/") || ["/proc", "/sys", "/dev"].iter().any(|system| path.starts_with(system))
}

/// The real path, and whether it is there; of what is not there, the first part that is missing.
fn resolved(path: &Path) -> (PathBuf, bool) {
    if let Ok(real) = fs::canonicalize(path) {
        return (real, true);
    }
    for (folder, missing) in path.ancestors().skip(1).zip(path.ancestors()) {
        if let (Ok(real), Some(name)) = (fs::canonicalize(folder), missing.file_name()) {
            return (real.join(name), false);
        }
    }
    (path.to_owned(), false)
}
