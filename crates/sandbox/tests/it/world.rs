//! A `sandbox-host` of a test's own: a child process with its own data directory.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::attachment::Attachment;
use protocol::hands::{ExecEnd, ExecEvent, ExecSpec, Execution, Hands};
use protocol::ids::{ExecId, SandboxId, SessionId};
use protocol::sandbox_host::Made;
use protocol::sandbox_spec::{Limits, SandboxSpec};
use sandbox::client::SandboxHost;
use sandbox::guest_link::GuestLink;
use sandbox::host::{GuestProgram, HostConfig, Rights};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// The variable by which this binary knows that it is to be `sandbox-host`.
const DATA: &str = "PATCHYARD_TEST_DATA";

/// A key in `sandbox-host`'s environment that no sandbox may come to see.
pub const CANARY: &str = "sk-ant-canary-6f1d";

/// The variable that tells it the server's user and group.
const SERVER: &str = "PATCHYARD_TEST_SERVER";

/// Not a test: what [`World::start`] runs in a process of its own.
#[test]
#[ignore = "run by the other tests as their sandbox-host"]
fn sandbox_host_process() {
    let Some(data) = std::env::var_os(DATA).map(PathBuf::from) else { return };
    let socket = data.join("host.sock");
    let server = std::env::var(SERVER).unwrap().parse().unwrap();
    let (server_uid, server_gid) = (server, server);
    let rights = Rights::settle(&data);
    let guest = GuestProgram::Embedded;
    let config = HostConfig { data_dir: data, socket, server_uid, server_gid, guest, rights };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let run = async {
        let mut told = signal(SignalKind::terminate()).unwrap();
        sandbox::host::run(config, async { _ = told.recv().await }).await
    };
    runtime.block_on(run).unwrap();
}

/// Whether sandboxes can be tested at all; says so when not.
pub fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: sandboxes need root; run this test as root");
    }
    is_root
}

/// An id that no other test has.
fn unique() -> (u64, u128) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let random = std::fs::read("/proc/sys/kernel/random/uuid").unwrap();
    let random = random.iter().fold(0_u128, |sum, byte| sum.wrapping_mul(31).wrapping_add(u128::from(*byte)));
    (u64::try_from(now.as_millis()).unwrap(), random)
}

pub fn sandbox_id() -> SandboxId {
    let (now, random) = unique();
    SandboxId::from_parts(now, random)
}

pub fn session_id() -> SessionId {
    let (now, random) = unique();
    SessionId::from_parts(now, random)
}

pub fn exec_id() -> ExecId {
    let (now, random) = unique();
    ExecId::from_parts(now, random)
}

/// A data directory with its `sandbox-host`. Dropped, every sandbox and the process are gone.
pub struct World {
    pub data: TempDir,
    pub host: SandboxHost,
    child: Option<Child>,
    setting: Setting,
    /// A folder of programs that `sandbox-host` finds before those of the machine.
    pub programs: Option<PathBuf>,
}

/// What is special about a world.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setting {
    /// Only this runtime.
    pub runtime: Option<&'static str>,
    /// The server's user and group.
    pub server: u32,
    /// The user that `sandbox-host` itself is.
    pub host_user: u32,
    /// Only this kind of disk.
    pub disk: Option<&'static str>,
}

impl World {
    pub fn start() -> Self {
        Self::with(Setting::default())
    }

    /// With only this runtime.
    pub fn with_runtime(runtime: Option<&'static str>) -> Self {
        Self::with(Setting { runtime, ..Setting::default() })
    }

    /// With something special.
    pub fn with(setting: Setting) -> Self {
        Self::within(&std::env::temp_dir(), setting)
    }

    /// With its data directory below this folder.
    pub fn within(folder: &Path, setting: Setting) -> Self {
        assert!(sandbox::guest_binary().is_some(), "run scripts/build-guest first");
        let data = tempfile::Builder::new().prefix("py-").tempdir_in(folder).unwrap();
        let host = SandboxHost::connect(&data.path().join("host.sock"));
        std::os::unix::fs::chown(data.path(), Some(setting.server), Some(setting.server)).unwrap();
        let mut world = Self { data, host, child: None, setting, programs: None };
        world.start_host();
        world
    }

