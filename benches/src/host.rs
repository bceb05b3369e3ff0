//! A `sandbox-host` of a benchmark's own.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use protocol::attachment::Attachment;
use protocol::egress::Door;
use protocol::ids::{SandboxId, SessionId};
use protocol::sandbox_spec::{Limits, SandboxSpec, Tier, TierRequest};
use sandbox::client::SandboxHost;
use sandbox::guest_link::GuestLink;
use tempfile::TempDir;
use ulid::Ulid;

use crate::{Bench, Failure};

/// A `sandbox-host` with one session's repository. Dropped, it ends; its sandboxes are to be destroyed
/// before.
pub(crate) struct Host {
    child: Child,
    pub(crate) dir: TempDir,
    client: SandboxHost,
    session: SessionId,
}

impl Host {
    pub(crate) fn start(bench: &Bench) -> Result<Self, Failure> {
        Self::start_with(bench, None)
    }

    /// One that uses only this runtime.
    pub(crate) fn start_with(bench: &Bench, runtime: Option<&str>) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("patchyard-bench-").tempdir()?;
        let session = SessionId::from(Ulid::generate());
        let repository = dir.path().join(format!("repos/{session}.git"));
        git(dir.path(), &["init", "--quiet", "--bare", &repository.display().to_string()])?;
        std::fs::create_dir_all(dir.path().join("run"))?;
        let socket = dir.path().join("run/sandbox-host.sock");
        let mut command = Command::new(&bench.patchyard);
        command
            .args(["internal", "sandbox-host", "--server-uid", "0", "--server-gid", "0", "--data"])
            .arg(dir.path())
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null());
        if let Some(runtime) = runtime {
            command.env("PATCHYARD_RUNTIME", runtime);
        }
        Ok(Self { child: command.spawn()?, client: SandboxHost::connect(&socket), dir, session })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A sandbox and the link to its guest.
    pub(crate) async fn create(&self) -> Result<(Attachment, GuestLink), Failure> {
        self.create_with(Limits::default()).await
    }

    /// One that may use this much.
    pub(crate) async fn create_with(&self, limits: Limits) -> Result<(Attachment, GuestLink), Failure> {
        self.make(Some(self.session), SandboxSpec::of_image("slim", limits)).await
    }

    /// One of this tier.
    pub(crate) async fn create_of(&self, tier: Tier) -> Result<(Attachment, GuestLink), Failure> {
        let spec = SandboxSpec::of_image("slim", Limits::default());
        self.make(Some(self.session), SandboxSpec { tier: TierRequest::Exactly(tier), ..spec }).await
    }

    /// One that waits for a session.
    pub(crate) async fn create_waiting(&self) -> Result<(Attachment, GuestLink), Failure> {
        self.make(None, SandboxSpec::of_image("slim", Limits::default())).await
    }

    /// Gives a waiting one to the session.
    pub(crate) async fn attach(&self, waiting: &Attachment) -> Result<(), Failure> {
        Ok(self.client.attach(waiting.sandbox, self.session).await?)
    }

    /// The listeners of its network.
    pub(crate) async fn listen(&self, attachment: &Attachment) -> Result<(Vec<Door>, Vec<OwnedFd>), Failure> {
        Ok(self.client.listen(attachment.sandbox).await?)
    }

    /// Whose sandboxes these are.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) async fn destroy(&self, attachment: &Attachment) -> Result<(), Failure> {
        Ok(self.client.destroy(attachment.sandbox).await?)
    }

    async fn make(
        &self,
        session: Option<SessionId>,
        spec: SandboxSpec,
    ) -> Result<(Attachment, GuestLink), Failure> {
        let sandbox = SandboxId::from(Ulid::generate());
        let made = self.client.create(sandbox, session, spec).await?;
        let link = self.client.link(&made).await?;
        Ok((made.attachment, link))
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
