//! What others start: bare runtimes, srt, Docker.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Failure;

/// Where the files of the image `slim` are.
const SLIM: &str = "/var/lib/patchyard/images/slim/rootfs";

/// How long Docker's daemon may take until it answers.
const DAEMON: Duration = Duration::from_secs(30);

/// One way to start something.
pub(crate) enum Peer {
    Bare(BareRuntime),
    Srt(PathBuf),
    Docker(Docker),
}

impl Peer {
    /// Those that are installed.
    pub(crate) fn all(dir: &Path) -> Result<Vec<Self>, Failure> {
        let mut all = Vec::new();
        for runtime in ["crun", "runc"] {
            if is_installed(runtime) {
                all.push(Self::Bare(BareRuntime::prepare(runtime, dir)?));
            }
        }
        if let Ok(srt) = std::fs::canonicalize("target/tools/srt/node_modules/.bin/srt") {
            all.push(Self::Srt(srt));
        }
        if is_installed("dockerd") {
            all.push(Self::Docker(Docker::start()?));
        }
        Ok(all)
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Bare(runtime) => {
                format!("{} create + start of `true`, bare bundle", runtime.name)
            }
            Self::Srt(_) => "srt true".into(),
            Self::Docker(_) => "docker run --rm --network none slim true".into(),
        }
    }

    /// The bare runtime of this name.
    pub(crate) fn is_bare(&self, name: &str) -> bool {
        matches!(self, Self::Bare(runtime) if runtime.name == name)
    }

    /// How long it takes once.
    pub(crate) fn once(&self) -> Result<Duration, Failure> {
        match self {
            Self::Bare(runtime) => runtime.create_and_start(),
            Self::Srt(srt) => timed(Command::new(srt).arg("true")),
            Self::Docker(docker) => docker.run(),
        }
    }
}

/// A runtime on a bundle as its `spec` writes it, over the same image, inside a mount namespace where
/// the half control group hierarchy is hidden (crun needs that where both versions are mounted).
pub(crate) struct BareRuntime {
    name: &'static str,
    bundle: PathBuf,
}

impl BareRuntime {
    fn prepare(name: &'static str, dir: &Path) -> Result<Self, Failure> {
        let bundle = dir.join(format!("bare-{name}"));
        std::fs::create_dir(&bundle)?;
        let made = Command::new(name).arg("spec").current_dir(&bundle).status()?;
        if !made.success() {
            return Err(format!("{name} spec failed").into());
        }
        let file = bundle.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        config["process"]["args"] = serde_json::json!(["true"]);
        config["process"]["terminal"] = serde_json::json!(false);
        config["root"] = serde_json::json!({ "path": SLIM, "readonly": true });
        std::fs::write(&file, config.to_string())?;
        Ok(Self { name, bundle })
    }

    /// The time of both calls, taken by the shell around them.
    fn create_and_start(&self) -> Result<Duration, Failure> {
        let script = r#"mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified
            name=bench-$$
            before=$EPOCHREALTIME
            "$2" create --bundle "$1" "$name" </dev/null >/dev/null 2>&1 && "$2" start "$name"
            after=$EPOCHREALTIME
            "$2" delete --force "$name"
            echo $(( ${after/./} - ${before/./} ))"#;
        let output = Command::new("unshare")
            .args(["--mount", "bash", "-c", script, "bash"])
            .arg(&self.bundle)
            .arg(self.name)
            .stderr(Stdio::null())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let micros = text.trim().parse().map_err(|_| format!("{} said `{text}`", self.name))?;
        Ok(Duration::from_micros(micros))
    }
}

/// Debian's Docker, its daemon started by hand, without a bridge, with a folder of its own.
pub(crate) struct Docker {
    daemon: Child,
    dir: TempDir,
}

impl Docker {
    fn start() -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("patchyard-docker-").tempdir()?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let daemon = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                "umount /sys/fs/cgroup/unified 2>/dev/null; exec dockerd \"$@\"",
                "sh",
            ])
            .args(["--bridge=none", "--iptables=false", "--data-root", &at("data")])
            .args(["--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["--host", &format!("unix://{}", at("docker.sock"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log"))?)
            .spawn()?;
        let docker = Self { daemon, dir };
        let until = Instant::now() + DAEMON;
        while !docker.tell(&["info"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
            if Instant::now() > until {
                let log = std::fs::read_to_string(docker.dir.path().join("log"))?;
                return Err(format!("dockerd did not answer: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut pack = Command::new("tar").args(["-C", SLIM, "-c", "."]).stdout(Stdio::piped()).spawn()?;
        let tar = pack.stdout.take().ok_or("tar has no output")?;
        let imported = docker.tell(&["import", "-", "slim"]).stdin(tar).stdout(Stdio::null()).status()?;
        if !(pack.wait()?.success() && imported.success()) {
            return Err("docker import failed".into());
        }
        Ok(docker)
    }

    fn run(&self) -> Result<Duration, Failure> {
        timed(&mut self.tell(&["run", "--rm", "--network", "none", "slim", "true"]))
    }

    fn tell(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.dir.path().join("docker.sock").display()));
        command.args(words);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}

/// Whether a program is in the path.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn timed(command: &mut Command) -> Result<Duration, Failure> {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = start.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{command:?} failed: {status}").into()) }
}
