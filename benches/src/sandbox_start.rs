//! Sandbox create to guest ready, beside the bare runtime's create and start, and `srt true`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use protocol::attachment::Attachment;
use protocol::ids::{SandboxId, SessionId};
use protocol::sandbox_spec::{Limits, SandboxSpec};
use sandbox::client::SandboxHost;
use sandbox::guest_link::GuestLink;
use tempfile::TempDir;
use ulid::Ulid;

use crate::figure::{Samples, print, print_beside};
use crate::{Bench, Failure};

/// A `sandbox-host` of our own with one session's repository.
pub(crate) struct Host {
    child: std::process::Child,
    dir: TempDir,
    client: SandboxHost,
    session: SessionId,
}

impl Host {
    pub(crate) fn start(bench: &Bench) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("patchyard-bench-").tempdir()?;
        let session = SessionId::from(Ulid::generate());
        let repository = dir.path().join(format!("repos/{session}.git"));
        git(dir.path(), &["init", "--quiet", "--bare", &repository.display().to_string()])?;
        std::fs::create_dir_all(dir.path().join("run"))?;
        let socket = dir.path().join("run/sandbox-host.sock");
        let child = Command::new(&bench.patchyard)
            .args(["internal", "sandbox-host", "--server-uid", "0", "--server-gid", "0", "--data"])
            .arg(dir.path())
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { child, client: SandboxHost::connect(&socket), dir, session })
    }

    /// A sandbox and the link to its guest.
    pub(crate) async fn create(&self) -> Result<(Attachment, GuestLink), Failure> {
        self.create_with(Limits::default()).await
    }

    /// One that may use this much.
    pub(crate) async fn create_with(&self, limits: Limits) -> Result<(Attachment, GuestLink), Failure> {
        let sandbox = SandboxId::from(Ulid::generate());
        let spec = SandboxSpec::of_image("slim", limits);
        let made = self.client.create(sandbox, Some(self.session), spec).await?;
        let link = GuestLink::connect(&made).await?;
        Ok((made.attachment, link))
    }

    pub(crate) async fn destroy(&self, attachment: &Attachment) -> Result<(), Failure> {
        Ok(self.client.destroy(attachment.sandbox).await?)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn git(dir: &Path, args: &[&str]) -> Result<(), Failure> {
    let status = Command::new("git").args(args).current_dir(dir).status()?;
    if status.success() { Ok(()) } else { Err(format!("git {args:?} failed").into()) }
}

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let host = Host::start(bench)?;
    // The first one finds out which runtime works; it is not counted.
    let (first, _link) = host.create().await?;
    host.destroy(&first).await?;

    let bare = BareRuntime::prepare(host.dir.path())?;
    let srt = srt();
    let (mut ours, mut theirs, mut peer) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..bench.runs {
        // What ran just before changes what a start costs: each takes each place in turn.
        for place in 0..3 {
            match (round + place) % 3 {
                0 => {
                    let start = Instant::now();
                    let (attachment, _link) = host.create().await?;
                    ours.add(start.elapsed());
                    host.destroy(&attachment).await?;
                }
                1 => theirs.add(bare.create_and_start()?),
                _ => {
                    if let Some(srt) = &srt {
                        peer.add(timed(Command::new(srt).arg("true"))?);
                    }
                }
            }
        }
    }
    print_beside(
        "sandbox create to guest ready, cold",
        &ours,
        "crun create + start of `true`, bare bundle",
        &theirs,
        "at most 2x the bare runtime",
    );
    if srt.is_some() {
        print_beside("sandbox create to guest ready, cold", &ours, "srt true", &peer, "a row");
    } else {
        print("srt true: not installed (scripts/bench-peers)", &peer, "a row");
    }
    Ok(())
}

/// `crun` on a bundle as `crun spec` writes it, over the same image, inside a mount namespace where
/// the half control group hierarchy is hidden (crun needs that where both versions are mounted).
struct BareRuntime {
    bundle: PathBuf,
}

impl BareRuntime {
    fn prepare(dir: &Path) -> Result<Self, Failure> {
        let bundle = dir.join("bare");
        std::fs::create_dir(&bundle)?;
        let made = Command::new("crun").arg("spec").current_dir(&bundle).status()?;
        if !made.success() {
            return Err("crun spec failed".into());
        }
        let file = bundle.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        config["process"]["args"] = serde_json::json!(["true"]);
        config["process"]["terminal"] = serde_json::json!(false);
        config["root"] =
            serde_json::json!({ "path": "/var/lib/patchyard/images/slim/rootfs", "readonly": true });
        std::fs::write(&file, config.to_string())?;
        Ok(Self { bundle })
    }

    /// The time of both calls, taken by the shell around them.
    fn create_and_start(&self) -> Result<Duration, Failure> {
        let script = r#"mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified
            name=bench-$$
            before=$EPOCHREALTIME
            crun create --bundle "$1" "$name" </dev/null >/dev/null 2>&1 && crun start "$name"
            after=$EPOCHREALTIME
            crun delete --force "$name"
            echo $(( ${after/./} - ${before/./} ))"#;
        let output = Command::new("unshare")
            .args(["--mount", "bash", "-c", script, "bash"])
            .arg(&self.bundle)
            .stderr(Stdio::null())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(Duration::from_micros(text.trim().parse().map_err(|_| format!("the bare runtime said `{text}`"))?))
    }
}

/// The peer's program, when `scripts/bench-peers` installed it.
fn srt() -> Option<PathBuf> {
    let path = Path::new("target/tools/srt/node_modules/.bin/srt");
    std::fs::canonicalize(path).ok()
}

fn timed(command: &mut Command) -> Result<Duration, Failure> {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = start.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{command:?} failed: {status}").into()) }
}
