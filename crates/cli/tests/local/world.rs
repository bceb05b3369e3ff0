//! A project folder, a home, and the binary, for root and for an ordinary user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The ordinary user of these tests; needs no account.
const USER: u32 = 54_321;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    User,
}

/// Both, where this runs as root; else only who this is.
pub(crate) fn everybody() -> Vec<Who> {
    if is_root() { vec![Who::Root, Who::User] } else { vec![Who::User] }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub(crate) struct World {
    dir: TempDir,
    who: Who,
    /// Whether names are those of a test's internet.
    has_names: bool,
}

impl World {
    /// A project that is a git repository, with one file, in a world that everybody may pass through.
    pub(crate) fn new(who: Who) -> Self {
        let dir = tempfile::Builder::new().prefix("local-").tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_patchyard"), dir.path().join("patchyard")).unwrap();
        let world = Self { dir, who, has_names: false };
        for folder in ["project", "home", "outside"] {
            fs::create_dir(world.path(folder)).unwrap();
        }
        world.write("project/file", "text\n");
        world.write("outside/file", "outside\n");
        world.give();
        assert!(
            world.outside("git init -q . && git config user.name x && git config user.email x@x").success()
        );
        world
    }

    /// The same where the machine's name server is another one. Needs root.
    pub(crate) fn asking(who: Who, name_server: &str) -> Self {
        let mut world = Self::new(who);
        fs::write(world.path("resolv.conf"), format!("nameserver {name_server}\n")).unwrap();
        world.has_names = true;
        world
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub(crate) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.give();
    }

    pub(crate) fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_default()
    }

    pub(crate) fn exists(&self, below: &str) -> bool {
        fs::symlink_metadata(self.path(below)).is_ok()
    }

    /// Everything is the caller's.
    pub(crate) fn give(&self) {
        let id = if self.who == Who::User && is_root() { USER } else { return };
        let mut waiting = ["project", "home", "outside"].map(|folder| self.path(folder)).to_vec();
        while let Some(path) = waiting.pop() {
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            std::os::unix::fs::lchown(&path, Some(id), Some(id)).unwrap();
            if about.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }

    /// A command of the caller's, started in the project.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut words = Vec::new();
        if self.has_names {
            let mount = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
            let names = self.path("resolv.conf").display().to_string();
            words.extend(["unshare", "-m", "sh", "-c", mount, &names].map(str::to_owned));
        }
        if self.who == Who::User && is_root() {
            let id = USER.to_string();
            words.extend(
                ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(str::to_owned),
            );
        }
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.current_dir(self.path("project")).env("HOME", self.path("home")).stdin(Stdio::null());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.env_remove("XDG_RUNTIME_DIR").env_remove("CLAUDE_CONFIG_DIR").env_remove("TMPDIR");
        command
    }

    /// The sandbox, to be told what to run.
    pub(crate) fn sandbox(&self) -> Command {
        let mut command = self.command(self.path("patchyard").to_str().unwrap());
        command.arg("sandbox");
        command
    }

    /// A script in the sandbox.
    pub(crate) fn inside(&self, script: &str) -> Said {
        Said(self.sandbox().args(["--", "sh", "-c", script]).output().unwrap())
    }

    /// With settings that the caller has given.
    pub(crate) fn with(&self, settings: &serde_json::Value, script: &str) -> Said {
        Said(self.given(settings, script).output().unwrap())
    }

    /// The same, to be started.
    pub(crate) fn given(&self, settings: &serde_json::Value, script: &str) -> Command {
        self.write("home/given.json", &settings.to_string());
        let mut command = self.sandbox();
        command.arg("--settings").arg(self.path("home/given.json"));
        command.args(["--", "sh", "-c", script]);
        command
    }

    /// The same script without a sandbox.
    pub(crate) fn outside(&self, script: &str) -> Said {
        Said(self.command("sh").args(["-c", script]).output().unwrap())
    }

    /// What is in the project, hidden names too.
    pub(crate) fn listing(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("project")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Where the records of runs are.
    pub(crate) fn records(&self) -> PathBuf {
        match self.who {
            Who::Root => "/run/patchyard-sandbox".into(),
            Who::User => self.path("home/.local/state/patchyard/sandbox"),
        }
    }
}

/// How a command ended and what it said.
pub(crate) struct Said(pub(crate) Output);

impl Said {
    pub(crate) fn success(&self) -> bool {
        self.0.status.success()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}
