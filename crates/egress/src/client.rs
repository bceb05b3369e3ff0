//! The server's side of `egress`.
//!
//! ```text
//!   call ─▶ connect (again and again while it restarts) ─▶ request ─▶ answer
//!   watch ─▶ notices, until egress is gone
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failpoint::{Side, reached};
use protocol::egress::{
    AuthorityKey, Chain, Door, EgressAnswer, EgressCounts, EgressRequest, Ground, Notice,
};
use protocol::ids::{SandboxId, SessionId};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::frame;

/// How long an `egress` that is not there may take to come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum EgressClientError {
    /// It could not be reached.
    #[error("egress does not answer on {}: {source}; see whether the supervisor runs", .path.display())]
    Unreachable {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("egress went away while it worked on the request: {0}")]
    Broken(#[source] io::Error),
    /// It said something else than an answer to the question.
    #[error("egress gave no answer to the question; are both of the same version?")]
    Nonsense,
    /// It said no.
    #[error("{0}")]
    Failed(String),
}

/// An `egress`, by its socket; cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    path: PathBuf,
}

/// What is handed over for a sandbox.
#[derive(Debug)]
pub struct Listeners {
    /// What each of the sockets is for.
    pub doors: Vec<Door>,
    /// In the same order.
    pub sockets: Vec<OwnedFd>,
    /// The audit segment, opened for appending.
    pub segment: OwnedFd,
    /// The end of what stands in it.
    pub chain: Chain,
}

impl Egress {
    /// The one that listens here; it need not do so yet.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Hands the listeners of a sandbox over, under these rules and with its session's authority.
    ///
    /// # Errors
    ///
    /// When the rules cannot be used, or `egress` is not there.
    pub async fn bind(
        &self,
        sandbox: SandboxId,
        session: SessionId,
        (ground, authority): (Ground, AuthorityKey),
        listeners: Listeners,
    ) -> Result<(), EgressClientError> {
        let Listeners { doors, mut sockets, segment, chain } = listeners;
        sockets.push(segment);
        let request = EgressRequest::Bind { sandbox, session, ground, authority, doors, chain };
        match self.ask(&request, &sockets).await? {
            EgressAnswer::Bound => Ok(()),
            _ => Err(EgressClientError::Nonsense),
        }
    }

    /// Puts other rules into force; how many connections ended by it.
    ///
    /// # Errors
    ///
    /// When the rules cannot be used, the sandbox is not bound, or `egress` is not there.
    pub async fn rules(&self, sandbox: SandboxId, ground: Ground) -> Result<u32, EgressClientError> {
        match self.ask(&EgressRequest::Rules { sandbox, ground }, &[]).await? {
            EgressAnswer::Changed { closed } => Ok(closed),
            _ => Err(EgressClientError::Nonsense),
        }
    }

    /// Lets one connection pass that the rules would have a person asked about, if it comes soon.
    ///
    /// # Errors
    ///
    /// When the sandbox is not bound, or `egress` is not there.
    pub async fn allow_once(
        &self,
        sandbox: SandboxId,
        host: String,
        port: u16,
    ) -> Result<(), EgressClientError> {
        match self.ask(&EgressRequest::AllowOnce { sandbox, host, port }, &[]).await? {
            EgressAnswer::AllowedOnce => Ok(()),
            _ => Err(EgressClientError::Nonsense),
        }
    }

    /// Lets go of a sandbox; done also when it was not bound.
    ///
    /// # Errors
    ///
    /// When `egress` is not there: then nothing is bound.
    pub async fn unbind(&self, sandbox: SandboxId) -> Result<(), EgressClientError> {
        match self.ask(&EgressRequest::Unbind { sandbox }, &[]).await? {
            EgressAnswer::Unbound => Ok(()),
            _ => Err(EgressClientError::Nonsense),
        }
    }

    /// The sandboxes that are bound.
    ///
    /// # Errors
    ///
    /// When `egress` is not there.
    pub async fn list(&self) -> Result<Vec<SandboxId>, EgressClientError> {
        match self.ask(&EgressRequest::List, &[]).await? {
            EgressAnswer::Sandboxes { sandboxes } => Ok(sandboxes),
            _ => Err(EgressClientError::Nonsense),
        }
    }

    /// What happened since it was started.
    ///
    /// # Errors
    ///
    /// When `egress` is not there.
    pub async fn counts(&self) -> Result<EgressCounts, EgressClientError> {
        match self.ask(&EgressRequest::Count, &[]).await? {
            EgressAnswer::Counts(counts) => Ok(counts),
            _ => Err(EgressClientError::Nonsense),
        }
    }

    /// What happens from now on.
    ///
    /// # Errors
    ///
    /// When `egress` is not there.
    pub async fn watch(&self) -> Result<Notices, EgressClientError> {
        let mut stream = self.reach().await?;
        let answered = async {
            frame::send(&mut stream, &EgressRequest::Watch).await?;
            frame::receive::<EgressAnswer>(&mut stream).await
        };
        match timeout(ANSWER, answered).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Some(EgressAnswer::Watching)) => Ok(Notices(stream)),
            Ok(_) => Err(EgressClientError::Nonsense),
            Err(error) => Err(EgressClientError::Broken(error)),
        }
    }

    async fn ask(
        &self,
        request: &EgressRequest,
        descriptors: &[OwnedFd],
    ) -> Result<EgressAnswer, EgressClientError> {
        let mut stream = self.reach().await?;
        let answered = async {
            frame::send(&mut stream, request).await?;
            if !descriptors.is_empty() {
                frame::send_descriptors(&stream, descriptors).await?;
            }
            frame::receive(&mut stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        reached(Side::Before, "egress", || "request".into());
        let answered = timeout(ANSWER, answered).await;
        reached(Side::After, "egress", || "request".into());
        match answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(EgressAnswer::Failed { message }) => Err(EgressClientError::Failed(message)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(EgressClientError::Broken(error)),
        }
    }

    async fn reach(&self) -> Result<UnixStream, EgressClientError> {
        let until = Instant::now() + COME_BACK;
        loop {
            match connect(&self.path) {
                Ok(stream) => return Ok(stream),
                Err(source) if Instant::now() >= until => {
                    return Err(EgressClientError::Unreachable { path: self.path.clone(), source });
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

/// Connects; through an opened folder, since an address holds 107 bytes and a data directory may have more.
fn connect(path: &Path) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let name = path.file_name().ok_or_else(|| io::Error::other("a socket needs a name"))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = std::fs::File::options().read(true).custom_flags(nix::libc::O_PATH).open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let stream = std::os::unix::net::UnixStream::connect(short)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// What happens, as it happens.
#[derive(Debug)]
pub struct Notices(UnixStream);

impl Notices {
    /// The next; nothing when `egress` is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        frame::receive(&mut self.0).await.ok().flatten()
    }
}
