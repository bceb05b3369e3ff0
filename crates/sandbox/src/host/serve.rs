//! The life of `sandbox-host`: a thread in its own mount namespace, and the server's connections.
//!
//! ```text
//!   run ─▶ thread ─▶ own mount namespace ─▶ adopt ─▶ listen ─▶ request ─▶ blocking thread ─▶ answer
//!    └── dropped: it stops listening; sandboxes go on
//! ```
//!
//! A sandbox's process 1 is not our child: its runtime ends once it runs, and the host's own process 1
//! inherits and collects it. So the death of `sandbox-host` is nothing to it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use protocol::sandbox_host::{
    HostAnswer, HostErrorCode, HostReport, HostRequest, MAX_MESSAGE, RuntimeReport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::config::{HostConfig, HostError, Refusal};
use super::known_images::KnownImages;
use super::place::Place;
use super::sandboxes::Sandboxes;
use crate::images::Images;
use crate::runtime::{KINDS, Kind};
use crate::{cgroups, mounts, sockets};

/// Requests that are worked on at a time; more wait.
const AT_A_TIME: usize = 16;

/// What sandboxes need and an ordinary user does not have.
const NO_ROOT: &str = "sandbox-host runs as an ordinary user, who cannot give sandboxes ids and mounts of \
                       their own; start it as root";

/// Runs `sandbox-host` until it fails or this future is dropped; running sandboxes go on in both cases.
///
/// As an ordinary user it answers what it can: a probe says why there are no sandboxes.
pub async fn run(config: HostConfig) -> Result<(), HostError> {
    // The mount namespace belongs to a thread and those that it starts, so nothing of this may run on
    // a thread of the caller's.
    let (keep, dropped) = oneshot::channel::<()>();
    let (done, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name("sandbox-host".into());
    thread
        .spawn(move || done.send(on_own_thread(&config, dropped)))
        .map_err(|source| HostError::Io { what: "start a thread".into(), source })?;
    let outcome = outcome.await.unwrap_or(Err(HostError::Panicked));
    drop(keep);
    outcome
}

fn on_own_thread(config: &HostConfig, stop: oneshot::Receiver<()>) -> Result<(), HostError> {
    let host = if nix::unistd::geteuid().is_root() {
        mounts::enter_own_namespace()
            .map_err(|source| HostError::Io { what: "make a mount namespace".into(), source })?;
        let place = Place::open(config)?;
        let images = KnownImages::of(Images::of(&config.data_dir));
        Host::Root(Arc::new(Sandboxes::adopt(place, images, config.server_uid, config.server_gid)))
    } else {
        Host::User(Arc::new(KnownImages::of(Images::of(&config.data_dir))))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(AT_A_TIME)
        .build()
        .map_err(|source| HostError::Io { what: "start its event loop".into(), source })?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = serve(config, host) => outcome,
            _ = stop => Ok(()),
        }
    });
    // What is being made is finished, or undone.
    drop(runtime);
    cgroups::remove_parent();
    outcome
}

/// What answers.
#[derive(Debug, Clone)]
enum Host {
    /// With sandboxes.
    Root(Arc<Sandboxes>),
    /// Without the rights for them.
    User(Arc<KnownImages>),
}

