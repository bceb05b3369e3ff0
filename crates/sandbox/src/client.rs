//! The server's side of `sandbox-host`.
//!
//! ```text
//!   call ─▶ connect (again and again while it restarts) ─▶ request ─▶ answer
//! ```
//!
//! Every call has a connection of its own, so calls do not wait for each other, and a restart of
//! `sandbox-host` between two calls is not noticed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use failpoint::{Side, reached};
use protocol::egress::{Door, Gateway};
use protocol::hands::HandsError;
use protocol::ids::{LayerId, SandboxId, SessionId};
use protocol::sandbox_host::{
    HostAnswer, HostErrorCode, HostReport, HostRequest, ImageInfo, MAX_MESSAGE, Made, SavedLayer,
};
use protocol::sandbox_spec::SandboxSpec;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::guest_link::GuestLink;
use crate::sockets;

/// How long a `sandbox-host` that is not there may take to come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// How long any request may take: longer than all that `sandbox-host` waits for in one.
const ANSWER: Duration = Duration::from_secs(120);

/// How long a question may take for which nothing has to be done.
const LOOK: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxHostError {
    /// It could not be reached.
    #[error("sandbox-host does not answer on {}: {source}; see whether the supervisor runs", .path.display())]
    Unreachable {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke after the request was sent: whether it was done is not known.
    #[error("sandbox-host went away while it worked on the request: {0}")]
    Broken(#[source] io::Error),
    /// It said something else than an answer to the question.
    #[error("sandbox-host gave no answer to the question; are both of the same version?")]
    Nonsense,
    /// It said no.
    #[error("{message}")]
    Failed {
        /// The class of the failure.
        code: HostErrorCode,
        /// What happened, why, and what to do next.
        message: String,
    },
}

/// A `sandbox-host`, by its socket; cheap to clone.
#[derive(Debug, Clone)]
pub struct SandboxHost {
    path: PathBuf,
}

impl SandboxHost {
    /// The one that listens here; it need not do so yet.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// What it can do; found by doing. With `bench`, a throw-away container of each tier is run
    /// a few times and timed.
    pub async fn probe(&self, bench: bool) -> Result<HostReport, SandboxHostError> {
        match self.ask_again(&HostRequest::Probe { bench }).await? {
            HostAnswer::Probed(report) => Ok(report),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// Makes and starts a sandbox, for a session or to wait for one. Not tried again when the connection
    /// breaks: then [`Self::list`] says whether it runs, and [`Self::destroy`] ends it either way.
    pub async fn create(
        &self,
        sandbox: SandboxId,
        session: Option<SessionId>,
        spec: SandboxSpec,
    ) -> Result<Made, SandboxHostError> {
        match self.ask(&HostRequest::Create { sandbox, session, spec }).await? {
            HostAnswer::Created(made)
                if made.attachment.sandbox == sandbox && made.attachment.session == session =>
            {
                Ok(made)
            }
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// Gives a waiting sandbox to a session.
    pub async fn attach(&self, sandbox: SandboxId, session: SessionId) -> Result<(), SandboxHostError> {
        match self.ask(&HostRequest::Attach { sandbox, session }).await? {
            HostAnswer::Attached => Ok(()),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// The link to the guest of a sandbox that runs. An earlier one ends by this.
    pub async fn link(&self, made: &Made) -> Result<GuestLink, HandsError> {
        if made.attachment.guest_socket.is_some() {
            return GuestLink::connect(made).await;
        }
        let gone = |error: &dyn std::error::Error| HandsError::Gone(error.to_string());
        let connection =
            self.connect_to_guest(made.attachment.sandbox).await.map_err(|error| gone(&error))?;
        GuestLink::over(made, connection).await
    }

    /// A connection to a guest that made its socket itself.
    async fn connect_to_guest(&self, sandbox: SandboxId) -> Result<UnixStream, SandboxHostError> {
        let (answer, mut handed) = self.ask_for_descriptors(&HostRequest::Connect { sandbox }).await?;
        let (HostAnswer::Connected, Some(connection), true) = (answer, handed.pop(), handed.is_empty())
        else {
            return Err(SandboxHostError::Nonsense);
        };
        let connection = std::os::unix::net::UnixStream::from(connection);
        let connection = connection.set_nonblocking(true).and_then(|()| UnixStream::from_std(connection));
        connection.map_err(SandboxHostError::Broken)
    }

    /// Opens the listeners of a sandbox's network: what each is for, and the sockets in the same order.
    pub async fn listen(&self, sandbox: SandboxId) -> Result<(Vec<Door>, Vec<OwnedFd>), SandboxHostError> {
        match self.ask_for_descriptors(&HostRequest::Listen { sandbox }).await? {
            (HostAnswer::Listening { doors }, handed) if doors.len() == handed.len() => Ok((doors, handed)),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// Opens the listeners of a sandbox that the server itself holds: what each is for, and the socket.
    pub async fn gateways(&self, sandbox: SandboxId) -> Result<Vec<(Gateway, OwnedFd)>, SandboxHostError> {
        match self.ask_for_descriptors(&HostRequest::Gateways { sandbox }).await? {
            (HostAnswer::GatewaysOpen { gateways }, handed) if gateways.len() == handed.len() => {
                Ok(gateways.into_iter().zip(handed).collect())
            }
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// Asks for something that comes with descriptors.
    async fn ask_for_descriptors(
        &self,
        request: &HostRequest,
    ) -> Result<(HostAnswer, Vec<OwnedFd>), SandboxHostError> {
        let stream = self.reach().await?;
        let received = timeout(ANSWER, async {
            let (stream, answer) = exchange(stream, request).await?;
            if let HostAnswer::Failed { code, message } = answer {
                return Ok(Err(SandboxHostError::Failed { code, message }));
            }
            let received =
                stream.async_io(Interest::READABLE, || sockets::receive_descriptors(stream.as_fd()));
            Ok(Ok((answer, received.await?)))
        });
        let received = received.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        received.map_err(SandboxHostError::Broken)?
    }

    /// Ends a sandbox and keeps what it wrote as a layer.
    pub async fn seal(&self, sandbox: SandboxId, layer: LayerId) -> Result<SavedLayer, SandboxHostError> {
        match self.ask(&HostRequest::Seal { sandbox, layer }).await? {
            HostAnswer::Sealed(saved) if saved.layer == layer => Ok(saved),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// The saved layers.
    pub async fn layers(&self) -> Result<Vec<SavedLayer>, SandboxHostError> {
        match self.ask_again(&HostRequest::Layers).await? {
            HostAnswer::Layers { layers } => Ok(layers),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// Removes a saved layer; done also when there was none.
    pub async fn drop_layer(&self, layer: LayerId) -> Result<(), SandboxHostError> {
        match self.ask_again(&HostRequest::DropLayer { layer }).await? {
            HostAnswer::Dropped => Ok(()),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// Takes a sandbox down; done also when there was none.
    pub async fn destroy(&self, sandbox: SandboxId) -> Result<(), SandboxHostError> {
        match self.ask_again(&HostRequest::Destroy { sandbox }).await? {
            HostAnswer::Destroyed => Ok(()),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// The sandboxes that run.
    pub async fn list(&self) -> Result<Vec<Made>, SandboxHostError> {
        match self.ask_again(&HostRequest::List).await? {
            HostAnswer::Sandboxes { sandboxes } => Ok(sandboxes),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// The images that can be used.
    pub async fn images(&self) -> Result<Vec<ImageInfo>, SandboxHostError> {
        match self.ask_again(&HostRequest::Images).await? {
            HostAnswer::Images { images } => Ok(images),
            _ => Err(SandboxHostError::Nonsense),
        }
    }

    /// For requests that may be done twice: once more when `sandbox-host` went away over it. One that is there
    /// and says nothing is not asked again.
    async fn ask_again(&self, request: &HostRequest) -> Result<HostAnswer, SandboxHostError> {
        match self.ask(request).await {
            Err(SandboxHostError::Broken(why)) if why.kind() != io::ErrorKind::TimedOut => {
                self.ask(request).await
            }
            outcome => outcome,
        }
    }

    async fn ask(&self, request: &HostRequest) -> Result<HostAnswer, SandboxHostError> {
        let stream = self.reach().await?;
        let is_look = matches!(request, HostRequest::List | HostRequest::Layers | HostRequest::Images);
        let limit = if is_look { LOOK } else { ANSWER };
        let answered = timeout(limit, exchange(stream, request)).await;
        let answered = answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match answered.map_err(SandboxHostError::Broken)?.1 {
            HostAnswer::Failed { code, message } => Err(SandboxHostError::Failed { code, message }),
            answer => Ok(answer),
        }
    }

    async fn reach(&self) -> Result<UnixStream, SandboxHostError> {
        let until = Instant::now() + COME_BACK;
        loop {
            let connected = sockets::connect(&self.path).and_then(|stream| {
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream)
            });
            match connected {
                Ok(stream) => return Ok(stream),
                // Not the server's socket, however long we wait.
                Err(source)
                    if source.kind() == io::ErrorKind::PermissionDenied || Instant::now() >= until =>
                {
                    return Err(SandboxHostError::Unreachable { path: self.path.clone(), source });
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

/// Asks, and gives the answer with the stream on which it came.
async fn exchange(mut stream: UnixStream, request: &HostRequest) -> io::Result<(UnixStream, HostAnswer)> {
    let bytes = serde_json::to_vec(request)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    reached(Side::Before, "sandbox-host", || request.name().into());
    stream.write_all(&[&length.to_le_bytes(), bytes.as_slice()].concat()).await?;
    let length = stream.read_u32_le().await? as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::other("an answer over the limit"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    reached(Side::After, "sandbox-host", || request.name().into());
    let answer = serde_json::from_slice(&answer)?;
    Ok((stream, answer))
}
