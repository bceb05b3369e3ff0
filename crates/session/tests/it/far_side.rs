//! The far edge: a `sandbox-host` and a guest that speak the real wires, and fall silent where a
//! test wants it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use protocol::attachment::Attachment;
use protocol::guest::{self, FromGuest, Hello, Reply, Request, ToGuest, WIRE_VERSION};
use protocol::hands::{ExecEnd, ExecSpec, HandsError};
use protocol::sandbox_host::{HostAnswer, HostRequest, ImageInfo, Made};
use protocol::sandbox_spec::{Limits, Tier};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// Where nothing comes back any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silent {
    /// Sandboxes are never made.
    Create,
    /// The clone never ends.
    Clone,
    /// The agent never speaks.
    Agent,
    /// The agent never speaks, and the workspace is never recorded.
    AgentAndCheckpoint,
}

/// A host and its guests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FarSide {
    dir: PathBuf,
    silent: Silent,
    creates: Arc<AtomicUsize>,
    kills: Arc<AtomicUsize>,
}

impl FarSide {
    pub(crate) fn start(dir: &Path, silent: Silent) -> Self {
        let this = Self { dir: dir.to_owned(), silent, creates: Arc::default(), kills: Arc::default() };
        let hosts = UnixListener::bind(this.host_socket()).unwrap();
        let guests = UnixListener::bind(this.guest_socket()).unwrap();
        for (listener, is_host) in [(hosts, true), (guests, false)] {
            let this = this.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let this = this.clone();
                    tokio::spawn(async move {
                        if is_host { this.host(stream).await } else { this.guest(stream).await }
                    });
                }
            });
        }
        this
    }

    pub(crate) fn host_socket(&self) -> PathBuf {
        self.dir.join("host.sock")
    }

    fn guest_socket(&self) -> PathBuf {
        self.dir.join("guest.sock")
    }

    /// How many sandboxes were asked for.
    pub(crate) fn creates(&self) -> usize {
        self.creates.load(Ordering::SeqCst)
    }

    /// How often everything in the sandbox was killed.
    pub(crate) fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }

    async fn host(&self, mut stream: UnixStream) {
        while let Ok(length) = stream.read_u32_le().await {
            let mut bytes = vec![0; length as usize];
            stream.read_exact(&mut bytes).await.unwrap();
            let answer = match serde_json::from_slice(&bytes).unwrap() {
                HostRequest::Create { sandbox, session, .. } => {
                    self.creates.fetch_add(1, Ordering::SeqCst);
                    if self.silent == Silent::Create {
                        return std::future::pending().await;
                    }
                    let attachment = Attachment { session, sandbox, guest_socket: Some(self.guest_socket()) };
                    let (tier, runtime) = (Tier::Container, "none".to_owned());
                    let (limits, unenforced) = (Limits::default(), Vec::new());
                    HostAnswer::Created(Made { attachment, tier, runtime, limits, unenforced })
                }
                HostRequest::Gateways { .. } => HostAnswer::GatewaysOpen { gateways: Vec::new() },
                HostRequest::Destroy { .. } => HostAnswer::Destroyed,
                HostRequest::List => HostAnswer::Sandboxes { sandboxes: Vec::new() },
                HostRequest::Layers => HostAnswer::Layers { layers: Vec::new() },
                HostRequest::Images => {
                    HostAnswer::Images { images: vec![ImageInfo { name: "slim".into(), id: "1".into() }] }
                }
                request => panic!("nobody asks here for {request:?}"),
            };
            let bytes = serde_json::to_vec(&answer).unwrap();
            // The byte that would carry descriptors.
            let last: &[u8] = if matches!(answer, HostAnswer::GatewaysOpen { .. }) { &[0] } else { &[] };
            let frame = [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &bytes, last].concat();
            if stream.write_all(&frame).await.is_err() {
                return;
            }
        }
    }

    async fn guest(&self, mut stream: UnixStream) {
        let mut header = [0; 4];
        while stream.read_exact(&mut header).await.is_ok() {
            let mut content = vec![0; guest::frame_length(header).unwrap()];
            stream.read_exact(&mut content).await.unwrap();
            for message in self.answer(guest::decode(&content).unwrap()) {
                if stream.write_all(&guest::encode(&message).unwrap()).await.is_err() {
                    return;
                }
            }
        }
    }

    fn answer(&self, message: ToGuest) -> Vec<FromGuest> {
        let done = |id| FromGuest::Reply { id, reply: Ok(Reply::Done) };
        match message {
            ToGuest::Hello(_) => {
                vec![FromGuest::Hello(Hello { version: WIRE_VERSION, capabilities: Vec::new() })]
            }
            ToGuest::Request { id, request: Request::Start(spec) } => {
                [vec![done(id)], self.run(&spec)].concat()
            }
            ToGuest::Request { id, request: Request::KillAll } => {
                self.kills.fetch_add(1, Ordering::SeqCst);
                vec![done(id)]
            }
            // An image without a single file.
            ToGuest::Request { id, request: Request::ReadFile { path, .. } } => {
                vec![FromGuest::Reply { id, reply: Err(HandsError::NotFound { path }) }]
            }
            ToGuest::Request { id, .. } => vec![done(id)],
            _ => Vec::new(),
        }
    }

    /// What a command says: the clone succeeds, the checkpoint finds nothing new.
    fn run(&self, spec: &ExecSpec) -> Vec<FromGuest> {
        let end = ExecEnd { code: Some(0), ..ExecEnd::default() };
        let exited = FromGuest::Exited { exec: spec.exec, end };
        let script = spec.argv.last().map(String::as_str).unwrap_or_default();
        if script == "agent" || (self.silent == Silent::Clone && script.contains("git clone")) {
            return Vec::new();
        }
        if !script.contains("write-tree") {
            return vec![exited];
        }
        if self.silent == Silent::AgentAndCheckpoint {
            return Vec::new();
        }
        let tip = spec.env.iter().find(|(name, _)| name == "TIP").map(|(_, value)| value.clone()).unwrap();
        vec![FromGuest::Output { exec: spec.exec, stderr: false, bytes: tip.into_bytes() }, exited]
    }
}
