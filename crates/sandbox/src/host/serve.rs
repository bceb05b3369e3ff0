//! The life of `sandbox-host`: a thread in its own mount namespace, and the server's connections.
//!
//! ```text
//!   run ─▶ thread ─▶ own mount namespace ─▶ adopt ─▶ listen ─▶ request ─▶ blocking thread ─▶ answer
//!    └── told to stop: it stops listening, and finishes what it is doing; sandboxes go on
//! ```
//!
//! A sandbox's process 1 is not our child: its runtime ends once it runs, and the host's own process 1
//! inherits and collects it. So the death of `sandbox-host` is nothing to it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
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
use super::rights::Rights;
use super::sandboxes::Sandboxes;
use crate::images::Images;
use crate::runtime::{KINDS, Kind};
use crate::{cgroups, mounts, sockets};

/// Requests that are worked on at a time; more wait.
const AT_A_TIME: usize = 16;

/// Runs `sandbox-host` until it fails or `stop` is ready, when it finishes what it is doing first; running
/// sandboxes go on in both cases.
///
/// Without the rights for sandboxes it answers what it can: a probe says what is missing.
pub async fn run(config: HostConfig, stop: impl Future<Output = ()>) -> Result<(), HostError> {
    // The mount namespace belongs to a thread and those that it starts, so nothing of this may run on
    // a thread of the caller's.
    let (keep, dropped) = oneshot::channel::<()>();
    let (done, mut outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name("sandbox-host".into());
    thread
        .spawn(move || done.send(on_own_thread(&config, dropped)))
        .map_err(|source| HostError::Io { what: "start a thread".into(), source })?;
    let outcome = tokio::select! {
        outcome = &mut outcome => outcome,
        () = stop => {
            drop(keep);
            outcome.await
        }
    };
    outcome.unwrap_or(Err(HostError::Panicked))
}

fn on_own_thread(config: &HostConfig, stop: oneshot::Receiver<()>) -> Result<(), HostError> {
    let config = &seen_from_inside(config);
    let images = KnownImages::of(Images::of(&config.data_dir));
    let host = if let Rights::Missing(why) = &config.rights {
        Host::Powerless(Arc::new((images, why.clone())))
    } else {
        mounts::enter_own_namespace()
            .and_then(|()| mounts::without_second_tree(Path::new("/sys/fs/cgroup")))
            .map_err(|source| HostError::Io { what: "make a mount namespace".into(), source })?;
        let place = Place::open(config)?;
        Host::Able(Arc::new(Sandboxes::adopt(place, images, config.server_uid, config.server_gid)))
    };
    let parent = match &host {
        Host::Able(sandboxes) => sandboxes.place.runtimes.groups.as_ref().map(|group| group.path.clone()),
        Host::Powerless(_) => None,
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
    if let Some(parent) = parent {
        cgroups::remove_parent(&parent);
    }
    outcome
}

/// In a user namespace the user, whose the server is, too, has another number.
fn seen_from_inside(config: &HostConfig) -> HostConfig {
    match &config.rights {
        Rights::User(user) if user.uid == config.server_uid => {
            HostConfig { server_uid: 0, server_gid: 0, ..config.clone() }
        }
        _ => config.clone(),
    }
}

/// What answers.
#[derive(Debug, Clone)]
enum Host {
    /// With sandboxes.
    Able(Arc<Sandboxes>),
    /// Without the rights for them: what there is to see, and what is missing.
    Powerless(Arc<(KnownImages, String)>),
}

async fn serve(config: &HostConfig, host: Host) -> Result<(), HostError> {
    let failed = |source| HostError::Io { what: format!("listen on {}", config.socket.display()), source };
    let listener = listener(config).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    if let Host::Able(sandboxes) = &host {
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
        (Ok(request), Host::Able(sandboxes)) => as_able(sandboxes, request),
        (Ok(request), Host::Powerless(seen)) => {
            powerless(&seen.0, &seen.1, &request).map(|answer| (answer, Vec::new()))
        }
    };
    outcome.unwrap_or_else(|refusal| {
        (HostAnswer::Failed { code: refusal.code(), message: refusal.to_string() }, Vec::new())
    })
}

fn as_able(sandboxes: &Sandboxes, request: HostRequest) -> Result<(HostAnswer, Vec<OwnedFd>), Refusal> {
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
        HostRequest::Gateways { sandbox } => {
            let (gateways, sockets) = sandboxes.gateways(sandbox)?.into_iter().unzip();
            handed = sockets;
            HostAnswer::GatewaysOpen { gateways }
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

fn powerless(images: &KnownImages, why: &str, request: &HostRequest) -> Result<HostAnswer, Refusal> {
    Ok(match request {
        HostRequest::Probe { .. } => {
            let report = |kind: &Kind| RuntimeReport {
                name: kind.name.to_owned(),
                tier: kind.tier,
                version: None,
                chosen: false,
                why_not: Some(why.to_owned()),
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
        | HostRequest::Gateways { .. }
        | HostRequest::Seal { .. } => {
            return Err(Refusal::NoRuntime(why.to_owned()));
        }
        HostRequest::Destroy { .. } => HostAnswer::Destroyed,
        HostRequest::List => HostAnswer::Sandboxes { sandboxes: Vec::new() },
        HostRequest::Layers => HostAnswer::Layers { layers: Vec::new() },
        HostRequest::DropLayer { .. } => HostAnswer::Dropped,
        HostRequest::Images => HostAnswer::Images { images: images.infos() },
    })
}