    /// Starts `sandbox-host` (again).
    pub fn start_host(&mut self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "world::sandbox_host_process", "--ignored", "--nocapture"])
            .env(DATA, self.data.path())
            .env(SERVER, self.setting.server.to_string())
            .env("ANTHROPIC_API_KEY", CANARY)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(runtime) = self.setting.runtime {
            command.env("PATCHYARD_RUNTIME", runtime);
        }
        if let Some(programs) = &self.programs {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", programs.display()));
        }
        if let Some(disk) = self.setting.disk {
            command.env("PATCHYARD_DISK", disk);
        }
        if self.setting.host_user != 0 {
            command.uid(self.setting.host_user).gid(self.setting.host_user);
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts another `sandbox-host` beside the one that runs, and gives the latter.
    pub fn replace_host(&mut self) -> Child {
        let first = self.child.take().unwrap();
        self.start_host();
        first
    }

    /// Waits until `sandbox-host` ends by itself.
    pub fn wait_for_host(&mut self) -> std::process::ExitStatus {
        self.child.as_mut().unwrap().wait().unwrap()
    }

    pub fn put_back(&mut self, child: Child) {
        self.child = Some(child);
    }

    /// Kills `sandbox-host` as nothing else can.
    pub fn kill_host(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// Asks `sandbox-host` to end.
    pub fn tell_host_to_end(&self) {
        let pid = nix::unistd::Pid::from_raw(self.host_pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    pub fn host_pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// An empty session repository.
    pub fn session(&self) -> SessionId {
        let session = session_id();
        let path = self.data.path().join("repos").join(format!("{session}.git"));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        self.give_to_server(&path);
        session
    }

    /// Makes this folder and all in it the server's.
    pub fn give_to_server(&self, path: &Path) {
        let owner = Some(self.setting.server);
        for path in tree(path).iter().map(PathBuf::as_path).chain([path]) {
            std::os::unix::fs::chown(path, owner, owner).unwrap();
        }
    }

    /// The sandboxes that run.
    pub async fn attachments(&self) -> Vec<Attachment> {
        self.host.list().await.unwrap().into_iter().map(|made| made.attachment).collect()
    }

    /// A sandbox of the usual image.
    pub async fn make(&self, session: SessionId, limits: Limits) -> Made {
        self.host.create(sandbox_id(), Some(session), slim(limits)).await.unwrap()
    }

    pub async fn sandbox_with(&self, limits: Limits) -> (Attachment, GuestLink) {
        let made = self.make(self.session(), limits).await;
        let link = GuestLink::connect(&made).await.unwrap();
        (made.attachment, link)
    }

    pub async fn sandbox(&self) -> (Attachment, GuestLink) {
        self.sandbox_with(limits()).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.child.is_none() {
            self.start_host();
        }
        // Those whose process 1 is dead are not listed any more.
        let folders = std::fs::read_dir(self.data.path().join("workspaces")).into_iter().flatten().flatten();
        let all: Vec<SandboxId> =
            folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let host = self.host.clone();
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for sandbox in all {
                    host.destroy(sandbox).await.unwrap();
                }
            });
        })
        .join();
        // Killed while it tries a runtime it would leave a container to nobody.
        let until = Instant::now() + Duration::from_secs(20);
        while self.child.as_mut().unwrap().try_wait().unwrap().is_none() && Instant::now() < until {
            self.tell_host_to_end();
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill_host();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// A sandbox of the usual image.
pub fn slim(limits: Limits) -> SandboxSpec {
    SandboxSpec::of_image("slim", limits)
}

/// What a test's sandbox may use.
pub fn limits() -> Limits {
    Limits {
        memory_bytes: 512 * 1024 * 1024,
        cpu_millis: 2_000,
        pids: 256,
        disk_bytes: 2_000_000_000,
        open_files: 4_096,
    }
}

pub fn shell(script: &str) -> ExecSpec {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ExecSpec { timeout: Some(Duration::from_secs(60)), ..ExecSpec::new(exec_id(), argv, "/root") }
}

/// All that a command said, and how it ended.
#[derive(Debug, Default)]
pub struct Said {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub end: ExecEnd,
}

impl Said {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    pub fn all(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr))
    }
}

pub async fn listen(execution: &mut dyn Execution) -> Said {
    let mut said = Said::default();
    loop {
        match execution.next().await.unwrap() {
            ExecEvent::Stdout(bytes) => said.stdout.extend(bytes),
            ExecEvent::Stderr(bytes) => said.stderr.extend(bytes),
            ExecEvent::Exited(end) => {
                said.end = end;
                return said;
            }
        }
    }
}

pub async fn run(link: &GuestLink, spec: ExecSpec) -> Said {
    let mut execution = link.start(spec).await.unwrap();
    tokio::time::timeout(Duration::from_secs(90), listen(&mut *execution)).await.unwrap()
}

/// Runs a script that has to succeed, and gives what it printed.
pub async fn sh(link: &GuestLink, script: &str) -> String {
    let said = run(link, shell(script)).await;
    assert!(said.end.is_success(), "{script}: {:?} {}", said.end, said.all());
    said.out()
}

/// Runs a Python program.
pub async fn python(link: &GuestLink, program: &str) -> Said {
    let mut spec = shell("");
    spec.argv = ["python3", "-c", program].map(str::to_owned).to_vec();
    run(link, spec).await
}

/// Runs Python with `call(number, …)`, which gives the name of the error, and `attempt(action)`.
pub async fn tried(link: &GuestLink, lines: &str) -> Vec<String> {
    let program = format!(
        "
import ctypes, errno, os, socket, struct, fcntl, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    ctypes.set_errno(0)
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return 'OK' if result >= 0 else errno.errorcode[ctypes.get_errno()]
def attempt(action):
    try: action(); return 'OK'
    except OSError as error: return errno.errorcode[error.errno]
{lines}"
    );
    let said = python(link, &program).await;
    assert!(said.end.is_success(), "{:?} {}", said.end, said.all());
    said.out().lines().map(str::to_owned).collect()
}

/// Waits for a condition of the outer world, which sends no event.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The host's processes whose command line holds this text.
pub fn processes_with(text: &str) -> Vec<i32> {
    let me = std::process::id().cast_signed();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != me)
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

/// Every path below this one.
pub fn tree(path: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        paths.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            paths.extend(tree(&entry.path()));
        }
    }
    paths
}