async fn serve(config: &HostConfig, host: Host) -> Result<(), HostError> {
    let failed = |source| HostError::Io { what: format!("listen on {}", config.socket.display()), source };
    let listener = listener(config).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    if let Host::Root(sandboxes) = &host {
        let sandboxes = Arc::clone(sandboxes);
        // So that the first sandbox does not have to wait for it.
        tokio::task::spawn_blocking(move || sandboxes.warm_up());
    }
    tracing::info!(socket = %config.socket.display(), "sandbox-host is ready");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let may_ask =
                    stream.peer_cred().is_ok_and(|peer| [0, config.server_uid].contains(&peer.uid()));
                if may_ask {
                    tokio::spawn(converse(stream, host.clone()));
                } else {
                    tracing::warn!("a connection of another user than the server's was refused");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// What the server connects to, in place of a dead predecessor's: that no living one is there, the lock
/// on the data directory says.
fn listener(config: &HostConfig) -> io::Result<std::os::unix::net::UnixListener> {
    let folder = sockets::folder_of(&config.socket, &config.data_dir)?;
    let name = config.socket.file_name().ok_or_else(|| io::Error::other("a socket needs a name"))?;
    sockets::remove(folder.as_fd(), name)?;
    sockets::listen(folder.as_fd(), name, config.server_uid, config.server_gid)
}

/// One connection: a request, its answer, the next.
async fn converse(mut stream: UnixStream, host: Host) {
    while let Ok(length) = stream.read_u32_le().await {
        let length = length as usize;
        if length > MAX_MESSAGE {
            return;
        }
        let mut request = vec![0; length];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let host = host.clone();
        let answered = tokio::task::spawn_blocking(move || answer(&host, &request)).await;
        let (answer, descriptors) = answered.unwrap_or_else(|_| {
            let message = "sandbox-host broke down over this request; its log says where".into();
            (HostAnswer::Failed { code: HostErrorCode::Internal, message }, Vec::new())
        });
        let Ok(bytes) = serde_json::to_vec(&answer) else { return };
        let Ok(length) = u32::try_from(bytes.len()) else { return };
        let sent = [&length.to_le_bytes(), bytes.as_slice()].concat();
        if stream.write_all(&sent).await.is_err() {
            return;
        }
        if !descriptors.is_empty() {
            let handed = stream
                .async_io(Interest::WRITABLE, || sockets::send_descriptors(stream.as_fd(), &descriptors))
                .await;
            if handed.is_err() {
                return;
            }
        }
    }
}

/// The answer, and the descriptors that go with it.
fn answer(host: &Host, request: &[u8]) -> (HostAnswer, Vec<OwnedFd>) {
    let outcome = match (serde_json::from_slice(request), host) {
        (Err(error), _) => Err(Refusal::BadRequest(format!("this is no request: {error}"))),
        (Ok(request), Host::Root(sandboxes)) => as_root(sandboxes, request),
        (Ok(request), Host::User(images)) => as_user(images, &request).map(|answer| (answer, Vec::new())),
    };
    outcome.unwrap_or_else(|refusal| {
        (HostAnswer::Failed { code: refusal.code(), message: refusal.to_string() }, Vec::new())
    })
}

fn as_root(sandboxes: &Sandboxes, request: HostRequest) -> Result<(HostAnswer, Vec<OwnedFd>), Refusal> {
    let mut handed = Vec::new();
    let answer = match request {
        HostRequest::Probe { bench } => HostAnswer::Probed(sandboxes.report(bench)),
        HostRequest::Create { sandbox, session, spec } => {
            HostAnswer::Created(sandboxes.create(sandbox, session, spec)?)
        }
        HostRequest::Attach { sandbox, session } => {
            sandboxes.attach(sandbox, session)?;
            HostAnswer::Attached
        }
        HostRequest::Connect { sandbox } => {
            handed.push(sandboxes.connect(sandbox)?.into());
            HostAnswer::Connected
        }
        HostRequest::Listen { sandbox } => {
            let (doors, sockets) = sandboxes.listen(sandbox)?.into_iter().unzip();
            handed = sockets;
            HostAnswer::Listening { doors }
        }
        HostRequest::Seal { sandbox, layer } => HostAnswer::Sealed(sandboxes.seal(sandbox, layer)?),
        HostRequest::Destroy { sandbox } => {
            sandboxes.destroy(sandbox)?;
            HostAnswer::Destroyed
        }
        HostRequest::List => HostAnswer::Sandboxes { sandboxes: sandboxes.list() },
        HostRequest::Layers => HostAnswer::Layers { layers: sandboxes.saved_layers() },
        HostRequest::DropLayer { layer } => {
            sandboxes.drop_layer(layer)?;
            HostAnswer::Dropped
        }
        HostRequest::Images => HostAnswer::Images { images: sandboxes.images.infos() },
    };
    Ok((answer, handed))
}

fn as_user(images: &KnownImages, request: &HostRequest) -> Result<HostAnswer, Refusal> {
    Ok(match request {
        HostRequest::Probe { .. } => {
            let report = |kind: &Kind| RuntimeReport {
                name: kind.name.to_owned(),
                tier: kind.tier,
                version: None,
                chosen: false,
                why_not: Some(NO_ROOT.to_owned()),
            };
            HostAnswer::Probed(HostReport {
                runtimes: KINDS.iter().map(report).collect(),
                ..HostReport::default()
            })
        }
        HostRequest::Create { .. }
        | HostRequest::Attach { .. }
        | HostRequest::Connect { .. }
        | HostRequest::Listen { .. }
        | HostRequest::Seal { .. } => {
            return Err(Refusal::NoRuntime(NO_ROOT.to_owned()));
        }
        HostRequest::Destroy { .. } => HostAnswer::Destroyed,
        HostRequest::List => HostAnswer::Sandboxes { sandboxes: Vec::new() },
        HostRequest::Layers => HostAnswer::Layers { layers: Vec::new() },
        HostRequest::DropLayer { .. } => HostAnswer::Dropped,
        HostRequest::Images => HostAnswer::Images { images: images.infos() },
    })
}
