//! The inner half of a test: what an ordinary user does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use protocol::hands::{ExecEnd, ExecEvent, ExecSpec, Hands as _};
use protocol::ids::{ExecId, SessionId};
use protocol::sandbox_host::Made;
use protocol::sandbox_spec::{Limits, SandboxSpec, Tier, TierRequest, Unenforced};
use sandbox::client::SandboxHost;
use sandbox::guest_link::GuestLink;
use ulid::Ulid;

/// The variables that tell it where everything is.
pub const DIR: &str = "PATCHYARD_TEST_DIR";
pub const PROGRAM: &str = "PATCHYARD_TEST_PROGRAM";

pub fn dir() -> PathBuf {
    std::env::var_os(DIR).expect("run by the outer half").into()
}

pub fn program() -> PathBuf {
    std::env::var_os(PROGRAM).expect("run by the outer half").into()
}

/// The program with these words.
pub fn patchyard(words: &[&str]) -> Output {
    Command::new(program()).args(words).stdin(Stdio::null()).output().unwrap()
}

/// What it says, which has to succeed.
pub fn said(words: &[&str]) -> String {
    let output = patchyard(words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Takes the image `slim` into a data directory.
pub fn import(data: &Path) {
    let archive = dir().join("slim.tar");
    let words = ["image", "import", "slim", archive.to_str().unwrap(), "--data", data.to_str().unwrap()];
    assert!(said(&words).contains("imported slim"));
}

/// A `sandbox-host` of this user's.
pub struct World {
    pub data: PathBuf,
    pub host: SandboxHost,
    child: Option<Child>,
}

impl World {
    pub fn start() -> Self {
        let data = dir().join("home/data");
        std::fs::create_dir(&data).unwrap();
        import(&data);
        let host = SandboxHost::connect(&data.join("host.sock"));
        let mut world = Self { data, host, child: None };
        world.start_host();
        world
    }

    pub fn start_host(&mut self) {
        let (uid, gid) = (nix::unistd::geteuid().to_string(), nix::unistd::getegid().to_string());
        let mut command = Command::new(program());
        command.args(["internal", "sandbox-host", "--server-uid", &uid, "--server-gid", &gid, "--data"]);
        command.arg(&self.data).arg("--socket").arg(self.data.join("host.sock")).stdin(Stdio::null());
        self.child = Some(command.spawn().unwrap());
    }

    pub fn kill_host(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends all sandboxes in order, then the host.
    pub async fn end(mut self) {
        for made in self.host.list().await.unwrap() {
            self.host.destroy(made.attachment.sandbox).await.unwrap();
        }
        let child = self.child.as_mut().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// A session repository with one commit.
    pub fn session(&self) -> SessionId {
        let session = SessionId::from(Ulid::generate());
        let bare = self.data.join(format!("repos/{session}.git"));
        let script = format!(
            "set -eu; export HOME=/nonexistent GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=a \
             GIT_COMMITTER_EMAIL=a@a; umask 077; git init -q --bare -b main '{bare}'; cd '{bare}'; \
             blob=$(echo hello | git hash-object -w --stdin); \
             tree=$(printf '100644 blob %s\\tREADME\\n' $blob | git mktree); \
             git update-ref refs/heads/main $(git commit-tree -m first $tree)",
            bare = bare.display()
        );
        let made = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        session
    }

    pub async fn make(&self, session: Option<SessionId>, spec: SandboxSpec) -> Made {
        self.host.create(Ulid::generate().into(), session, spec).await.unwrap()
    }

    pub async fn link(&self, made: &Made) -> GuestLink {
        self.host.link(made).await.unwrap()
    }

    /// The folders of sandboxes.
    pub fn folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.data.join("workspaces")).unwrap().flatten();
        // A living host may be trying a runtime or a disk just now, which has a folder for so long.
        let of_sandboxes = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("sbx_"));
        of_sandboxes.map(|entry| entry.path()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A sandbox of this tier whose limits need not hold.
pub fn spec(tier: Tier) -> SandboxSpec {
    let limits = Limits {
        memory_bytes: 512 * 1024 * 1024,
        cpu_millis: 2_000,
        pids: 256,
        disk_bytes: 2_000_000_000,
        open_files: 4_096,
    };
    SandboxSpec {
        tier: TierRequest::Exactly(tier),
        unenforced: Unenforced::Tell,
        ..SandboxSpec::of_image("slim", limits)
    }
}

/// Runs a script that has to succeed, and gives what it printed.
pub async fn sh(link: &GuestLink, script: &str) -> String {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let exec = ExecId::from(Ulid::generate());
    let spec = ExecSpec { timeout: Some(Duration::from_secs(60)), ..ExecSpec::new(exec, argv, "/root") };
    let mut execution = link.start(spec).await.unwrap();
    let (mut out, mut all) = (Vec::new(), Vec::new());
    let end: ExecEnd = loop {
        match execution.next().await.unwrap() {
            ExecEvent::Stdout(bytes) => {
                all.extend_from_slice(&bytes);
                out.extend(bytes);
            }
            ExecEvent::Stderr(bytes) => all.extend(bytes),
            ExecEvent::Exited(end) => break end,
        }
    };
    assert!(end.is_success(), "{script}: {end:?} {}", String::from_utf8_lossy(&all));
    String::from_utf8_lossy(&out).trim().to_owned()
}
