//! The runtime binary: which one works here, and how it is told things.
//!
//! ```text
//!   PATCHYARD_RUNTIME, else crun, then runc
//!        └─▶ found? ─▶ runs a throw-away container? ─▶ chosen
//!                 └─────────── why not, in words ◀──┘
//! ```

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use protocol::sandbox_host::GUEST_WORDS;
use protocol::sandbox_spec::Tier;

use crate::bundle::{Errors, Group};
use crate::process::{self, Outcome};

/// How long a runtime may take for one order.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most of a runtime's own words that is passed on.
const MAX_WORDS: usize = 500;

/// What is peculiar to one runtime.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The name of its binary.
    pub(crate) name: &'static str,
    /// The Debian package that has it.
    pub(crate) package: Option<&'static str>,
    /// The tier that it gives.
    pub(crate) tier: Tier,
    /// Arguments before every order; one without them would not find the container again.
    global: &'static [&'static str],
    /// More of them, where control groups can be made, and where not.
    groups: &'static [&'static str],
    no_groups: &'static [&'static str],
    /// Whether the guest gets a listening socket from us. Otherwise it makes one of its own, in a folder
    /// that is mounted for that.
    pub(crate) passes_socket: bool,
    /// Whether its network stack is its own, so that nobody outside can open a listener in it.
    pub(crate) own_stack: bool,
    /// Whether something can be mounted into a container that runs, so that it can wait for its session.
    pub(crate) can_wait: bool,
    /// Which errors its filter of system calls can give.
    pub(crate) errors: Errors,
    /// Tasks of the host's kernel that it needs for itself, and for each process of a sandbox.
    pub(crate) tasks: (u32, u32),
}

const NAMESPACES: Kind = Kind {
    name: "",
    package: None,
    tier: Tier::Container,
    global: &[],
    groups: &[],
    no_groups: &[],
    passes_socket: true,
    own_stack: false,
    can_wait: true,
    errors: Errors::Named,
    tasks: (0, 1),
};

/// The runtimes that are tried, in this order; of each tier the first that works is used.
pub(crate) const KINDS: &[Kind] = &[
    // Without the word it asks systemd, where there is one, and fails where it does not answer.
    Kind {
        name: "crun",
        package: Some("crun"),
        groups: &["--cgroup-manager=cgroupfs"],
        no_groups: &["--cgroup-manager=disabled"],
        ..NAMESPACES
    },
    Kind { name: "runc", package: Some("runc"), ..NAMESPACES },
    Kind { name: "youki", ..NAMESPACES },
    Kind {
        name: "runsc",
        package: Some("runsc"),
        tier: Tier::Gvisor,
        global: &[
            // Needs no KVM, and is the fast one inside of virtual machines.
            "--platform=systrap",
            // There is no network but its own loopback.
            "--network=none",
            // What it writes goes to the sandbox's disk, whose limit counts.
            "--overlay2=none",
            // The guest's socket, which the host connects to, and those of its doors. Of the host's others
            // none is in what a sandbox sees.
            "--host-uds=all",
            "--oci-seccomp",
        ],
        groups: &[],
        no_groups: &["--ignore-cgroups"],
        passes_socket: false,
        own_stack: true,
        can_wait: false,
        errors: Errors::OnlyNotPermitted,
        // Measured: a dozen, and two for most processes. It does not survive being refused one.
        tasks: (64, 3),
    },
];

/// The variable that names the one runtime to use.
pub(crate) const PINNED: &str = "PATCHYARD_RUNTIME";

/// Why a runtime did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// It could not be run.
    #[error("{name} could not be run: {source}")]
    Spawn {
        name: &'static str,
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error("{name} refused (status {status}): {words}")]
    Refused { name: &'static str, status: i32, words: String },
    /// It did not answer.
    #[error("{name} did not finish within {} s and was killed", PATIENCE.as_secs())]
    Slow { name: &'static str },
    /// It said yes, but told no process.
    #[error("{name} left no process id: {source}")]
    NoPid {
        name: &'static str,
        #[source]
        source: io::Error,
    },
}

/// What all runtimes are given.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    /// The folder of their own state.
    pub(crate) state: PathBuf,
    /// The control group that those of sandboxes are made in, where they can be made.
    pub(crate) groups: Option<Group>,
}

/// A runtime that is installed.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    kind: &'static Kind,
    path: PathBuf,
    /// Its own state, one folder per container.
    root: PathBuf,
    groups: bool,
}

impl Runtime {
    /// Looks for its binary.
    pub(crate) fn find(kind: &'static Kind, ground: &Ground) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"].map(PathBuf::from);
        env::split_paths(&path)
            .chain(usual)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(kind.name))
            .find(|candidate| candidate.is_file())
            .map(|path| Self {
                kind,
                path,
                root: ground.state.join(kind.name),
                groups: ground.groups.is_some(),
            })
    }

    /// The one that was used for a sandbox before.
    pub(crate) fn named(name: &str, ground: &Ground) -> Option<Self> {
        KINDS.iter().find(|kind| kind.name == name).and_then(|kind| Self::find(kind, ground))
    }

    /// The name of its binary.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name
    }

    /// What is peculiar to it.
    pub(crate) fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The first line that it says of itself.
    pub(crate) fn version(&self) -> Option<String> {
        let output = Command::new(&self.path).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().next().map(|line| line.trim().chars().take(100).collect())
    }

    /// Starts a container in the background and gives the host's number of the process whose end is the
    /// container's. A listener becomes descriptor 3 of its process 1. `bundle` also takes the runtime's
    /// log and answer.
    pub(crate) fn start(
        &self,
        id: &str,
        bundle: &Path,
        listener: Option<BorrowedFd<'_>>,
    ) -> Result<i32, RuntimeError> {
        let pid_file = bundle.join("pid");
        let mut order: Vec<&OsStr> = vec!["run".as_ref(), "--detach".as_ref()];
        if listener.is_some() {
            order.push("--preserve-fds=1".as_ref());
        }
        order.extend(["--bundle".as_ref(), bundle.as_os_str(), "--pid-file".as_ref()]);
        order.extend([pid_file.as_os_str(), id.as_ref()]);
        self.tell(&order, bundle, listener)?;
        let no_pid = |source| RuntimeError::NoPid { name: self.kind.name, source };
        let text = fs::read_to_string(&pid_file).map_err(no_pid)?;
        text.trim().parse().map_err(|_| no_pid(io::Error::other("not a number")))
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, id: &str, bundle: &Path) -> Result<(), RuntimeError> {
        let order: [&OsStr; 4] = ["run".as_ref(), "--bundle".as_ref(), bundle.as_os_str(), id.as_ref()];
        self.tell(&order, bundle, None)
    }

    /// Forgets a container, and kills what is left of it; done also when it does not know it.
    pub(crate) fn forget(&self, id: &str) {
        let traces = self.traces(id);
        if traces.is_empty() {
            return;
        }
        let order: Vec<OsString> = self.order(&["delete", "--force", id].map(OsStr::new), None);
        let _ = process::run(&self.path, order, None, PATIENCE);
        // What it does not see as its own any more, or could not take away.
        for trace in self.traces(id) {
            let _ = fs::remove_dir_all(&trace);
            let _ = fs::remove_file(&trace);
        }
    }

    /// Its state of a container: a folder by that name, or files with the name in theirs.
    fn traces(&self, id: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().contains(id))
            .map(|entry| entry.path())
            .collect()
    }

    fn tell(
        &self,
        order: &[&OsStr],
        bundle: &Path,
        pass: Option<BorrowedFd<'_>>,
    ) -> Result<(), RuntimeError> {
        let name = self.kind.name;
        let log = bundle.join("log");
        let ended = process::run(&self.path, self.order(order, Some(&log)), pass, PATIENCE)
            .map_err(|source| RuntimeError::Spawn { name, source })?;
        match ended.outcome {
            Outcome::Success => Ok(()),
            Outcome::TimedOut => Err(RuntimeError::Slow { name }),
            Outcome::Failure(status) => {
                let log = fs::read(&log).unwrap_or_default();
                let of_guest = ended.said.lines().rfind(|line| line.starts_with(GUEST_WORDS));
                let words = of_guest
                    .map(|line| line.chars().take(MAX_WORDS).collect())
                    .or_else(|| last_words(&String::from_utf8_lossy(&log)))
                    .or_else(|| last_words(&ended.said))
                    .unwrap_or_else(|| "it gave no reason".to_owned());
                Err(RuntimeError::Refused { name, status, words })
            }
        }
    }

    fn order(&self, order: &[&OsStr], log: Option<&Path>) -> Vec<OsString> {
        let groups = if self.groups { self.kind.groups } else { self.kind.no_groups };
        let mut words: Vec<OsString> = self.kind.global.iter().chain(groups).map(OsString::from).collect();
        words.extend(["--root".into(), self.root.clone().into_os_string()]);
        if let Some(log) = log {
            words.extend(["--log".into(), log.into(), "--log-format".into(), "text".into()]);
        }
        words.extend(order.iter().map(|word| (*word).to_owned()));
        words
    }
}

/// The last error of a runtime's log, without time stamps and quoting; nothing when it says nothing.
fn last_words(log: &str) -> Option<String> {
    let line = log.lines().rfind(|line| !line.trim().is_empty())?;
    let line = without_colours(line);
    let words = match line.split_once("msg=\"") {
        Some((_, quoted)) => quoted.trim_end().trim_end_matches('"').replace("\\\"", "\""),
        None => line.trim().to_owned(),
    };
    Some(words.chars().take(MAX_WORDS).collect())
}

/// A line without the escape codes by which some runtimes colour their words.
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default();
    let rest = parts.map(|part| part.split_once('m').map_or("", |(_, words)| words));
    std::iter::once(first).chain(rest).collect::<String>().replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_reason() {
        let coloured = "\u{1b}[2mnow\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m no \tb here";
        assert_eq!(last_words(coloured).unwrap(), "now ERROR no  b here");
        let runc = "time=\"x\" level=warning msg=\"a\"\ntime=\"x\" level=error msg=\"no \\\"b\\\" here\"\n\n";
        assert_eq!(last_words(runc).unwrap(), "no \"b\" here");
        assert_eq!(last_words("2026 cgroups in hybrid mode\n").unwrap(), "2026 cgroups in hybrid mode");
        assert_eq!(last_words(" \n"), None);
    }
}
